"""Base of all values that are stored or sent."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

NANO = 1_000_000_000


class Role(StrEnum):
    """Which model a call is for."""

    ROOT = "root"
    SUB = "sub"


class Wire(BaseModel):
    """Base of what is stored or sent as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _is_none(value: object) -> bool:
    return value is None
