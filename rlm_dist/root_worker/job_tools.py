"""The tools of one job: found by name, called in threads, and each call's result stored.

A call gets an id like a sub-call's: a hash of job, tool and arguments, and ``#n`` for its n-th repeat. If an
earlier run of the job stored a result under this id, that is returned and the tool is not called. A call that
was under way when its worker died is made again.
"""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from inspect import BoundArguments
from typing import Any

import structlog

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.engine.prompts.tools import ToolDoc, tool_docs
from rlm_dist.errors import BlobError, RLMError, ToolNotAllowed
from rlm_dist.sandbox.inside.frames import MAX_TOOL_BYTES, clean
from rlm_dist.sandbox.inside.tools import signature_of
from rlm_dist.sandbox.messages import read_arguments
from rlm_dist.sandbox.tools import ToolReply
from rlm_dist.schema.events import Emit, ToolCalled
from rlm_dist.store import ToolCallStore
from rlm_dist.worker.call_ids import CallIds
from rlm_dist.worker.mcp_servers import McpServers
from rlm_dist.worker.tool_functions import HostTool, name_problem

log = structlog.get_logger()

MAX_TOOL_CALLS = 1000  # of one job
# Of tools, those included that went on after their time limit: of one job, and in this process.
MAX_THREADS = 128
_MAX_ALL_THREADS = 1024
_MAX_ERROR_CHARS = 2000
_TRACE_CHARS = 4000
_all_threads = threading.Semaphore(_MAX_ALL_THREADS)


def named_tools(
    names: Sequence[str], functions: Mapping[str, HostTool], servers: McpServers
) -> dict[str, HostTool]:
    """The tools that a job names, by their names in the REPL; ``server:tool`` or ``server:*`` is an MCP one.

    Raises:
        ToolNotAllowed: a name that the worker does not offer.
        Unreachable: an MCP server that cannot be reached.
    """
    offered = (*functions, *(f"{server}:*" for server in servers.names))
    tools: dict[str, HostTool] = {}
    for name in dict.fromkeys(names):
        if ":" not in name:
            if name not in functions:
                raise ToolNotAllowed(name, offered)
            found: list[HostTool] = [functions[name]]
        else:
            found = _of_server(name, offered, servers)
        for tool in found:
            repl_name = tool.spec["name"]
            if tools.get(repl_name, tool) is not tool or name_problem(repl_name):
                raise ToolNotAllowed(
                    name, offered, "has a name in the REPL that is taken, so it cannot be offered"
                )
            tools[repl_name] = tool
    return tools


def _of_server(name: str, offered: tuple[str, ...], servers: McpServers) -> list[HostTool]:
    server_name, _, wanted = name.partition(":")
    server = servers.server(server_name)
    if server is None:
        raise ToolNotAllowed(name, offered)
    listed = server.tools()
    found: list[HostTool] = [tool for tool in listed if wanted in ("*", tool.name)]
    if not found:
        raise ToolNotAllowed(name, tuple(f"{server_name}:{tool.name}" for tool in listed))
    return found


