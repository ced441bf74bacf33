"""The ledger of a job or batch, read from the fields of its hash.

The hash holds integers. Totals: ``spent_nanousd``, ``spent_tokens`` (all that was paid),
``committed_nanousd``, ``committed_tokens`` (the same without calls paid twice), ``reserved_nanousd``,
``reserved_tokens`` (set aside for open calls, and kept for the next root call), ``kept_nanousd``,
``kept_tokens`` (the latter alone; not of a batch), ``in_flight`` (calls that somebody has begun; given back
like reservations), ``pending_calls`` (those of jobs that have ended since), ``sub_calls`` (opened),
``estimated_calls``, ``failed_calls``, ``cache_hits``, ``truncated_calls`` (sub-calls whose answer was cut
off), ``duplicate_paid_calls``, ``retries`` (attempts after a call's first), ``rate_limited`` (attempts
refused by a 429). Lines: ``line:<role>:<metric>:<model>`` with the metrics ``calls``, ``input``, ``cached``,
``output``, ``nanousd`` and ``unpriced`` (calls with an unknown price). A line counts only calls that the
endpoint served and charged for, so that its calls, tokens and money belong together.

A charge is ``<call id> <role> <input> <cached> <output> <estimated 0/1> <nanousd or -> <model>``, with the
tokens of one attempt. The list of charges holds every payment, whatever became of its call, so that the
totals can be recomputed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from rlm_dist.schema import NANO, Costs, ModelCosts, Role

Ledger = Mapping[str, str]

_COUNTERS = (
    "estimated_calls",
    "cache_hits",
    "failed_calls",
    "truncated_calls",
    "duplicate_paid_calls",
    "retries",
    "rate_limited",
    "pending_calls",
)


def read_model_costs(ledger: Ledger) -> list[ModelCosts]:
    """One line for each role and model, the root role first."""
    lines: dict[tuple[str, str], Counter[str]] = {}
    for field, value in ledger.items():
        if field.startswith("line:"):
            _, role, metric, model = field.split(":", 3)
            lines.setdefault((role, model), Counter())[metric] = int(value)
    return [
        ModelCosts(
            role=Role(role),
            model=model,
            calls=line["calls"],
            input_tokens=line["input"],
            cached_tokens=line["cached"],
            output_tokens=line["output"],
            cost=None if line["unpriced"] else line["nanousd"] / NANO,
        )
        for (role, model), line in sorted(lines.items())
    ]


def recomputed(charges: Iterable[str]) -> Counter[str]:
    """The fields of a ledger that follow from its charges."""
    sums: Counter[str] = Counter()
    for charge in charges:
        _, role, input_, cached, output, estimated, nanousd, model = charge.split(" ", 7)
        tokens = {"input": int(input_), "cached": int(cached), "output": int(output)}
        price = {"unpriced": 1} if nanousd == "-" else {"nanousd": int(nanousd)}
        for metric, amount in {"calls": 1, **tokens, **price}.items():
            sums[f"line:{role}:{metric}:{model}"] += amount
        sums["spent_tokens"] += tokens["input"] + tokens["output"]
        sums["spent_nanousd"] += price.get("nanousd", 0)
        sums["estimated_calls"] += int(estimated)
    return sums


def read_costs(ledger: Ledger) -> Costs:
    """The totals by role; money is None if any call of the role has an unknown price."""
    parts: dict[str, int] = {}
    money: dict[Role, float | None] = {}
    for role in Role:
        sums = _role_sums(ledger, role)
        money[role] = None if sums["unpriced"] else sums["nanousd"] / NANO
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
        }
    )


def _role_sums(ledger: Ledger, role: Role) -> Counter[str]:
    sums: Counter[str] = Counter()
    for field, value in ledger.items():
        if field.startswith(f"line:{role}:"):
            sums[field.split(":", 3)[2]] += int(value)
    return sums
