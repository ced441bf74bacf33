"""Faults of the simulated endpoint: which requests are answered wrongly, and how.

The first rule of a list that matches a request decides. A rule matches by role, by the request's ordinal
among those of its role (from 0), by a piece of the prompt's text, and by a probability. The random draw
depends only on the seed, the prompt, and how often the same prompt has come before, so a run can be repeated.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, JsonValue

from rlm_dist.schema import Role, Wire

FaultKind = Literal[
    "status",
    "html",
    "half_body",
    "empty_choices",
    "null_content",
    "choice",
    "no_usage",
    "disconnect",
    "drip",
    "hang",
    "hold",
    "limits",
]


class Fault(Wire):
    """One rule; ``status``, ``headers`` and ``error`` (the JSON error object) are for kind ``status``.

    ``choice`` answers with the fields ``choice`` in place of those of the normal choice, and its usage.
    ``limits`` answers normally, with ``headers`` that report what remains of rate limits. ``drip`` sends
    blanks for ever, and ``hang`` sends nothing. ``hold`` answers normally, but only after the endpoint's
    ``release()``.
    """

    kind: FaultKind
    status: int = 500
    headers: dict[str, str] = Field(default={})
    error: dict[str, JsonValue] | None = None
    choice: dict[str, JsonValue] = Field(default={})
    role: Role | None = None
    on: tuple[int, ...] | None = None
    contains: str = ""
    probability: float = Field(default=1.0, ge=0, le=1)
    seed: int = 0

    def matches(self, role: Role, ordinal: int, prompt: str, repeat: int) -> bool:
        """Whether this rule matches the request, of which ``repeat`` equal ones came before."""
        return (
            self.role in (None, role)
            and (self.on is None or ordinal in self.on)
            and self.contains in prompt
            and (self.probability == 1.0 or self._draw(prompt, repeat) < self.probability)
        )

    def _draw(self, prompt: str, repeat: int) -> float:
        digest = hashlib.sha256(f"{self.seed}:{repeat}:{prompt}".encode(errors="replace")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


def pick(faults: Sequence[Fault], role: Role, ordinal: int, prompt: str, repeat: int) -> Fault | None:
    """The first of ``faults`` that matches the request."""
    return next((fault for fault in faults if fault.matches(role, ordinal, prompt, repeat)), None)
