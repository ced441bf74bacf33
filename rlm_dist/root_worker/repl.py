"""The REPL of one job: its sandbox, whose ``llm_query`` goes to the job's fan-out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rlm_dist.errors import RLMError
from rlm_dist.root_worker.cell_queries import CellQueries
from rlm_dist.root_worker.children import ChildJobs
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.root_worker.job_tools import JobTools
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.sandbox.session import Query, QueryAhead, TypedQuery
from rlm_dist.schema import CellResult, Resolved
from rlm_dist.schema.cells import LostBy


class JobRepl:
    """Runs cells in the sandbox from ``make_sandbox``; its ``llm_query`` goes to ``fan_out``.

    ``on_lost`` is called with the reason when the REPL's process is lost. ``traceparent`` names the cell of a
    turn that runs some code to those who answer its queries.
    """

    def __init__(
        self,
        fan_out: FanOut,
        make_sandbox: Callable[[Query, QueryAhead, TypedQuery], Sandbox],
        on_lost: Callable[[LostBy], None],
        traceparent: Callable[[int, str], str | None] = lambda turn, code: None,
        children: ChildJobs | None = None,
        tools: JobTools | None = None,
    ) -> None:
        """``children`` and ``tools`` are those of the sandbox."""
        self._children = children
        self._tools = tools
        self._queries = CellQueries(fan_out)
        self._on_lost = on_lost
        self._traceparent = traceparent
        # What is to run in a REPL that has just been restarted, before anything else.
        self.on_restart: Callable[[], object] = _nothing
        queries = self._queries
        self.sandbox = make_sandbox(queries.query, queries.query_ahead, queries.typed_query)

    def run(self, code: str, began_ns: int, turn: int, /) -> CellResult:
        """Run a code block of a turn, whose clock starts at ``began_ns`` (Unix)."""
        self._queries.turn = turn
        if self._children is not None:
            self._children.turn = turn
        self._queries.traceparent = self._traceparent(turn, code)
        result = self.sandbox.run(code, began_ns)
        if result.lost_by is not None:
            self._on_lost(result.lost_by)
            # Else the threads of its queries would wait as long as the job runs.
            self._queries.fan_out.drop_waiting()
            if self._children is not None:
                self._children.drop_waiting()
        limits = self._queries.fan_out.take_limits()
        return replace(result, limits=limits + (self._children.take_limits() if self._children else ()))

    def resolve(self, path: str, /) -> Resolved:
        """Look up a variable or a simple path."""
        return self.sandbox.resolve(path)

    def restart(self) -> None:
        """Start again as the job did, with nothing but the context; call ids are given out from the start."""
        self._queries.fan_out.rewind()
        if self._children is not None:
            self._children.rewind()
        if self._tools is not None:
            self._tools.rewind()
        self.sandbox.restart()
        self.on_restart()

    @contextmanager
    def answered_by(self, fan_out: FanOut) -> Iterator[None]:
        """Let another fan-out answer the queries of what runs in this block."""
        own, self._queries.fan_out = self._queries.fan_out, fan_out
        try:
            yield
        finally:
            self._queries.fan_out = own

    @property
    def tool_docs(self) -> str:
        """The description of the job's tools for the model; empty if it has none."""
        return self._tools.docs if self._tools is not None else ""

    def close(self) -> None:
        """End the REPL, and drop what runs after a restart, which may refer back to this object."""
        self.on_restart = _nothing
        self.sandbox.close()

    def abort(self, error: RLMError) -> None:
        """Stop the running cell and the calls of tools: they raise ``error``."""
        if self._tools is not None:
            self._tools.abort(error)
        self.sandbox.abort(error)


def _nothing() -> None:
    """What runs after a restart unless a session says otherwise."""
