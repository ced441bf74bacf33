"""A huge job does not make a small one wait for more of its calls than its window holds.

The test measures no time: the endpoint holds all sub-calls until those of both jobs are queued, and records
the order in which it then answers them.
"""

from collections.abc import Sequence

import pytest
import redis

from rlm_dist.broker.app import SUB_QUEUE
from rlm_dist.schema import Message, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint, rules
from tests.support.bench import MakeBench
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

SLOTS = 8
HUGE, SMALL = 1000, 8


def test_a_small_job_waits_for_a_window_of_the_huge_one_and_no_more(make_bench: MakeBench) -> None:
    answered: list[str] = []

    def answer(messages: Sequence[Message]) -> str:
        answered.append("small" if "small" in messages[-1].content else "huge")
        return rules.answer(messages)

    with SimulatedEndpoint(sub=answer, faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=2)
        bench.start(Role.SUB, concurrency=SLOTS)
        bench.wait_ready()
        huge = bench.client.submit("Who is huge?\n" * HUGE, f"Label the first {HUGE} lines.")
        wait_until(lambda: endpoint.served.in_flight == SLOTS)
        small = bench.client.submit("Who is small?\n" * SMALL, f"Label the first {SMALL} lines.")
        with redis.Redis.from_url(str(bench.settings.redis_url), decode_responses=True) as client:
            wait_until(lambda: any(small.id in message for message in client.lrange(SUB_QUEUE, 0, -1)))
        window = bench.client.store.workers.fair_window().calls
        endpoint.release()
        assert small.result(120).answer_json == {"human being": SMALL}
        last = len(answered) - answered[::-1].index("small")
        # The calls ahead of it in the queue, and as many again because calls of several threads overtake.
        assert answered[:last].count("huge") <= 2 * window < HUGE / 4
        huge.cancel()
