"""MCP servers as sources of tools: connected when a job first names one, closed with the worker.

One event loop in one thread serves all connections. The SDK's context managers must be left in the task that
entered them, so each connection is one task. A server that has gone is started again by the next call, once
for that call; a call that was under way fails, as nobody knows whether it was made.
"""

import asyncio
import inspect
import os
import re
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import structlog

from rlm_dist.errors import Unreachable
from rlm_dist.json_schemas import check_schema, problems
from rlm_dist.sandbox.inside.tools import signature_of
from rlm_dist.worker.mcp_config import McpEntry

log = structlog.get_logger()
T = TypeVar("T")

_CLOSE_S = 8.0  # the SDK gives a program two seconds for each step of its end
_MARGIN_S = 1.0  # for a call to report that its time is up
_MAX_DOC_CHARS = 20_000
_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
    "null": "None",
}


class McpToolError(Exception):
    """A server reports that a call failed."""


class McpServerGone(Exception):
    """The connection to a server ended while a call was under way."""


class McpTool:
    """One tool of a server; it is ``<server>_<tool>`` in the REPL."""

    def __init__(self, server: "McpServer", name: str, doc: str, schema: Mapping[str, Any]) -> None:
        self._server = server
        self._schema = schema
        self.name = name
        self.spec: dict[str, Any] = {
            "name": re.sub(r"\W", "_", f"{server.name}_{name}"),
            "doc": doc[:_MAX_DOC_CHARS],
            "parameters": _parameters(schema),
            "returns": None,
        }
        self._signature = signature_of(self.spec)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any], /) -> inspect.BoundArguments:
        """The arguments by name, checked with the tool's JSON Schema."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.spec['name']}() {error}") from None
        found = problems(self._schema, self._named(bound))
        if found:
            raise ValueError(f"{self.spec['name']}() " + "; ".join(found))
        return bound

    def call(self, bound: inspect.BoundArguments, timeout_s: float, /) -> object:
        """Call it on its server."""
        return self._server.call(self.name, self._named(bound), timeout_s)

    @staticmethod
    def _named(bound: inspect.BoundArguments) -> dict[str, Any]:
        return {**dict(zip(bound.signature.parameters, bound.args, strict=False)), **bound.kwargs}


class _ServerTask:
    """An open connection; ``run`` is its task."""

    def __init__(self, entry: McpEntry) -> None:
        self._entry = entry
        self._read: Any = None
        self.client: Any = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.lost = False

    @property
    def gone(self) -> bool:
        """Whether a call failed because of it, or its program has closed its output."""
        ended = self.task is None or self.task.done()
        return (
            self.lost or ended or (self._read is not None and not self._read.statistics().open_send_streams)
        )

    async def run(self) -> None:
        """Hold the connection open until ``over``."""
        from mcp import Client  # noqa: PLC0415  # an optional dependency

        try:
            async with Client(self._transport()) as self.client:
                self.ready.set_result(None)
                await self.over.wait()
        except Exception as error:  # noqa: BLE001  # the edge of a task
            if self.ready.done():
                log.warning("mcp_server_failed", error=type(error).__name__)
            else:
                self.ready.set_exception(error)

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator[Any]:
        import httpx2  # noqa: PLC0415
        from mcp.client.stdio import StdioServerParameters, stdio_client  # noqa: PLC0415
        from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415

        entry = self._entry
        if entry.command is not None:
            env = {name: value.get_secret_value() for name, value in entry.env.items()}
            parameters = StdioServerParameters(
                command=entry.command, args=list(entry.args), env=env, cwd=entry.cwd
            )
            # What it writes on stderr may hold arguments, which are not for the worker's log.
            with open(os.devnull, "w") as nowhere:
                async with stdio_client(parameters, errlog=nowhere) as streams:
                    self._read = streams[0]
                    yield streams
            return
        headers = {name: value.get_secret_value() for name, value in entry.headers.items()}
        timeout = httpx2.Timeout(30.0, read=None)  # each call has its own time limit
        async with (
            httpx2.AsyncClient(headers=headers, timeout=timeout) as http,
            streamable_http_client(entry.url or "", http_client=http) as streams,
        ):
            yield streams


class McpServer:
    """One server; its methods are called from several threads."""

    def __init__(self, name: str, entry: McpEntry, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self.name = name
        self._entry = entry
        self._loop = loop
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._connection: _ServerTask | None = None

    def tools(self) -> list[McpTool]:
        """All its tools that have a name and a schema that can be used.

        Raises:
            Unreachable: the server cannot be started or reached.
        """
        try:
            listed = self._do(self._list(self._connected()), self._timeout_s)
        except Exception as error:  # noqa: BLE001  # the SDK raises what its transports do
            raise self._unreachable(error) from None
        tools = []
        for tool in listed:
            try:
                check_schema(tool.input_schema)
                tools.append(McpTool(self, tool.name, tool.description or "", tool.input_schema))
            except ValueError:
                log.warning("mcp_tool_left_out", server=self.name)
        return tools

    def call(self, tool: str, arguments: dict[str, Any], timeout_s: float) -> object:
        """Call one of its tools, starting the server again first if it has gone.

        Raises:
            McpToolError, McpServerGone: the call failed.
        """
        from mcp import MCPError  # noqa: PLC0415
        from mcp_types import CONNECTION_CLOSED  # noqa: PLC0415

        connection = self._connected()
        try:
            asked = connection.client.call_tool(tool, arguments, read_timeout_seconds=timeout_s)
            return _value(self._do(asked, timeout_s + _MARGIN_S))
        except (McpToolError, TimeoutError):
            raise
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                connection.lost = True
                raise McpServerGone(f"the MCP server {self.name} ended during the call") from None
            connection.lost = self._entry.url is not None  # it may have forgotten our session
            raise McpToolError(error.message) from None
        except Exception as error:  # noqa: BLE001  # as above
            connection.lost = True
            raise McpServerGone(f"the MCP server {self.name} failed: {type(error).__name__}") from None

    def close(self) -> None:
        """End the connection and, if there is one, the program."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                self._do(_end(connection), _CLOSE_S)

    def _connected(self) -> _ServerTask:
        with self._lock:
            old = self._connection
            if old is not None and not old.gone:
                return old
            self._connection = None
            if old is not None:
                with suppress(Exception):
                    self._do(_end(old), _CLOSE_S)
            self._connection = self._do(_open(self._entry, self._timeout_s), self._timeout_s + _MARGIN_S)
            return self._connection

    def _do(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise

    @staticmethod
    async def _list(connection: _ServerTask) -> list[Any]:
        tools: list[Any] = []
        cursor = None
        while True:
            page = await connection.client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if not cursor:
                return tools

    def _unreachable(self, error: Exception) -> Unreachable:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        address = self._entry.command or self._entry.url or ""
        return Unreachable(f"the MCP server {self.name}", address, f"{type(error).__name__}: {error}"[:500])


class McpServers:
    """The servers of one worker process."""

    def __init__(self, entries: Mapping[str, McpEntry], timeout_s: float) -> None:
        self._entries = entries
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._servers: dict[str, McpServer] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def names(self) -> Sequence[str]:
        """The names of all servers, whether they run or not."""
        return list(self._entries)

    def server(self, name: str) -> McpServer | None:
        """The server of this name, not yet connected if nobody has used it."""
        with self._lock:
            if name not in self._entries:
                return None
            if name not in self._servers:
                self._servers[name] = McpServer(name, self._entries[name], self._running(), self._timeout_s)
            return self._servers[name]

    def close(self) -> None:
        """Close all connections; their programs end."""
        for server in self._servers.values():
            server.close()
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_S)
            self._loop.close()
            self._loop = None

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="mcp-servers", daemon=True)
            self._thread.start()
        return self._loop


