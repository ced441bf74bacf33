"""The numbers of the whole cluster as metrics: batches, jobs, the backlog, endpoints.

``FAMILIES`` has all of them. No label holds an id of a job, batch or line. The names of endpoints and models
come from jobs, so at most ``MOST_ENDPOINTS`` pairs are shown, those with the most calls.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.metrics_core import GaugeMetricFamily

from rlm_dist.broker.app import message_lists
from rlm_dist.one_line import one_line
from rlm_dist.schema import BatchState, JobState, Role
from rlm_dist.schema.backlog import Backlog
from rlm_dist.schema.limits import ScopeState
from rlm_dist.store import Store
from rlm_dist.store.batches import BatchTotals

MOST_BATCHES = 1000
MOST_ENDPOINTS = 50
_MOST_CHARS = 200
_ENDPOINT = ("endpoint", "model")


class ClusterFamily(NamedTuple):
    """One gauge: its name, its help and its labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


REDIS_UP = ClusterFamily(
    "rlm_redis_up", "1 if Redis could be read; 0: this scrape has no other metric of the cluster."
)
FAMILIES = (
    REDIS_UP,
    ClusterFamily("rlm_batches", f"Batches by state, of the newest {MOST_BATCHES:,}.", ("state",)),
    ClusterFamily(
        "rlm_batches_paused_by_endpoint", "Paused batches that an endpoint's refusal or absence paused."
    ),
    ClusterFamily("rlm_batches_unread", "Older batches, which the numbers of batches leave out."),
    ClusterFamily("rlm_batch_jobs", "Jobs of these batches by state.", ("state",)),
    ClusterFamily("rlm_jobs", "Jobs that wait and may start, wait in a paused batch, or run.", ("state",)),
    ClusterFamily(
        "rlm_open_calls",
        "Calls of running jobs that no worker has (waiting), or one has (claimed).",
        ("state",),
    ),
    ClusterFamily("rlm_calls_in_flight", "Requests at endpoints."),
    ClusterFamily(
        "rlm_slots",
        "Jobs (root) and calls (sub) that the live workers can run at once; sub workers have no depth.",
        ("role", "depth"),
    ),
    ClusterFamily(
        "rlm_running_jobs", "Jobs that run, by depth; those of 1 and more are child jobs.", ("depth",)
    ),
    ClusterFamily(
        "rlm_queue_messages",
        "Messages in the queues; one of rlm.sub has up to 16 calls.",
        ("queue", "priority"),
    ),
    ClusterFamily("rlm_endpoint_limit", "Calls that may be in flight at an endpoint for a model.", _ENDPOINT),
    ClusterFamily("rlm_endpoint_in_flight", "Calls in flight there.", _ENDPOINT),
    ClusterFamily("rlm_endpoint_waiting", "Calls that wait for the limit.", _ENDPOINT),
    ClusterFamily("rlm_endpoint_ended_last_minute", "Attempts that ended in the last minute.", _ENDPOINT),
    ClusterFamily("rlm_endpoint_refused_last_minute", "Those of them that a 429 refused.", _ENDPOINT),
    ClusterFamily(
        "rlm_endpoint_blocked_seconds", "For how long the endpoint has asked to get no calls.", _ENDPOINT
    ),
    ClusterFamily("rlm_endpoint_away", "1 if nothing answers there.", _ENDPOINT),
    ClusterFamily(
        "rlm_endpoints_unread", f"Pairs of endpoint and model beyond the {MOST_ENDPOINTS} that are shown."
    ),
)
_BY_NAME = {family.name: family for family in FAMILIES}
# The values of one metric, by those of its labels.
_Values = Mapping[tuple[str, ...], float]


class ClusterNumbers(NamedTuple):
    """What was read from Redis at one moment."""

    backlog: Backlog
    batches: BatchTotals
    scopes: list[ScopeState]


def read_numbers(store: Store, prefix: str, max_depth: int) -> ClusterNumbers:
    """Read them; ``prefix`` is ``RLM_BROKER_PREFIX``, ``max_depth`` is ``RLM_MAX_DEPTH``."""
    return ClusterNumbers(
        backlog=store.backlog.read(message_lists(prefix, max_depth), max_depth),
        batches=store.batches.totals(MOST_BATCHES),
        scopes=store.limits.scopes(),
    )


def metrics_of(numbers: ClusterNumbers | None) -> Iterator[GaugeMetricFamily]:
    """The metrics of these numbers; None: Redis could not be read."""
    values: dict[str, _Values] = {REDIS_UP.name: {(): numbers is not None}}
    if numbers is not None:
        values |= _of_batches(numbers.batches) | _of_backlog(numbers.backlog) | _of_endpoints(numbers.scopes)
    for name, samples in values.items():
        family = _BY_NAME[name]
        gauge = GaugeMetricFamily(name, family.help, labels=family.labels)
        for labels, value in samples.items():
            gauge.add_metric(labels, float(value))
        yield gauge


def _of_batches(totals: BatchTotals) -> dict[str, _Values]:
    return {
        "rlm_batches": {(state.value,): totals.batches[state] for state in BatchState},
        "rlm_batches_paused_by_endpoint": {(): totals.paused_by_endpoint},
        "rlm_batches_unread": {(): totals.unread},
        "rlm_batch_jobs": {(state.value,): totals.jobs[state] for state in JobState},
    }


def _of_backlog(backlog: Backlog) -> dict[str, _Values]:
    queues = (name.rpartition(":") for name in backlog.messages)
    return {
        "rlm_jobs": {
            ("waiting",): backlog.jobs_waiting,
            ("paused",): backlog.jobs_paused,
            ("running",): backlog.jobs_running,
        },
        "rlm_open_calls": {("waiting",): backlog.calls_waiting, ("claimed",): backlog.calls_claimed},
        "rlm_calls_in_flight": {(): backlog.calls_in_flight},
        "rlm_slots": {
            **{(Role.ROOT.value, str(depth)): load.slots for depth, load in enumerate(backlog.depths)},
            (Role.SUB.value, ""): backlog.sub_slots,
        },
        "rlm_running_jobs": {(str(depth),): load.jobs_running for depth, load in enumerate(backlog.depths)},
        "rlm_queue_messages": {
            (queue, priority): number
            for (queue, _, priority), number in zip(queues, backlog.messages.values(), strict=True)
        },
    }


def _of_endpoints(scopes: Iterable[ScopeState]) -> dict[str, _Values]:
    busiest = sorted(scopes, key=lambda scope: scope.in_flight + scope.waiting, reverse=True)
    shown = {(_label(scope.url), _label(scope.model)): scope for scope in reversed(busiest[:MOST_ENDPOINTS])}

    def values(field: str) -> _Values:
        return {labels: getattr(scope, field) for labels, scope in shown.items()}

    return {
        "rlm_endpoint_limit": values("limit"),
        "rlm_endpoint_in_flight": values("in_flight"),
        "rlm_endpoint_waiting": values("waiting"),
        "rlm_endpoint_ended_last_minute": values("ended_last_minute"),
        "rlm_endpoint_refused_last_minute": values("refused_last_minute"),
        "rlm_endpoint_blocked_seconds": values("blocked_s"),
        "rlm_endpoint_away": {labels: scope.away_since_ms is not None for labels, scope in shown.items()},
        "rlm_endpoints_unread": {(): len(busiest) - len(shown)},
    }


def _label(name: str) -> str:
    return one_line(name[:_MOST_CHARS])
