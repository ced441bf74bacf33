"""The REPL of one job: its sandbox, whose ``llm_query`` goes to the job's fan-out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from rlm_dist.errors import CallError, RLMError
from rlm_dist.json_schemas import JsonSchema
from rlm_dist.root_worker.children import ChildJobs
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.root_worker.job_tools import JobTools
from rlm_dist.root_worker.typed_calls import Chat, typed_answers
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.sandbox.host_work import HostWork
from rlm_dist.sandbox.session import Query, QueryAhead, TypedQuery
from rlm_dist.schema import Answer, CellResult, Message, Resolved
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
        self._fan_out = fan_out
        self._on_lost = on_lost
        self._checks = HostWork()
        self._turn = 0
        self._traceparent = traceparent
        self._cell: str | None = None
        # What is to run in a REPL that has just been restarted, before anything else.
        self.on_restart: Callable[[], object] = lambda: None
        self.sandbox = make_sandbox(self._query, self._query_ahead, self._typed_query)

    def run(self, code: str, began_ns: int, turn: int, /) -> CellResult:
        """Run a code block of a turn, whose clock starts at ``began_ns`` (Unix)."""
        self._turn = turn
        if self._children is not None:
            self._children.turn = turn
        self._cell = self._traceparent(turn, code)
        result = self.sandbox.run(code, began_ns)
        if result.lost_by is not None:
            self._on_lost(result.lost_by)
            self._fan_out.drop_waiting()  # else the threads of its queries would wait as long as the job runs
            if self._children is not None:
                self._children.drop_waiting()
        limits = self._fan_out.take_limits()
        return replace(result, limits=limits + (self._children.take_limits() if self._children else ()))

    def resolve(self, path: str, /) -> Resolved:
        """Look up a variable or a simple path."""
        return self.sandbox.resolve(path)

    def restart(self) -> None:
        """Start again as the job did, with nothing but the context; call ids are given out from the start."""
        self._fan_out.rewind()
        if self._children is not None:
            self._children.rewind()
        if self._tools is not None:
            self._tools.rewind()
        self.sandbox.restart()
        self.on_restart()

    @contextmanager
    def answered_by(self, fan_out: FanOut) -> Iterator[None]:
        """Let another fan-out answer the queries of what runs in this block."""
        own, self._fan_out = self._fan_out, fan_out
        try:
            yield
        finally:
            self._fan_out = own

    @property
    def tool_docs(self) -> str:
        """The description of the job's tools for the model; empty if it has none."""
        return self._tools.docs if self._tools is not None else ""

    def abort(self, error: RLMError) -> None:
        """Stop the running cell and the calls of tools: they raise ``error``."""
        if self._tools is not None:
            self._tools.abort(error)
        self.sandbox.abort(error)

    def _query(self, prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
        """Query the fan-out; an error that every further call would meet too ends the cell."""
        try:
            return self._fan_out.query(prompts, model, turn=self._turn, traceparent=self._cell)
        except CallError as error:
            self.sandbox.abort(error)
            raise

    def _query_ahead(self, prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer | None]:
        """As ``_query``, of calls of which the cell has asked for the first only."""
        try:
            return self._fan_out.query_ahead(prompts, model, turn=self._turn, traceparent=self._cell)
        except CallError as error:
            self.sandbox.abort(error)
            raise

    def _typed_query(
        self, prompts: Sequence[tuple[Message, ...]], model: str | None, schema: JsonSchema
    ) -> list[Answer]:
        """As ``_query``, for answers that conform to a schema; each try is a query of its own."""
        turn, cell = self._turn, self._cell

        def ask(chats: Sequence[Chat]) -> list[Answer]:
            return self._fan_out.query(chats, model, turn=turn, traceparent=cell, schema=schema)

        try:
            return typed_answers(ask, prompts, schema, self._checks)
        except CallError as error:
            self.sandbox.abort(error)
            raise
