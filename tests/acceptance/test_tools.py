"""Tools on real workers: no call is made twice though a worker dies, and none that is not offered."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rlm_dist.schema import JobState, Message, Role
from rlm_dist.schema.events import MessageAdded, ToolCalled
from rlm_dist.simulated import Fault, SimulatedEndpoint
from rlm_dist.worker.mcp_config import read_servers
from tests.support.bench import MakeBench
from tests.support.environment import PROJECT
from tests.support.host_tools import FOLDER
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

RESULT_S = 150.0
PAGE = (PROJECT / "docs/tools.md").read_text()


def says(code: str) -> Callable[[Sequence[Message]], str]:
    """A root model that always writes this code."""
    return lambda messages: f"```repl\n{code}\n```"


def test_a_resumed_job_makes_no_call_again_that_has_its_result(make_bench: MakeBench, tmp_path: Path) -> None:
    """The worker is killed between two calls: a file has one line for each, whoever made it."""
    code = "a = count('first')\nllm_query('between')\nb = count('second')\nFINAL([a, b])"
    hold = Fault(kind="hold", role=Role.SUB)
    with SimulatedEndpoint(root=says(code), faults=[hold]) as endpoint:
        bench = make_bench(endpoint)
        tools = {"RLM_TOOLS": "tests.support.host_tools:count", FOLDER: str(tmp_path)}
        first = bench.start(Role.ROOT, concurrency=1, **tools)
        bench.start(Role.SUB, concurrency=4)
        bench.wait_ready()
        job = bench.client.submit("text", "Count.", tools=["count"])
        wait_until(lambda: endpoint.served.in_flight == 1)
        first.kill()
        bench.start(Role.ROOT, concurrency=1, **tools)
        endpoint.release()
        assert job.result(RESULT_S).answer_json == [1, 1]
        assert [len((tmp_path / name).read_text().splitlines()) for name in ("first", "second")] == [1, 1]
        assert job.cost().tool_calls == 2
        events = [event for event in job.events() if isinstance(event, ToolCalled)]
        made = [(event.arguments.split('"')[3], event.from_store) for event in events]
        assert made[-2:] == [("first", True), ("second", False)]  # what came before died with the worker


def test_a_tool_that_the_worker_does_not_offer_ends_the_job_before_any_call(make_bench: MakeBench) -> None:
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1, RLM_TOOLS="tests.support.host_tools:lookup")
        bench.wait_ready()
        result = bench.client.submit("text", "Look.", tools=["lookup", "system"]).result(RESULT_S)
        assert result.state is JobState.FAILED
        assert result.error is not None
        assert result.error.type == "ToolNotAllowed"
        assert "'system' is not offered" in result.error.message
        assert "lookup" in result.error.message
        assert result.costs.root_llm_calls == 0


def test_a_worker_refuses_to_start_with_a_tool_that_it_cannot_offer(make_bench: MakeBench) -> None:
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        worker = bench.start(Role.ROOT, concurrency=1, RLM_TOOLS="print=tests.support.host_tools:lookup")
        assert worker.process.wait(60) == 2
        assert "print is a name of the REPL or of Python" in worker.text()


def test_the_programs_of_the_page_run(make_bench: MakeBench, tmp_path: Path) -> None:
    module, program = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    (tmp_path / "shop.py").write_text(module)
    seen: list[str] = []

    def root(messages: Sequence[Message]) -> str:
        seen.append(messages[0].content)
        return "```repl\nFINAL(price('chair') + price(article='table'))\n```"

    with SimulatedEndpoint(root=root) as endpoint:
        bench = make_bench(endpoint)
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        bench.start(Role.ROOT, concurrency=1, RLM_TOOLS="shop:price", PYTHONPATH=path)
        bench.wait_ready()
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **bench.env}, timeout=120,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "169.5 2\n"), done.stderr
        assert "- `price(article: str) -> float`: The price of an article in EUR.\n" in seen[0]


def test_the_file_of_servers_of_the_page_is_read_and_a_job_calls_an_mcp_tool(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    pytest.importorskip("mcp", reason="LOUD: the extra mcp is not installed")
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    (tmp_path / "shown.json").write_text(shown)
    assert list(read_servers(tmp_path / "shown.json")) == ["files", "search"]
    servers = tmp_path / "servers.json"
    servers.write_text(
        f'{{"mcpServers": {{"numbers": {{"command": "{sys.executable}", '
        f'"args": ["-m", "tests.support.mcp_server"], "cwd": "{PROJECT}"}}}}}}'
    )
    with SimulatedEndpoint(root=says("FINAL(numbers_add(2, b=3))")) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1, RLM_MCP_SERVERS=str(servers))
        bench.wait_ready()
        job = bench.client.submit("text", "Add.", tools=["numbers:*"])
        assert job.result(RESULT_S).answer_json == 5
        system = next(event for event in job.events() if isinstance(event, MessageAdded))
        assert "- `numbers_add(a: int, b: int = 1)`: Add two numbers." in system.text
