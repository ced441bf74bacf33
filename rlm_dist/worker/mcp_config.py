"""The file that ``RLM_MCP_SERVERS`` names: MCP servers as other programs list them.

``{"mcpServers": {"<name>": <server>, …}}``, where a server is ``{"command": "…", "args": […], "env": {…},
"cwd": "…"}`` or ``{"url": "…", "headers": {…}}``.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from rlm_dist.errors import SettingsError

_MISSING = "the MCP SDK is not installed: pip install 'rlm-dist[mcp]'"


class McpEntry(BaseModel):
    """One server: a program on this machine, or an address; fields of other programs are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    command: str | None = Field(default=None, min_length=1)
    args: tuple[str, ...] = ()
    env: dict[str, SecretStr] = Field(default={})
    cwd: str | None = None
    url: str | None = Field(default=None, pattern=r"^https?://")
    headers: dict[str, SecretStr] = Field(default={})

    @model_validator(mode="after")
    def _one_way(self) -> "McpEntry":
        if (self.command is None) == (self.url is None):
            raise ValueError("must have either command or url")
        return self


class _ServerFile(BaseModel):
    servers: dict[str, McpEntry] = Field(alias="mcpServers")


def read_servers(path: Path | None) -> Mapping[str, McpEntry]:
    """The servers by name; none if no file is named.

    Raises:
        SettingsError: the file cannot be used, or the extra ``mcp`` is not installed.
    """
    if path is None:
        return {}
    try:
        servers = _ServerFile.model_validate_json(path.read_text("utf-8")).servers
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError((f"RLM_MCP_SERVERS: cannot be read: {type(error).__name__}",)) from None
    except ValidationError as error:  # which shows no value: it may be a key
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        lines = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in problems)
        raise SettingsError(tuple(f"RLM_MCP_SERVERS: {line}" for line in lines)) from None
    bad = [name for name in servers if ":" in name or "," in name or not name.strip()]
    if bad:
        raise SettingsError(tuple(f"RLM_MCP_SERVERS: {name!r} is not a name for a server" for name in bad))
    if servers and importlib.util.find_spec("mcp") is None:
        raise SettingsError((f"RLM_MCP_SERVERS: {_MISSING}",))
    return servers