async def _open(entry: McpEntry, timeout_s: float) -> _ServerTask:
    connection = _ServerTask(entry)
    connection.task = asyncio.create_task(connection.run())
    try:
        await asyncio.wait_for(asyncio.shield(connection.ready), timeout_s)
    except BaseException:
        connection.task.cancel()
        raise
    return connection


async def _end(connection: _ServerTask) -> None:
    connection.over.set()
    if connection.task is not None:
        await asyncio.wait([connection.task])


def _value(result: Any) -> object:
    """What a call returned: its structured content, else its texts."""
    texts = [getattr(block, "text", None) or f"[{block.type}]" for block in result.content]
    if result.is_error:
        raise McpToolError("\n".join(texts))
    content = result.structured_content
    if content is None:
        return "\n".join(texts)
    if isinstance(content, dict) and content.keys() == {"result"}:  # so the SDK wraps what is no object
        return content["result"]
    return content


def _parameters(schema: Mapping[str, Any]) -> list[list[Any]]:
    properties = schema.get("properties", {})
    required = [name for name in properties if name in schema.get("required", [])]
    names = [*required, *(name for name in properties if name not in required)]
    if not all(name.isidentifier() for name in names):
        return [["arguments", int(inspect.Parameter.VAR_KEYWORD), None, None]]
    return [_parameter(name, properties[name], is_required=name in required) for name in names]


def _parameter(name: str, schema: Any, *, is_required: bool) -> list[Any]:
    kind = schema.get("type") if isinstance(schema, dict) else None
    default = repr(schema["default"])[:100] if isinstance(schema, dict) and "default" in schema else "..."
    annotation = _TYPES.get(kind) if isinstance(kind, str) else None
    return [name, int(inspect.Parameter.POSITIONAL_OR_KEYWORD), annotation, None if is_required else default]