class JobTools:
    """Serves the calls of tools for one run of one job; ``call`` is called from several threads."""

    def __init__(
        self,
        tools: Mapping[str, HostTool],
        *,
        job_id: str,
        epoch: int,
        calls: ToolCallStore,
        payloads: Payloads,
        timeout_s: float,
        emit: Emit,
        part: str = "",
    ) -> None:
        self._tools = tools
        self._job_id = job_id
        self._epoch = epoch
        self._calls = calls
        self._payloads = payloads
        self._timeout_s = timeout_s
        self._emit = emit
        self._call_ids = CallIds(job_id, part)
        self._lock = threading.Lock()
        self._threads = threading.Semaphore(MAX_THREADS)
        self._made = 0
        self._aborted: Future[None] = Future()
        self.specs: Sequence[dict[str, Any]] = [tool.spec for tool in tools.values()]

    @property
    def docs(self) -> str:
        """The description of the tools for the model; empty if there are none."""
        return tool_docs([ToolDoc(f"{spec['name']}{signature_of(spec)}", spec["doc"]) for spec in self.specs])

    def call(self, name: str, arguments: str) -> ToolReply:
        """Check the arguments, and return the stored result of this call or make it.

        Raises:
            RLMError: the error passed to ``abort``, or the result cannot be stored.
        """
        tool = self._tools.get(name)
        if tool is None:
            return ToolReply(None, message=f"{name[:100]!r} is not a tool of this job")
        try:
            args, kwargs = read_arguments(arguments)
            bound = tool.bind(args, kwargs)
        except TypeError as error:
            return ToolReply(None, "TypeError", _bounded(str(error)))
        except (ValueError, RecursionError) as error:
            return ToolReply(None, "ValueError", _bounded(str(error)))
        with self._lock:
            self._made += 1
            if self._made > MAX_TOOL_CALLS:
                return ToolReply(None, message=f"a job may call its tools at most {MAX_TOOL_CALLS:,} times")
        call_id = self._call_ids.name_text(json.dumps(["tool", name, args, kwargs], sort_keys=True))
        return self._stored_or_made(call_id, tool, bound, arguments)

    def rewind(self) -> None:
        """Give out call ids from the start again, before the same cells are run again."""
        with self._lock:
            self._made = 0
        self._call_ids.rewind()

    def abort(self, error: RLMError) -> None:
        """Make every waiting and every later call raise ``error``; the tools under way are left to end."""
        with self._lock:
            if not self._aborted.done():
                self._aborted.set_exception(error)

    def _stored_or_made(
        self, call_id: str, tool: HostTool, bound: BoundArguments, arguments: str
    ) -> ToolReply:
        began = time.monotonic()
        packed = self._calls.result(self._job_id, call_id)
        from_store = packed is not None
        if packed is None:
            reply = self._made_in_time(tool, bound)
            packed = self._calls.settle(self._job_id, self._epoch, call_id, self._packed(reply))
        reply = ToolReply(*json.loads(self._payloads.unpack(packed))["reply"])
        self._emit(
            ToolCalled(
                name=tool.spec["name"],
                call_id=call_id,
                seconds=time.monotonic() - began,
                ok=reply.result is not None,
                from_store=from_store,
                arguments=clean(arguments[:_TRACE_CHARS]),
                result=(reply.result if reply.result is not None else reply.message)[:_TRACE_CHARS],
            )
        )
        return reply

    def _packed(self, reply: ToolReply) -> str:
        text = json.dumps({"reply": list(reply)})
        try:
            return self._payloads.pack(self._job_id, text)
        except BlobError:  # then it is kept in Redis
            return text

    def _made_in_time(self, tool: HostTool, bound: BoundArguments) -> ToolReply:
        """Call the tool in a thread, and wait for it until its time is up or the job must stop."""
        if self._aborted.done():
            self._aborted.result()
        if not self._threads.acquire(blocking=False):
            return ToolReply(None, message="too many calls of tools of this job are still under way")
        if not _all_threads.acquire(blocking=False):
            self._threads.release()
            return ToolReply(None, message="too many calls of tools are still under way in this worker")
        made: Future[ToolReply] = Future()

        def work() -> None:
            try:
                made.set_result(_reply(tool, bound, self._timeout_s, self._job_id))
            finally:
                _all_threads.release()
                self._threads.release()

        threading.Thread(target=work, name=f"tool-{tool.spec['name']}", daemon=True).start()
        either: list[Future[Any]] = [made, self._aborted]
        wait(either, self._timeout_s, FIRST_COMPLETED)
        if made.done():
            return made.result()
        if self._aborted.done():
            self._aborted.result()
        log.warning("tool_timed_out", job=self._job_id, tool=tool.spec["name"])
        return ToolReply(None, message=f"no result within {self._timeout_s:g} s")


def _reply(tool: HostTool, bound: BoundArguments, timeout_s: float, job_id: str) -> ToolReply:
    try:
        value = tool.call(bound, timeout_s)
    except BaseException as error:  # noqa: BLE001  # a tool may raise anything; the code that called it gets it
        log.info("tool_failed", job=job_id, tool=tool.spec["name"], error=type(error).__name__)
        return ToolReply(None, message=_described(error))
    try:
        result = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return ToolReply(None, message=f"it returned what is no JSON value: {_bounded(str(error))}")
    if len(result) > MAX_TOOL_BYTES:
        return ToolReply(
            None, message=f"its result has {len(result):,} bytes, and at most {MAX_TOOL_BYTES:,} are allowed"
        )
    return ToolReply(result)


def _described(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # its own __str__ may fail
        text = ""
    return _bounded(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _bounded(text: str) -> str:
    text = clean(text)
    return text if len(text) <= _MAX_ERROR_CHARS else text[: _MAX_ERROR_CHARS - 1] + "…"
