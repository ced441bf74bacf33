"""The ledger of a job or batch, read from the fields of its hash.

The hash holds integers. Totals: ``spent_nanousd``, ``spent_tokens`` (all that was paid),
``committed_nanousd``, ``committed_tokens`` (the same without calls paid twice), ``reserved_nanousd``,
``reserved_tokens`` (set aside for open calls, and kept for the next root call), ``kept_nanousd``,
``kept_tokens`` (the latter alone; not of a batch), ``in_flight`` (calls that somebody has begun; given back
like reservations), ``pending_calls`` (those of jobs that have ended since), ``sub_calls`` (opened),
``estimated_calls``, ``failed_calls``, ``cache_hits``, ``truncated_calls`` (sub-calls whose answer was cut
off), ``duplicate_paid_calls``, ``retries`` (attempts after a call's first), ``rate_limited`` (attempts
refused by a 429), ``tool_calls`` (calls of tools).
Lines: ``line:<role>:<metric>[@<tier>]:<model>`` with the metrics ``calls``, ``input``,
``cached``, ``output``, ``nanousd``, ``unpriced`` (calls with an unknown price) and, if not 0, ``written`` (to
the cache), ``reasoning``, ``audio`` and ``billed`` (calls whose money is the endpoint's own bill). The
default tier is left out. A line counts only calls that the endpoint served and charged for, so that its
calls, tokens and money belong together.

A charge is ``<call id> <label> <input> <cached> <output> <estimated 0/1> <nanousd or -> <model>``, with the
tokens of one attempt. Its label is ``<role>[@<tier>][,<metric>=<n>…]``. The list of charges holds every
payment, whatever became of its call, so that the totals can be recomputed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from rlm_dist.schema import DEFAULT_TIER, NANO, Costs, ModelCosts, Role, Usage

Ledger = Mapping[str, str]

_COUNTERS = (
    "estimated_calls",
    "cache_hits",
    "failed_calls",
    "truncated_calls",
    "duplicate_paid_calls",
    "retries",
    "rate_limited",
    "tool_calls",
    "pending_calls",
)


def charge_label(role: Role, usage: Usage, *, billed: bool) -> str:
    """The role of a charge with its tier, unless that is the default one, and its rarer metrics."""
    tier = "" if usage.tier in (None, DEFAULT_TIER) else f"@{usage.tier}"
    metrics = {
        "written": usage.cache_write_tokens,
        "reasoning": usage.reasoning_tokens,
        "audio": usage.input_audio_tokens + usage.output_audio_tokens,
        "billed": int(billed),
    }
    return role + tier + "".join(f",{metric}={n}" for metric, n in metrics.items() if n)


def read_model_costs(ledger: Ledger) -> list[ModelCosts]:
    """One line for each role, model and tier, the root role first."""
    lines: defaultdict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for role, metric, tier, model, n in _lines(ledger):
        lines[role, model, tier][metric] = n
    return [
        ModelCosts(
            role=Role(role),
            model=model,
            tier=tier,
            calls=line["calls"],
            input_tokens=line["input"],
            cached_tokens=line["cached"],
            cache_write_tokens=line["written"],
            output_tokens=line["output"],
            reasoning_tokens=line["reasoning"],
            audio_tokens=line["audio"],
            billed_calls=line["billed"],
            cost=_usd(line),
        )
        for (role, model, tier), line in sorted(lines.items())
    ]


def recomputed(charges: Iterable[str]) -> Counter[str]:
    """The fields of a ledger that follow from its charges."""
    sums: Counter[str] = Counter()
    for charge in charges:
        _, label, input_, cached, output, estimated, nanousd, model = charge.split(" ", 7)
        head, *parts = label.split(",")
        role, at, tier = head.partition("@")
        tokens = {"input": int(input_), "cached": int(cached), "output": int(output)}
        price = {"unpriced": 1} if nanousd == "-" else {"nanousd": int(nanousd)}
        rarer = {metric: int(n) for metric, _, n in (part.partition("=") for part in parts)}
        for metric, amount in {"calls": 1, **tokens, **price, **rarer}.items():
            sums[f"line:{role}:{metric}{at}{tier}:{model}"] += amount
        sums["spent_tokens"] += tokens["input"] + tokens["output"]
        sums["spent_nanousd"] += price.get("nanousd", 0)
        sums["estimated_calls"] += int(estimated)
    return sums


def read_costs(ledger: Ledger) -> Costs:
    """The totals by role; money is None if any call of the role has an unknown price."""
    parts: dict[str, int] = {}
    money: dict[Role, float | None] = {}
    by_role: defaultdict[str, Counter[str]] = defaultdict(Counter)
    by_tier: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, metric, tier, _, n in _lines(ledger):
        by_role[name][metric] += n
        by_tier[tier][metric] += n
    for role in Role:
        sums = by_role[role]
        money[role] = _usd(sums)
        parts |= {
            f"{role}_llm_tokens": sums["input"] + sums["output"],
            f"{role}_llm_calls": sums["calls"],
            f"{role}_input_tokens": sums["input"],
            f"{role}_cached_tokens": sums["cached"],
            f"{role}_output_tokens": sums["output"],
        }
    for field in _COUNTERS:
        parts[field] = int(ledger.get(field, 0))
    all_priced = None not in money.values()
    return Costs.model_validate(
        {
            **parts,
            "total_cost": int(ledger.get("spent_nanousd", 0)) / NANO if all_priced else None,
            "root_llm_cost": money[Role.ROOT],
            "sub_llm_cost": money[Role.SUB],
            "tiers": {tier: _usd(sums) for tier, sums in sorted(by_tier.items())},
        }
    )


def _lines(ledger: Ledger) -> Iterator[tuple[str, str, str, str, int]]:
    """Role, metric, tier, model and value of each line's fields; a model's name may have any characters."""
    for field, value in ledger.items():
        if field.startswith("line:"):
            _, role, metric, model = field.split(":", 3)
            metric, _, tier = metric.partition("@")
            yield role, metric, tier or DEFAULT_TIER, model, int(value)


def _usd(sums: Counter[str]) -> float | None:
    return None if sums["unpriced"] else sums["nanousd"] / NANO
