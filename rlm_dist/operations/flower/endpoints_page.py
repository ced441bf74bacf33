"""The data of the page of endpoints, and the form that sets their ceilings."""

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

from rlm_dist.errors import InputError
from rlm_dist.operations.flower.access import PageAccess
from rlm_dist.schema.limits import CeilingName, ScopeCeilings, ScopeMinute, ScopeState

_MINUTES = 60
_WIDTH, _HEIGHT = 240, 48
_MINUTE_MS = 60_000
UNITS: dict[CeilingName, str] = {
    "in_flight": "calls in flight",
    "requests_per_min": "requests a minute",
    "tokens_per_min": "tokens a minute",
}


class Sparkline(NamedTuple):
    """The last hour of a scope: points of two lines (the limit, and the most calls in flight)."""

    limit: str
    in_flight: str
    top: int
    minutes: int
    width: int = _WIDTH
    height: int = _HEIGHT


class ScopeCard(NamedTuple):
    """A scope that was called lately, with its last hour."""

    scope: ScopeState
    line: Sparkline | None
    refused: int
    ended: int


def endpoints(access: PageAccess) -> dict[str, Any]:
    """The scopes that were called in the last hour, and others that have a ceiling which was set."""
    scopes = access.store.limits.scopes(_MINUTES)
    now_ms = access.store.connection.now_ms()
    called = {(scope.url, scope.model) for scope in scopes}
    others: list[ScopeCeilings] = [
        entry for entry in access.store.limits.ceilings() if (entry.url, entry.model) not in called
    ]
    return {"cards": [_card(scope, now_ms) for scope in scopes], "others": others, "units": UNITS}


def ceiling_changes(argument: Callable[[str], str]) -> dict[CeilingName, int | None]:
    """The ceilings of a form; an empty field takes one back.

    Raises:
        InputError: naming each field that is bad.
    """
    fields: dict[CeilingName, str] = {name: argument(name).strip() for name in get_args(CeilingName)}
    bad = [name for name, text in fields.items() if text and not _is_number(text)]
    if bad:
        raise InputError(tuple(f"{UNITS[name]}: must be a whole number from 1, or empty" for name in bad))
    return {name: int(text) if text else None for name, text in fields.items()}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 15 and int(text) >= 1


def _card(scope: ScopeState, now_ms: int) -> ScopeCard:
    return ScopeCard(
        scope=scope,
        line=_sparkline(scope.history, now_ms),
        refused=sum(minute.refused for minute in scope.history),
        ended=sum(minute.ended for minute in scope.history),
    )


def _sparkline(history: tuple[ScopeMinute, ...], now_ms: int) -> Sparkline | None:
    if not history:
        return None
    top = max(1, *(max(minute.limit, minute.in_flight) for minute in history))
    first_ms = min(history[0].start_ms, now_ms - 10 * _MINUTE_MS)
    span_ms = max(_MINUTE_MS, now_ms - first_ms)

    def points(value: Callable[[ScopeMinute], int]) -> str:
        drawn = [
            (
                _WIDTH * (minute.start_ms - first_ms) / span_ms,
                _HEIGHT - 2 - (_HEIGHT - 4) * value(minute) / top,
            )
            for minute in history
        ]
        drawn.append((_WIDTH, drawn[-1][1]))
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)

    return Sparkline(
        limit=points(lambda minute: minute.limit),
        in_flight=points(lambda minute: minute.in_flight),
        top=top,
        minutes=round(span_ms / _MINUTE_MS),
    )
