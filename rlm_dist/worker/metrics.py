"""What a worker process measures itself: calls, money, jobs and REPLs, as metrics of Prometheus.

``FAMILIES`` has all of them. No label holds an id or a text of a user: roles, kinds, states and tiers are
closed sets, and names of models are bounded by ``ModelNames``. The ledger is the truth about money; these
numbers begin at zero with their worker.
"""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from rlm_dist.errors import FailureKind
from rlm_dist.schema import DEFAULT_TIER, FLEX, NANO, CallRequest, CallResult, JobState, Outcome, Role
from rlm_dist.schema.cells import LostBy
from rlm_dist.schema.events import Event, RootReplied, SubCallsAnswered
from rlm_dist.store import Settlement, Spend
from rlm_dist.worker.model_names import ModelNames

_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_TOKENS = (64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0)
_KINDS = frozenset(FailureKind)
_TIERS = frozenset({DEFAULT_TIER, FLEX, "priority"})


class WorkerFamily(NamedTuple):
    """One metric: its name, the kind of it, its help, its labels and, of a histogram, its buckets."""

    name: str
    kind: Literal["counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


FAMILIES = (
    WorkerFamily(
        "rlm_calls_total",
        "counter",
        "Calls that ended here: ok, cached, returned (to be made again), or a kind of failure.",
        ("role", "model", "outcome"),
    ),
    WorkerFamily(
        "rlm_call_seconds",
        "histogram",
        "Time of a call with its retries and its waiting.",
        ("role", "model"),
        _SECONDS,
    ),
    WorkerFamily(
        "rlm_call_wait_seconds",
        "histogram",
        "The part of it in which the call waited for a slot of its worker and for the endpoint's limits.",
        ("role", "model"),
        _SECONDS,
    ),
    WorkerFamily(
        "rlm_prompt_tokens", "histogram", "Input tokens of an answered call.", ("role", "model"), _TOKENS
    ),
    WorkerFamily(
        "rlm_answer_tokens", "histogram", "Output tokens of an answered call.", ("role", "model"), _TOKENS
    ),
    WorkerFamily(
        "rlm_tokens_total",
        "counter",
        "Tokens that endpoints charged for: input without what a cache of theirs served, cached, output.",
        ("role", "model", "tier", "kind"),
    ),
    WorkerFamily(
        "rlm_cost_usd_total", "counter", "Money paid, as in the ledger, in USD.", ("role", "model", "tier")
    ),
    WorkerFamily(
        "rlm_unpriced_calls_total", "counter", "Charges whose price is not known.", ("role", "model")
    ),
    WorkerFamily(
        "rlm_call_retries_total", "counter", "Attempts after a failed one, by its kind.", ("role", "kind")
    ),
    WorkerFamily("rlm_rate_limited_total", "counter", "Attempts that a 429 refused.", ("role", "model")),
    WorkerFamily(
        "rlm_cache_hits_total",
        "counter",
        "Answers that cost nothing: another job's (cache), or the job's own from before (job).",
        ("role", "source"),
    ),
    WorkerFamily("rlm_jobs_started_total", "counter", "Jobs taken up, again each time another worker does."),
    WorkerFamily(
        "rlm_job_recoveries_total", "counter", "Jobs taken up because the lease of their worker lapsed."
    ),
    WorkerFamily("rlm_jobs_ended_total", "counter", "Jobs that ended here, by state.", ("state",)),
    WorkerFamily("rlm_turns_total", "counter", "Replies of root models, without those of a journal."),
    WorkerFamily(
        "rlm_duplicate_paid_calls_total", "counter", "Calls paid for twice while their job ran here."
    ),
    WorkerFamily(
        "rlm_budget_stops_total",
        "counter",
        "Limits that jobs which ended here had reached, by kind.",
        ("kind",),
    ),
    WorkerFamily("rlm_repl_kills_total", "counter", "REPLs that were lost, by reason.", ("reason",)),
)
_LIMITS = (
    *("max_iterations", "max_seconds", "max_sub_calls", "max_tokens", "max_usd", "max_job_bytes"),
    *("batch_max_tokens", "batch_max_usd", "other"),
)
# A rate can be taken of these from their first count on: they begin at 0, not with that count.
_BEGIN_AT_ZERO: dict[str, Iterable[str]] = {
    "rlm_jobs_ended_total": [state.value for state in JobState if state.final],
    "rlm_budget_stops_total": _LIMITS,
    "rlm_repl_kills_total": get_args(LostBy),
}
BY_NAME = {family.name: family for family in FAMILIES}


class Unmeasured:
    """Takes note of nothing: metrics are off."""

    def call_ended(
        self, request: CallRequest, result: CallResult, settlement: Settlement, model: str
    ) -> None:
        """A call ended, for any reason; ``model`` is the one that was asked."""

    def event(self, event: Event) -> None:
        """Something happened in a job."""

    def repl_lost(self, lost_by: LostBy) -> None:
        """A REPL's process was lost."""

    def job_started(self, *, recovered: bool) -> None:
        """A job was taken up; ``recovered``: since its worker's lease had lapsed."""

    def job_ended(self, outcome: Outcome) -> None:
        """A job ended here."""

    def run_ended(self, duplicate_paid_calls: Callable[[], int]) -> None:
        """A run of a job ended or was parked; the function reads how many calls were paid twice during it."""


class _CallMetrics:
    """The metrics of one role and model: those of a call are found by one look-up."""

    def __init__(
        self, counters: dict[str, Counter], histograms: dict[str, Histogram], role: Role, model: str
    ):
        self._calls = counters["rlm_calls_total"]
        self._tokens = counters["rlm_tokens_total"]
        self._cost = counters["rlm_cost_usd_total"]
        self._labels = (role.value, model)
        self._outcomes: dict[str, Counter] = {}
        self._tiers: dict[str, tuple[Counter, Counter, Counter, Counter]] = {}
        self.seconds, self.waited, self.prompt, self.answer = (
            histograms[name].labels(*self._labels)
            for name in (
                "rlm_call_seconds",
                "rlm_call_wait_seconds",
                "rlm_prompt_tokens",
                "rlm_answer_tokens",
            )
        )
        self.unpriced = counters["rlm_unpriced_calls_total"].labels(*self._labels)
        self.rate_limited = counters["rlm_rate_limited_total"].labels(*self._labels)

    def ended(self, outcome: str) -> None:
        """Count a call by its outcome."""
        counter = self._outcomes.get(outcome)
        if counter is None:
            counter = self._outcomes[outcome] = self._calls.labels(*self._labels, outcome)
        counter.inc()

    def spent(self, spend: Spend) -> None:
        """Count a charge."""
        tier = _tier(spend.usage.tier)
        counters = self._tiers.get(tier)
        if counters is None:
            counters = self._tiers[tier] = self._of_tier(tier)
        fresh, cached, output, usd = counters
        usage = spend.usage
        fresh.inc(max(0, usage.input_tokens - usage.cached_tokens))
        if usage.cached_tokens:
            cached.inc(usage.cached_tokens)
        output.inc(usage.output_tokens)
        if spend.nanousd is None:
            self.unpriced.inc()
        else:
            usd.inc(max(0, spend.nanousd) / NANO)

    def _of_tier(self, tier: str) -> tuple[Counter, Counter, Counter, Counter]:
        fresh, cached, output = (
            self._tokens.labels(*self._labels, tier, kind) for kind in ("input", "cached", "output")
        )
        return fresh, cached, output, self._cost.labels(*self._labels, tier)


class WorkerMetrics(Unmeasured):
    """Counts in ``registry``; its methods may be called from any thread."""

    def __init__(self, registry: CollectorRegistry, names: ModelNames) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a time beside each number: nobody asks
        self._names = names
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        for name, kind, text, labels, buckets in FAMILIES:
            if kind == "counter":
                self._counters[name] = Counter(name, text, labels, registry=registry)
            else:
                self._histograms[name] = Histogram(name, text, labels, registry=registry, buckets=buckets)
        for name, values in _BEGIN_AT_ZERO.items():
            for value in values:
                self._counters[name].labels(value)
        self._calls: dict[tuple[Role, str], _CallMetrics] = {}

    def call_ended(
        self, request: CallRequest, result: CallResult, settlement: Settlement, model: str
    ) -> None:
        """Count a call, its charges and its failed attempts."""
        completion = result.completion
        metrics = self._of(request.role, completion.model if completion else model)
        metrics.ended(_outcome(result, settlement))
        if settlement.cached:
            self._counters["rlm_cache_hits_total"].labels(request.role.value, "cache").inc()
            return
        if result.attempts:
            metrics.seconds.observe(result.seconds)
            metrics.waited.observe(result.waited_s)
        if result.failed_attempts:
            self._failed(request.role, result, settlement, metrics)
        if settlement.spend is not None:
            metrics.prompt.observe(settlement.spend.usage.input_tokens)
            metrics.answer.observe(settlement.spend.usage.output_tokens)
            metrics.spent(settlement.spend)
        for spend in settlement.wasted:
            self._of(request.role, spend.model).spent(spend)

    def event(self, event: Event) -> None:
        """Count turns, and calls that were answered before."""
        if isinstance(event, RootReplied) and not event.replayed:
            self._inc("rlm_turns_total")
        elif isinstance(event, SubCallsAnswered) and event.from_store:
            self._inc("rlm_cache_hits_total", Role.SUB.value, "job", amount=event.from_store)

    def repl_lost(self, lost_by: LostBy) -> None:
        """Count a lost REPL by its reason."""
        self._inc("rlm_repl_kills_total", lost_by)

    def job_started(self, *, recovered: bool) -> None:
        """Count a job that was taken up."""
        self._inc("rlm_jobs_started_total")
        if recovered:
            self._inc("rlm_job_recoveries_total")

    def job_ended(self, outcome: Outcome) -> None:
        """Count a job by its state, and the limits that it reached."""
        self._inc("rlm_jobs_ended_total", outcome.state.value)
        for kind in outcome.limits_reached:
            self._inc("rlm_budget_stops_total", kind if kind in _LIMITS else "other")

    def run_ended(self, duplicate_paid_calls: Callable[[], int]) -> None:
        """Count what was paid twice."""
        if duplicates := duplicate_paid_calls():
            self._inc("rlm_duplicate_paid_calls_total", amount=max(0, duplicates))

    def _of(self, role: Role, model: str) -> _CallMetrics:
        key = role, self._names.label(model)
        metrics = self._calls.get(key)
        if metrics is None:
            metrics = self._calls[key] = _CallMetrics(self._counters, self._histograms, *key)
        return metrics

    def _failed(self, role: Role, result: CallResult, settlement: Settlement, metrics: _CallMetrics) -> None:
        """Count the failed attempts; each but a failed last one was followed by a retry."""
        retries = self._counters["rlm_call_retries_total"]
        for kind in result.failed_attempts[: settlement.retries]:
            retries.labels(role.value, kind).inc()
        if settlement.rate_limited:
            metrics.rate_limited.inc(settlement.rate_limited)

    def _inc(self, name: str, *labels: str, amount: float = 1) -> None:
        counter = self._counters[name]
        (counter.labels(*labels) if labels else counter).inc(amount)


def _outcome(result: CallResult, settlement: Settlement) -> str:
    if settlement.returned is not None:
        return FailureKind.RETURNED.value
    if result.failure is not None:
        return result.failure.kind if result.failure.kind in _KINDS else "other"
    return "cached" if settlement.cached else "ok"


def _tier(tier: str | None) -> str:
    """The tier as a label: an endpoint may name any."""
    name = tier or DEFAULT_TIER
    return name if name in _TIERS else "other"
