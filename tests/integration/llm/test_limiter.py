"""Shared limits over a real server and real HTTP: what one process learns or holds binds the others."""

import asyncio
import json
import math
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm import LLM, RetryPolicy
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.limiter import EndpointLimiter, LimiterRegistry
from rlm_dist.llm.permits import Permit
from rlm_dist.schema import CallRequest, Message, Role
from rlm_dist.schema.limits import Ceilings
from rlm_dist.simulated import Fault, SimulatedEndpoint
from rlm_dist.store import Store, connect
from tests.support.scripts import line, script
from tests.support.waiting import wait_until

FAST = RetryPolicy(base_s=0.001, cap_s=0.005)
LONG_S = 1000.0

# Takes all four permits, reports it, and keeps them until it is killed.
HOLDER = """
import asyncio, sys
from rlm_dist.llm.limiter import LimiterRegistry
from rlm_dist.schema.limits import Ceilings
from rlm_dist.store import Store, connect

async def hold():
    store = Store(connect(sys.argv[1], client_name="holder"), retention_s=1000)
    limits = LimiterRegistry(store.limits.share, ceilings=Ceilings(in_flight=4), lease_ms=500)
    for _ in range(4):
        await limits.limiter("http://e/v1", "m").acquire("j", 1, 1000.0)
    print("held", flush=True)
    await asyncio.Event().wait()

asyncio.run(hold())
"""

# Makes one call for each line that it reads, and prints how the call ended.
ASKER = """
import json, sys
from rlm_dist.llm.limiter import LimiterRegistry
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm import LLM
from rlm_dist.schema import CallRequest, Message, Role
from rlm_dist.store import Store, connect

url, redis_url = sys.argv[1:]
store = Store(connect(redis_url, client_name="asker"), retention_s=1000)
endpoint = Endpoint(url, None, "simulated-sub")
llm = LLM(dict.fromkeys(Role, (endpoint,)), call_timeout_s=20, limits=LimiterRegistry(store.limits.share))
for text in sys.stdin:
    request = CallRequest(role=Role.SUB, model="auto", messages=(Message(role="user", content=text),))
    result = llm.submit(request, "j").result()
    failure = result.failure and result.failure.kind
    print(json.dumps({"failure": failure, "attempts": result.attempts}), flush=True)
"""


@pytest.fixture
def shared(redis_url: str) -> Iterator[Store]:
    """A store on the session's server, as each process has one."""
    with connect(redis_url, client_name="test") as client:
        yield Store(client, retention_s=1000)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test in an event loop, for at most a minute."""

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(bounded())


def request(text: str) -> CallRequest:
    """A sub-call."""
    return CallRequest(role=Role.SUB, model="auto", messages=(Message(role="user", content=text),))


def llm_of(url: str, store: Store, *, call_timeout_s: float = 20, outage_s: float = math.inf) -> LLM:
    """A model client of one endpoint, as a process has one."""
    endpoint = Endpoint(url, None, "simulated-sub")
    limits = LimiterRegistry(store.limits.share, outage_s=outage_s)
    return LLM(dict.fromkeys(Role, (endpoint,)), call_timeout_s=call_timeout_s, retry=FAST, limits=limits)


def limits_of(store: Store, lease_ms: int = 10_000, **ceilings: int) -> LimiterRegistry:
    """The limits of one process."""
    return LimiterRegistry(store.limits.share, ceilings=Ceilings(**ceilings), lease_ms=lease_ms)


def limiter_of(limits: LimiterRegistry) -> EndpointLimiter:
    """A process's limiter for the one scope of these tests."""
    return limits.limiter("http://e/v1", "m")


async def entered(limiter: EndpointLimiter, job_id: str) -> Permit:
    """Wait for a permit for as long as it takes."""
    return await limiter.acquire(job_id, 1, LONG_S)


async def reached(state: Callable[[], bool]) -> None:
    """Wait for a state while the event loop runs."""
    while not state():
        await asyncio.sleep(0.01)


def tasks(limiter: EndpointLimiter, count: int, job_id: str = "j") -> "list[asyncio.Task[Any]]":
    """``count`` calls that want to start."""
    return [asyncio.create_task(entered(limiter, job_id)) for _ in range(count)]


async def refuses(limiter: EndpointLimiter) -> bool:
    """Whether the endpoint is believed to refuse calls for long; a call that may start ends at once."""
    try:
        limiter.release(await limiter.acquire("j", 1, 60.0))
    except CallError:
        return True
    return False


def begun(calls: "list[asyncio.Task[Any]]") -> int:
    """How many of the calls have started."""
    return sum(call.done() for call in calls)


