"""The REPL of one job: its sandbox, whose ``llm_query`` goes to the job's fan-out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from rlm_dist.errors import CallError
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.sandbox.session import Query
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
        make_sandbox: Callable[[Query], Sandbox],
        on_lost: Callable[[LostBy], None],
        traceparent: Callable[[int, str], str | None] = lambda turn, code: None,
    ) -> None:
        self._fan_out = fan_out
        self._on_lost = on_lost
        self._turn = 0
        self._traceparent = traceparent
        self._cell: str | None = None
        # What is to run in a REPL that has just been restarted, before anything else.
        self.on_restart: Callable[[], object] = lambda: None
        self.sandbox = make_sandbox(self._query)

    def run(self, code: str, began_ns: int, turn: int, /) -> CellResult:
        """Run a code block of a turn, whose clock starts at ``began_ns`` (Unix)."""
        self._turn = turn
        self._cell = self._traceparent(turn, code)
        result = self.sandbox.run(code, began_ns)
        if result.lost_by is not None:
            self._on_lost(result.lost_by)
        return replace(result, limits=self._fan_out.take_limits())

    def resolve(self, path: str, /) -> Resolved:
        """Look up a variable or a simple path."""
        return self.sandbox.resolve(path)

    def restart(self) -> None:
        """Start again as the job did, with nothing but the context; call ids are given out from the start."""
        self._fan_out.rewind()
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

    def _query(self, prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
        """Query the fan-out; an error that every further call would meet too ends the cell."""
        try:
            return self._fan_out.query(prompts, model, turn=self._turn, traceparent=self._cell)
        except CallError as error:
            self.sandbox.abort(error)
            raise
