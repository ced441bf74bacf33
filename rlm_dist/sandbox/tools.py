"""What a REPL needs of its job's tools: their descriptions, and what serves their calls."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class ToolReply(NamedTuple):
    """The result of a tool's call, as JSON; if it is None, the call raises ``error`` with ``message``.

    ``error`` is ``TypeError``, ``ValueError`` or ``ToolError``.
    """

    result: str | None
    error: str = "ToolError"
    message: str = ""

    def frame(self, call_id: int) -> dict[str, object]:
        """The frame that hands it to the REPL."""
        if self.result is not None:
            return {"op": "tool_reply", "id": call_id, "result": self.result}
        failure = {"type": self.error, "message": self.message}
        return {"op": "tool_reply", "id": call_id, "failure": failure}


class HostTools(Protocol):
    """The tools of one job; ``call`` is called from several threads at once.

    ``arguments`` is hostile JSON for ``messages.read_arguments``. An error that ``call`` raises ends the
    cell.
    """

    @property
    def specs(self) -> Sequence[dict[str, Any]]: ...

    def call(self, name: str, arguments: str) -> ToolReply: ...


class NoTools:
    """The tools of a job that has none."""

    specs: Sequence[dict[str, Any]] = ()

    def call(self, name: str, arguments: str) -> ToolReply:
        """Refuse the call."""
        return ToolReply(None, message="this job has no tools")
