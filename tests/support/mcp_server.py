"""A small MCP server: ``python -m tests.support.mcp_server [PORT]``, over stdio or, with a port, HTTP."""

import os
import sys

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("numbers")


@server.tool()
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def environment() -> list[str]:
    """The names of the server's environment variables."""
    return sorted(os.environ)


@server.tool()
def process() -> int:
    """The id of the server's process."""
    return os.getpid()


@server.tool()
def refuse(why: str) -> str:
    """Fail."""
    raise ToolError(why)


@server.tool()
def die() -> str:
    """End the server in the middle of a call."""
    os._exit(1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
