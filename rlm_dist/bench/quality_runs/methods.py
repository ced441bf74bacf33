"""The methods that are compared, as data: what each adds to the options of a job.

A model answers an item under each method through the same limits, ledger and cache. ``settings`` are those
of a job that are no options of it. A method with ``own_model`` asks the root model by sub-calls, so these
count in the role ``sub``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from rlm_dist.bench.quality_runs.programs import (
    BM25_INSTRUCTIONS,
    BM25_LIBRARIES,
    NO_CALLS_INSTRUCTIONS,
    Rooms,
    base_program,
    bm25_program,
    summary_program,
)
from rlm_dist.errors import InputError

AUTO, BASE, RLM = "auto", "base", "rlm"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class QualityMethod:
    """One way to answer an item; ``program`` makes the code that runs first, from its query."""

    name: str
    description: str
    options: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    settings: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    program: Callable[[str, Rooms], str] | None = None
    own_model: bool = False
    libraries: tuple[str, ...] = ()
    shows_text: bool = False


_METHODS = (
    QualityMethod(
        name=BASE,
        description="the whole text in one call of the root model, cut in the middle if it does not fit",
        options={"max_iterations": 1},
        program=base_program,
        own_model=True,
    ),
    QualityMethod(
        name="summary",
        description="the root model keeps notes over the parts of the text, and answers from them",
        options={"max_iterations": 1},
        program=summary_program,
        own_model=True,
    ),
    QualityMethod(
        name="codeact-bm25",
        description="a REPL, the text in the chat as far as it fits, and BM25 search; no sub-calls",
        options={"max_sub_calls": 0, "instructions": BM25_INSTRUCTIONS},
        program=bm25_program,
        libraries=BM25_LIBRARIES,
        shows_text=True,
    ),
    QualityMethod(
        name="rlm-no-calls",
        description="the text as a variable of the REPL; no sub-calls",
        options={"max_sub_calls": 0, "instructions": NO_CALLS_INSTRUCTIONS},
    ),
    QualityMethod(
        name=RLM,
        description="the text as a variable of the REPL, and sub-calls: depth 1",
        options={"max_depth": 1},
    ),
    QualityMethod(
        name="rlm-depth-2",
        description="depth 2: code may start child jobs with a REPL of their own",
        options={"max_depth": 2},
    ),
    QualityMethod(
        name=AUTO,
        description="base up to a length that a pilot finds, rlm above it",
    ),
)
METHODS: Mapping[str, QualityMethod] = MappingProxyType({method.name: method for method in _METHODS})
# What each name of --ablate compares with rlm: the variant, its options and its settings.
ABLATIONS: Mapping[str, tuple[tuple[str, dict[str, Any], dict[str, Any]], ...]] = MappingProxyType(
    {
        "prompts": tuple((f"prompts={name}", {}, {"prompts": name}) for name in ("coder", "frugal", "small")),
        "early-final": (("early-final=refuse", {}, {"early_final": "refuse"}),),
        "ask-at-limit": (("ask-at-limit", {}, {"ask_at_limit": True}),),
        "compaction": tuple((f"compaction={name}", {"compaction": name}, {}) for name in ("summary", "off")),
    }
)


def chosen_methods(
    names: Sequence[str], ablations: Sequence[str] = (), defaults: Mapping[str, Any] = _NOTHING
) -> tuple[QualityMethod, ...]:
    """The methods of these names; with ablations, also ``rlm`` and its variants. Each comes once.

    A variant that changes nothing of ``defaults``, the settings and options of ``rlm``, is left out.

    Raises:
        InputError: naming the names that are unknown.
    """
    problems = [f"--method: {name} is none of {', '.join(METHODS)}" for name in names if name not in METHODS]
    problems += [
        f"--ablate: {name} is none of {', '.join(ABLATIONS)}" for name in ablations if name not in ABLATIONS
    ]
    if problems:
        raise InputError(tuple(problems))
    methods = {name: METHODS[name] for name in names}
    if ablations:
        methods[RLM] = METHODS[RLM]
    for ablation in ablations:
        methods |= {each.name: each for each in _variants(ablation) if _changes(each, defaults)}
    return tuple(methods.values())


def method_named(name: str) -> QualityMethod:
    """The method or the variant of this name, as a run has recorded it.

    Raises:
        InputError: if there is none.
    """
    if name in METHODS:
        return METHODS[name]
    for ablation in ABLATIONS:
        for variant in _variants(ablation):
            if variant.name == name:
                return variant
    raise InputError((f"{name}: no such method",))


def _changes(variant: QualityMethod, defaults: Mapping[str, Any]) -> bool:
    changed = {**variant.options, **variant.settings}
    return any(
        name not in defaults or defaults[name] != value
        for name, value in changed.items()
        if name not in METHODS[RLM].options
    )


def _variants(ablation: str) -> list[QualityMethod]:
    return [
        QualityMethod(
            name=f"{RLM}/{variant}",
            description=f"rlm with {variant}",
            options={**METHODS[RLM].options, **options},
            settings=settings,
        )
        for variant, options, settings in ABLATIONS[ablation]
    ]
