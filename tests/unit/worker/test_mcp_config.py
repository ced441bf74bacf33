"""The file of MCP servers: what is read, and what is a bad setting."""

import json
from pathlib import Path

import pytest

from rlm_dist.errors import SettingsError
from rlm_dist.worker.mcp_config import read_servers


def write(tmp_path: Path, **servers: object) -> Path:
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}))
    return path


def test_programs_and_addresses_are_read_and_other_fields_are_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("mcp", reason="LOUD: the extra mcp is not installed")
    servers = read_servers(
        write(
            tmp_path, a={"command": "x", "env": {"K": "secret"}, "autoApprove": []}, b={"url": "http://h/mcp"}
        )
    )
    assert (servers["a"].command, servers["b"].url) == ("x", "http://h/mcp")
    assert "secret" not in repr(servers)
    assert read_servers(None) == {}


@pytest.mark.parametrize(
    ("servers", "problem"),
    [
        ({"a": {}}, "either command or url"),
        ({"a": {"command": "x", "url": "http://h"}}, "either command or url"),
        ({"a": {"url": "ftp://h"}}, "pattern"),
        ({"a:b": {"command": "x"}}, "not a name"),
        ({"a": {"command": "x", "env": {"K": ["secret"]}}}, "string"),
    ],
)
def test_a_bad_entry_is_named_without_its_values(
    tmp_path: Path, servers: dict[str, object], problem: str
) -> None:
    with pytest.raises(SettingsError, match=problem) as raised:
        read_servers(write(tmp_path, **servers))
    assert "RLM_MCP_SERVERS" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_file_that_is_not_there_or_no_json_is_a_bad_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_servers(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("secret")
    with pytest.raises(SettingsError) as raised:
        read_servers(tmp_path / "text.json")
    assert "secret" not in str(raised.value)