def test_two_processes_share_a_ceiling_and_each_gets_its_half(shared: Store) -> None:
    async def work() -> None:
        limits = [limits_of(shared, in_flight=4) for _ in range(2)]
        limiters = [limiter_of(each) for each in limits]
        calls = [tasks(limiter, 10) for limiter in limiters]
        await reached(lambda: sum(map(begun, calls)) == 4)
        for _ in range(30):  # ended calls make room for the other process until both have the same
            for limiter, mine in zip(limiters, calls, strict=True):
                done = [call for call in mine if call.done()]
                assert sum(map(begun, calls)) <= 4
                if len(done) > 2:
                    mine.remove(done[0])
                    limiter.release(done[0].result())
            await asyncio.sleep(0)
        await reached(lambda: [begun(each) for each in calls] == [2, 2])
        for call in [*calls[0], *calls[1]]:
            call.cancel()
        for each in limits:
            await each.give_back()

    run(work())


def test_the_permits_of_a_killed_process_come_back(shared: Store, redis_url: str) -> None:
    with script(HOLDER, redis_url) as holder:
        assert line(holder) == "held"
        limits = limits_of(shared, in_flight=4)

        with connect(redis_url, client_name="test") as client:
            (key,) = client.scan_iter("rlm:limits:*:holders")
            (held,) = client.hvals(key)
        lease_ends_ms = int(held.split(" ")[1])

        async def work() -> None:
            calls = tasks(limiter_of(limits), 4)
            await reached(
                lambda: shared.connection.now_ms() > lease_ends_ms + 100
            )  # the holder has renewed it
            assert begun(calls) == 0
            holder.kill()
            await reached(lambda: begun(calls) == 4)
            await limits.give_back()

        run(work())


def test_a_retry_after_that_all_calls_get_stops_the_other_process(shared: Store, redis_url: str) -> None:
    """Another process that has made calls obeys what one learns from refusals of all its calls."""
    faults = [Fault(kind="status", status=429, headers={"retry-after": "3600"}, contains="stop")]
    with SimulatedEndpoint(faults=faults) as endpoint, script(ASKER, endpoint.url, redis_url) as other:
        assert other.stdin is not None

        def other_asks() -> Any:
            assert other.stdin is not None
            other.stdin.write("go on\n")
            other.stdin.flush()
            return json.loads(line(other))

        assert other_asks()["failure"] is None
        llm = llm_of(endpoint.url, shared)
        refused = [llm.submit(request(f"stop {n}")) for n in range(100)]
        assert all(future.result().failure is not None for future in refused)
        wait_until(lambda: other_asks()["attempts"] == 0)  # it makes no more calls
        served = endpoint.served.requests
        assert other_asks()["failure"] == FailureKind.RATE
        assert endpoint.served.requests == served
        llm.close()


def test_a_retry_after_that_one_call_gets_stops_that_call_alone(shared: Store) -> None:
    faults = [Fault(kind="status", status=429, headers={"retry-after": "3600"}, contains="stop")]
    with SimulatedEndpoint(faults=faults) as endpoint:
        llm = llm_of(endpoint.url, shared)
        futures = [llm.submit(request("stop" if n == 50 else f"go on {n}")) for n in range(100)]
        failures = [future.result().failure for future in futures]
        assert failures.count(None) == 99
        (state,) = shared.limits.scopes()
        assert (state.found, state.blocked_s) == (False, 0.0)
        llm.close()


def test_while_the_endpoint_is_away_calls_wait_and_then_go_on(shared: Store) -> None:
    """Attempts do not count: the endpoint restarts after more failures than a call may have."""
    with SimulatedEndpoint() as endpoint:
        url = endpoint.url
    llm = llm_of(url, shared)
    futures = [llm.submit(request(f"Who is {n}?"), "j") for n in range(30)]
    wait_until(lambda: bool(shared.limits.away_urls()))
    (state,) = shared.limits.scopes()
    assert state.away_since_ms is not None
    with SimulatedEndpoint(port=int(url.split(":")[2].removesuffix("/v1"))) as endpoint:
        results = [future.result(60) for future in futures]
        assert [result.failure for result in results] == [None] * 30
        assert endpoint.served.by_role["sub"] == 30
    assert shared.limits.away_urls() == set()
    assert llm.on_wire() == {}
    llm.close()


def test_after_too_long_an_outage_a_call_ends_with_its_reason(shared: Store) -> None:
    with SimulatedEndpoint() as endpoint:
        url = endpoint.url
    llm = llm_of(url, shared, outage_s=0.5)
    failure = llm.submit(request("Who is it?"), "j").result(60).failure
    assert failure is not None
    assert failure.kind == FailureKind.OUTAGE
    assert "has been away" in failure.message
    llm.close()


