"""What the modules of this package share: the base of its values, a model's role and the unit of money."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

NANO = 1_000_000_000


class Role(StrEnum):
    """Which model a call is for."""

    ROOT = "root"
    SUB = "sub"


class Wire(BaseModel):
    """Base of the values that are stored or sent as JSON: frozen, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _is_none(value: object) -> bool:
    return value is None


def _is_empty(value: object) -> bool:
    return not value


def _is_zero(value: object) -> bool:
    return value == 0


def _is_one(value: object) -> bool:
    return value == 1
