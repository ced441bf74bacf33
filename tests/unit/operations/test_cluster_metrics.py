"""The cluster as metrics: names that others chose are bounded and escaped; Redis away is one metric."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from rlm_dist.errors import Unreachable
from rlm_dist.operations.metrics.cluster import FAMILIES, MOST_ENDPOINTS, ClusterNumbers, metrics_of
from rlm_dist.operations.metrics.scrape import ClusterCollector
from rlm_dist.schema import BatchState, JobState
from rlm_dist.schema.backlog import Backlog, DepthLoad
from rlm_dist.schema.limits import ScopeState
from rlm_dist.store.batches import BatchTotals

BACKLOG = Backlog(
    jobs_waiting=3, jobs_paused=2, jobs_running=1, calls_waiting=30, calls_claimed=20, calls_in_flight=10,
    root_slots=8, sub_slots=256, messages={"rlm.root:high": 1, "rlm.sub:normal": 7},
    depths=(DepthLoad(jobs_running=1, slots=8), DepthLoad(slots=4)),
)  # fmt: skip


def scope(model: str, in_flight: int = 0, **fields: object) -> ScopeState:
    state = ScopeState(
        url="http://endpoint/v1", model=model, limit=40, found=True, in_flight=in_flight, waiting=2,
        ended_last_minute=9, refused_last_minute=4, blocked_s=1.5, away_since_ms=None, next_try_s=0.0,
    )  # fmt: skip
    return state.model_copy(update=fields)


def numbers(*scopes: ScopeState) -> ClusterNumbers:
    totals = BatchTotals(Counter({BatchState.PAUSED: 2}), Counter({JobState.FAILED: 5}), 1, 6)
    return ClusterNumbers(BACKLOG, totals, list(scopes))


class Fixed:
    """A collector of these numbers."""

    def __init__(self, found: ClusterNumbers | None) -> None:
        self._found = found

    def collect(self) -> Iterator[object]:
        """The metrics."""
        return iter(metrics_of(self._found))


def scrape(found: ClusterNumbers | None) -> tuple[str, Callable[..., float | None]]:
    """The text of a scrape, and a function that returns the value of a sample."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Fixed(found))  # type: ignore[arg-type]
    return generate_latest(registry).decode(), lambda name, **labels: registry.get_sample_value(name, labels)


def test_each_family_is_shown() -> None:
    text, value = scrape(numbers(scope("m", in_flight=12, away_since_ms=1)))
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names == {family.name for family in FAMILIES}
    assert value("rlm_redis_up") == 1
    assert value("rlm_jobs", state="waiting") == 3
    assert value("rlm_open_calls", state="claimed") == 20
    assert value("rlm_slots", role="sub", depth="") == 256
    assert [value("rlm_slots", role="root", depth=depth) for depth in "01"] == [8, 4]
    assert [value("rlm_running_jobs", depth=depth) for depth in "01"] == [1, 0]
    assert value("rlm_queue_messages", queue="rlm.root", priority="high") == 1
    assert value("rlm_batches", state="paused") == 2
    assert value("rlm_batches", state="running") == 0
    assert value("rlm_batch_jobs", state="failed") == 5
    assert (value("rlm_batches_paused_by_endpoint"), value("rlm_batches_unread")) == (1, 6)
    endpoint = {"endpoint": "http://endpoint/v1", "model": "m"}
    assert value("rlm_endpoint_in_flight", **endpoint) == 12
    assert value("rlm_endpoint_refused_last_minute", **endpoint) == 4
    assert value("rlm_endpoint_blocked_seconds", **endpoint) == 1.5
    assert value("rlm_endpoint_away", **endpoint) == 1


def test_the_busiest_endpoints_are_shown_and_the_others_counted() -> None:
    scopes = [scope(f"m{n}", in_flight=n) for n in range(MOST_ENDPOINTS + 10)]
    text, value = scrape(numbers(*scopes))
    assert text.count("rlm_endpoint_limit{") == MOST_ENDPOINTS
    assert value("rlm_endpoints_unread") == 10
    assert value("rlm_endpoint_limit", endpoint="http://endpoint/v1", model="m9") is None
    assert value("rlm_endpoint_limit", endpoint="http://endpoint/v1", model="m10") == 40


def test_names_that_jobs_chose_are_escaped_and_never_twice() -> None:
    hostile = f"x\n# TYPE\x1b[31m\u202e\ud800{'y' * 10_000}"
    text, _ = scrape(numbers(scope(hostile), scope(hostile + "z")))
    assert text.count("rlm_endpoint_limit{") == 1
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert max(len(line) for line in text.splitlines()) < 2000


def test_redis_away_is_one_metric() -> None:
    text, value = scrape(None)
    assert value("rlm_redis_up") == 0
    assert text.count("# TYPE") == 1


def shown(collector: ClusterCollector) -> bool:
    return len(list(collector.collect())) > 1


@pytest.mark.parametrize("error", [Unreachable("Redis", "here", "gone"), KeyError("cap")])
def test_a_read_that_fails_leaves_a_scrape_without_numbers(error: Exception) -> None:
    def read() -> ClusterNumbers:
        raise error

    with closing(ClusterCollector(read)) as collector, capture_logs() as lines:
        asyncio.run(collector.refresh())
        assert not shown(collector)
    assert [line["event"] for line in lines] == (
        [] if isinstance(error, Unreachable) else ["metrics_not_read"]
    )


def test_a_read_that_hangs_holds_up_neither_the_loop_nor_later_scrapes() -> None:
    answer, reads = threading.Event(), []

    def read() -> ClusterNumbers:
        reads.append(1)
        answer.wait(60)
        return numbers()

    async def scrapes() -> list[bool]:
        seen = []
        collector = ClusterCollector(read, patience_s=0.05)
        for _ in range(2):
            await collector.refresh()  # would wait for a minute in this thread
            seen.append(shown(collector))
        answer.set()
        while not shown(collector):
            await asyncio.sleep(0.01)
        await collector.refresh()  # what came late is fresh
        collector.close()
        return [*seen, shown(collector)]

    assert asyncio.run(scrapes()) == [False, False, True]
    assert len(reads) == 1


def test_scrapes_that_follow_one_another_share_what_was_read() -> None:
    reads = []

    def read() -> ClusterNumbers:
        reads.append(1)
        return numbers()

    async def scrapes() -> None:
        with closing(ClusterCollector(read)) as collector:
            await asyncio.gather(*(collector.refresh() for _ in range(5)))
            await collector.refresh()
            assert shown(collector)

    asyncio.run(scrapes())
    assert len(reads) == 1