def test_a_slow_call_is_no_outage(shared: Store) -> None:
    """The call reaches its time limit repeatedly while the endpoint answers other questions."""
    with SimulatedEndpoint(faults=[Fault(kind="hang")]) as endpoint:
        llm = llm_of(endpoint.url, shared, call_timeout_s=0.2)
        failure = llm.submit(request("Who is it?")).result(60).failure
        assert failure is not None
        assert failure.kind == FailureKind.TIMEOUT
        assert shared.limits.away_urls() == set()
        llm.close()


def test_a_process_whose_calls_just_go_on_looks_before_it_starts_another(shared: Store) -> None:
    """It has not reported for a while, and does not know what another process has learned meanwhile."""

    async def work() -> None:
        limits = [limits_of(shared) for _ in range(3)]
        still, told, newcomer = (limiter_of(each) for each in limits)
        under_way = await entered(still, "j")
        await reached(lambda: still.quiet)
        told.release(await entered(told, "j"), blocked_s=3600.0)
        while not await refuses(newcomer):  # until all processes that report have learned it
            await asyncio.sleep(0.01)
        assert await refuses(still)
        still.release(under_way)
        for each in limits:
            await each.give_back()

    run(work())


def test_a_burst_above_the_capacity_is_taken_back_and_answered(shared: Store) -> None:
    """Without the cut, excess calls would be refused twenty times each, and fail."""
    with SimulatedEndpoint(capacity=10, faults=[Fault(kind="hold")]) as endpoint:
        llm = llm_of(endpoint.url, shared, call_timeout_s=60)
        futures = [llm.submit(request(str(n))) for n in range(30)]
        # The first refusals may come before the last calls have been made: those wait at once.
        wait_until(lambda: endpoint.served.in_flight == 10 and "capacity" in endpoint.served.faults)
        endpoint.release()
        results = [future.result() for future in futures]
        assert all(result.failure is None for result in results)
        assert endpoint.served.faults["capacity"] <= 40
        llm.close()


def test_a_cancelled_call_that_waits_takes_no_permit(shared: Store) -> None:
    async def work() -> None:
        limits = limits_of(shared, in_flight=1)
        limiter = limiter_of(limits)
        first = await entered(limiter, "j")
        waiting, after = tasks(limiter, 2)
        await reached(lambda: not waiting.done())
        waiting.cancel()
        limiter.release(first)
        await after
        await limits.give_back()

    run(work())


def test_jobs_take_turns(shared: Store) -> None:
    async def work() -> None:
        limits = limits_of(shared, in_flight=1)
        limiter = limiter_of(limits)
        permit = await entered(limiter, "huge")
        order: list[str] = []

        async def call(job_id: str) -> None:
            mine = await entered(limiter, job_id)
            order.append(job_id)
            limiter.release(mine)

        calls = [asyncio.create_task(call(job_id)) for job_id in ["huge"] * 4 + ["small"] * 2]
        await asyncio.sleep(0)
        limiter.release(permit)
        await asyncio.gather(*calls)
        assert order == ["huge", "small", "huge", "small", "huge", "huge"]
        await limits.give_back()

    run(work())


def test_a_draining_process_starts_nothing_more(shared: Store) -> None:
    async def work() -> None:
        limits = limits_of(shared, in_flight=1)
        limiter = limiter_of(limits)
        under_way = await entered(limiter, "j")
        (waiting,) = tasks(limiter, 1)
        await asyncio.sleep(0)
        limits.close(CallError(FailureKind.RETURNED, "the worker stops"))
        with pytest.raises(CallError, match="the worker stops"):
            await waiting
        with pytest.raises(CallError, match="the worker stops"):
            await entered(limiter, "j")
        limiter.release(under_way)
        await limits.give_back()

    run(work())


def test_the_calls_that_wait_of_a_job_that_is_over_are_dropped(shared: Store) -> None:
    async def work() -> None:
        limits = limits_of(shared, in_flight=1)
        limiter = limiter_of(limits)
        permit = await entered(limiter, "a")
        (over,), (other,) = tasks(limiter, 1, "a"), tasks(limiter, 1, "b")
        await asyncio.sleep(0)
        limits.drop("a", CallError(FailureKind.RETURNED, "the job is over"))
        with pytest.raises(CallError, match="the job is over"):
            await over
        limiter.release(permit)
        await other
        await limits.give_back()

    run(work())


def test_a_limit_of_requests_a_minute_paces_them(shared: Store) -> None:
    """At 600 a minute the first ten or so start at once, and the others one by one as the limit refills."""

    async def work() -> None:
        limits = limits_of(shared, requests_per_min=600)
        began = time.monotonic()
        await asyncio.gather(*tasks(limiter_of(limits), 20))
        assert time.monotonic() - began > 0.8  # ten of them waited for a refill, at ten a second
        await limits.give_back()

    run(work())
