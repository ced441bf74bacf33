"""Real MCP servers, over stdio and HTTP: listed, called, checked, and started again if they die."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from rlm_dist.errors import ToolNotAllowed, Unreachable
from rlm_dist.root_worker.job_tools import named_tools
from rlm_dist.worker.mcp_config import McpEntry
from rlm_dist.worker.mcp_servers import McpServerGone, McpServers, McpToolError
from rlm_dist.worker.tool_functions import HostTool
from tests.support.environment import PROJECT
from tests.support.scripts import alive
from tests.support.waiting import wait_until

pytest.importorskip("mcp", reason="LOUD: the extra mcp is not installed")

LIMIT_S = 60.0
COMMAND = {
    "command": sys.executable,
    "args": ("-m", "tests.support.mcp_server"),
    "cwd": str(PROJECT),
}


def call(tool: HostTool, *args: object, **kwargs: object) -> object:
    return tool.call(tool.bind(args, kwargs), LIMIT_S)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[McpServers]:
    monkeypatch.setenv("RLM_API_KEY", "secret")
    entry = McpEntry.model_validate({**COMMAND, "env": {"OWN": "x"}})
    with closing(McpServers({"numbers": entry}, LIMIT_S)) as opened:
        yield opened


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a server over HTTP, once it listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.mcp_server", str(port)], cwd=PROJECT, stderr=subprocess.DEVNULL
    ) as process:
        wait_until(lambda: listens(port))
        yield f"http://127.0.0.1:{port}/mcp"
        process.kill()


def test_tools_are_called_with_arguments_by_position_or_name(servers: McpServers) -> None:
    tools = named_tools(["numbers:*"], {}, servers)
    add = tools["numbers_add"]
    assert add.spec["doc"] == "Add two numbers."
    assert add.spec["parameters"] == [["a", 1, "int", None], ["b", 1, "int", "1"]]
    assert (call(add, 2), call(add, 2, 3), call(add, a=2, b=5)) == (3, 5, 7)


def test_wrong_arguments_never_reach_the_server(servers: McpServers) -> None:
    add = named_tools(["numbers:add"], {}, servers)["numbers_add"]
    with pytest.raises(ValueError, match=r"numbers_add\(\) .*'x' is not of type 'integer'"):
        add.bind(["x"], {})
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        add.bind([], {})


def test_an_error_of_the_tool_has_the_servers_message(servers: McpServers) -> None:
    refuse = named_tools(["numbers:refuse"], {}, servers)["numbers_refuse"]
    with pytest.raises(McpToolError, match="not today"):
        call(refuse, "not today")


def test_a_server_sees_no_setting_and_no_key_of_the_worker(servers: McpServers) -> None:
    names = call(named_tools(["numbers:environment"], {}, servers)["numbers_environment"])
    assert isinstance(names, list)
    assert "OWN" in names
    assert not [name for name in names if name.startswith("RLM_") or "KEY" in name]


def test_a_server_that_died_is_started_again_by_the_next_call(servers: McpServers) -> None:
    tools = named_tools(["numbers:*"], {}, servers)
    pid = call(tools["numbers_process"])
    with pytest.raises(McpServerGone, match="ended during the call"):
        call(tools["numbers_die"])
    again = call(tools["numbers_process"])
    assert again != pid
    assert isinstance(again, int)
    os.kill(again, 9)
    wait_until(lambda: not alive(again))
    server = servers.server("numbers")
    assert server is not None
    wait_until(lambda: server._connection is None or server._connection.gone)
    assert call(tools["numbers_add"], 1) == 2


def test_servers_end_with_their_worker(servers: McpServers) -> None:
    pid = call(named_tools(["numbers:process"], {}, servers)["numbers_process"])
    assert isinstance(pid, int)
    servers.close()
    wait_until(lambda: not alive(pid))
    servers.close()


def test_over_http(address: str) -> None:
    with closing(McpServers({"far": McpEntry(url=address)}, LIMIT_S)) as servers:
        tools = named_tools(["far:add", "far:refuse"], {}, servers)
        assert call(tools["far_add"], 2, 3) == 5
        with pytest.raises(McpToolError, match="not today"):
            call(tools["far_refuse"], "not today")
        assert call(tools["far_add"], 2) == 3


def test_a_tool_or_a_server_that_is_not_there_is_named(servers: McpServers) -> None:
    with pytest.raises(ToolNotAllowed, match="numbers:add"):
        named_tools(["numbers:multiply"], {}, servers)
    with pytest.raises(ToolNotAllowed, match=r"it offers: numbers:\*"):
        named_tools(["others:add"], {}, servers)


@pytest.mark.parametrize(
    "entry",
    [
        McpEntry(command="/no/such/program"),
        McpEntry(command=sys.executable, args=("-c", "pass")),
        McpEntry(url="http://127.0.0.1:9/mcp"),
    ],
)
def test_a_server_that_cannot_be_started_or_reached_is_named(entry: McpEntry) -> None:
    with (
        closing(McpServers({"broken": entry}, LIMIT_S)) as servers,
        pytest.raises(Unreachable, match="the MCP server broken"),
    ):
        named_tools(["broken:*"], {}, servers)


def test_what_a_server_returns_is_json(servers: McpServers) -> None:
    names = call(named_tools(["numbers:environment"], {}, servers)["numbers_environment"])
    assert json.loads(json.dumps(names)) == names
