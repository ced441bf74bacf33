"""``rlm-dist limits``: what workers may ask of an endpoint and model now, and ceilings for all of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.limit_lines import endpoint_state
from rlm_dist.cli.output import Output
from rlm_dist.cli.session import open_stores
from rlm_dist.errors import InputError
from rlm_dist.schema.limits import CeilingName, Ceilings, LatencyQuantiles, ScopeCeilings, ScopeState
from rlm_dist.settings import load_settings

limits = typer.Typer(
    help="What the workers may ask of each endpoint and model, and ceilings for all of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_TAKE_BACK = "none"
_UNITS: Mapping[CeilingName, str] = {
    "in_flight": "in flight",
    "requests_per_min": "requests a minute",
    "tokens_per_min": "tokens a minute",
}
_MINUTES = 60


@limits.command("show")
def show(as_json: options.Json = False) -> None:
    """Show each endpoint and model that was called in the last hour, or that has a ceiling which was set."""
    with open_stores(load_settings()) as (store, _):
        scopes, ceilings = store.limits.scopes(_MINUTES if as_json else 1), store.limits.ceilings()
    called = {(scope.url, scope.model) for scope in scopes}
    others = [entry for entry in ceilings if (entry.url, entry.model) not in called]
    Output(as_json=as_json).result(
        {"endpoints": scopes, "not_called": others}, lambda: list(_lines(scopes, others))
    )


@limits.command("set")
def set_(
    url: Annotated[str, typer.Argument(help="The address of the endpoint, as in RLM_API_URL.")],
    model: Annotated[str, typer.Argument(help="The model, as limits show names it.")],
    max_in_flight: Annotated[
        str | None, typer.Option(metavar="N", help="Most calls in flight. 'none' takes it back.")
    ] = None,
    max_requests_per_min: Annotated[
        str | None, typer.Option(metavar="N", help="Most requests a minute. 'none' takes it back.")
    ] = None,
    max_tokens_per_min: Annotated[
        str | None, typer.Option(metavar="N", help="Most tokens a minute. 'none' takes it back.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Set ceilings for all workers together, within a second, until they are taken back.

    A ceiling that is set replaces that of the workers' settings; the others stay as they are.
    """
    texts: Mapping[CeilingName, str | None] = {
        "in_flight": max_in_flight,
        "requests_per_min": max_requests_per_min,
        "tokens_per_min": max_tokens_per_min,
    }
    changes = _changes(texts)
    out = Output(as_json=as_json)
    with open_stores(load_settings()) as (store, _):
        entry = store.limits.set_ceilings(url, model, changes)
        called = {(scope.url, scope.model) for scope in store.limits.scopes()}
    if (entry.url, entry.model) not in called:
        out.note("no worker has called this endpoint and model in the last hour")
    out.result(entry, lambda: [f"{entry.url} {entry.model}: {_set_text(entry.ceilings)}"])


def _changes(texts: Mapping[CeilingName, str | None]) -> dict[CeilingName, int | None]:
    """The ceilings to set. InputError if there are none, or if one is not a number."""
    given = {name: text for name, text in texts.items() if text is not None}
    bad = [name for name, text in given.items() if text != _TAKE_BACK and not _is_number(text)]
    if bad:
        raise InputError(tuple(f"{_option(name)}: must be a whole number from 1, or none" for name in bad))
    if not given:
        raise InputError((f"name at least one of {', '.join(map(_option, texts))}",))
    return {name: None if text == _TAKE_BACK else int(text) for name, text in given.items()}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 1 <= int(text[:20]) <= 2**53


def _option(name: CeilingName) -> str:
    return f"--max-{name.replace('_', '-')}"


def _lines(scopes: Sequence[ScopeState], others: Sequence[ScopeCeilings]) -> Iterator[str]:
    if not scopes and not others:
        yield "no endpoint was called in the last hour, and no ceiling is set"
    for scope in scopes:
        yield f"{scope.url} {scope.model}"
        yield f"  now       {endpoint_state(scope)}"
        source = "found" if scope.found else "not reached yet"
        yield f"  learnt    limit {scope.limit} ({source}), circuit {scope.circuit}"
        yield f"  ceilings  {_ceilings_text(scope)}"
        yield f"  latency   {_latency_text(scope.latency)}"
    for entry in others:
        yield f"{entry.url} {entry.model}"
        yield "  now       not called in the last hour"
        yield f"  ceilings  {_set_text(entry.ceilings)}"


def _ceilings_text(scope: ScopeState) -> str:
    words = []
    for name, unit in _UNITS.items():
        ceiling, was_set = getattr(scope.ceilings, name), getattr(scope.set_ceilings, name) is not None
        if ceiling is not None:
            words.append(f"{ceiling:,} {unit} ({'set' if was_set else 'settings'})")
    return ", ".join(words) or "none"


def _set_text(ceilings: Ceilings) -> str:
    words = [
        f"{getattr(ceilings, name):,} {unit} (set)"
        for name, unit in _UNITS.items()
        if getattr(ceilings, name) is not None
    ]
    return ", ".join(words) or "none is set; those of the workers' settings hold"


def _latency_text(latency: LatencyQuantiles | None) -> str:
    if latency is None:
        return "no answer in the last 5 minutes"
    return (
        f"p50 {latency.p50_s:g} s, p90 {latency.p90_s:g} s, p99 {latency.p99_s:g} s "
        f"({latency.answered:,} answers in the last 5 minutes)"
    )
