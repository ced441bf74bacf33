"""The sandbox as the engine sees it, with the job's fan-out behind its ``llm_query``."""

from collections.abc import Sequence

from rlm_dist.errors import CallError
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.schema import Answer, CellResult, Message, Resolved


class JobRepl:
    """The sandbox as the engine sees it, with the job's fan-out behind its ``llm_query``."""

    def __init__(self, fanout: FanOut) -> None:
        self._fanout = fanout
        self._sandbox: Sandbox | None = None

    def query(self, prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
        """What the sandbox is given as ``llm_query``; a call that fails every other one too ends the cell."""
        try:
            return self._fanout.query(prompts, model)
        except CallError as error:
            self.sandbox.abort(error)
            raise

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox that ``use`` was given."""
        assert self._sandbox is not None
        return self._sandbox

    def use(self, sandbox: Sandbox) -> None:
        """Run cells here from now on."""
        self._sandbox = sandbox

    def run(self, code: str, began_ns: int, /) -> CellResult:
        """Run a code block, whose clock starts at this time."""
        return self.sandbox.run(code, began_ns)

    def resolve(self, path: str, /) -> Resolved:
        """Look up a variable or a simple path."""
        return self.sandbox.resolve(path)

    def restart(self) -> None:
        """Begin again with nothing but the context; calls are named from the start again."""
        self._fanout.rewind()
        self.sandbox.restart()
