"""The calls of an earlier query of a session are answered from the store, and make none."""

from pathlib import Path

import redis

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.root_worker.session_rebuild import EarlierCalls
from rlm_dist.schema import JobState, Message, Outcome, Role
from rlm_dist.store import Store, keys
from rlm_dist.worker.accounts import Accounts
from tests.integration.root_worker.test_fan_out import Bench
from tests.support.store_values import finish_job


def test_stored_answers_come_back_and_others_are_not_made(
    store: Store, redis_client: redis.Redis, tmp_path: Path
) -> None:
    bench = Bench(store, redis_client, tmp_path)
    first = bench.ask(200)
    again = bench.ask(3)  # the same prompts are other calls
    bench.fan_out.close()
    assert finish_job(store, "j", 1, Outcome(state=JobState.SUCCEEDED, answer="x"))
    parts = ("", "ledger", "calls", "requests", "results", "trace", "replies", "charges")
    before = [redis_client.dump(keys.job("j", part)) for part in parts]
    earlier = EarlierCalls(
        store.jobs.get("j").spec, store=store,
        payloads=Payloads(store=store, blobs=open_blobs("redis", home=tmp_path, client=redis_client)),
        accounts=Accounts(
            prices=Prices(None), endpoints=dict.fromkeys(Role, (Endpoint("http://x"),)),
            resolve=lambda _, name: "m",
        ),
    )  # fmt: skip
    for _ in range(2):
        earlier.rewind()
        for texts in (first, again):
            asked = [(Message(role="user", content=str(number)),) for number in range(len(texts))]
            assert [answer.text for answer in earlier.query(asked, None)] == texts
        earlier.rewind()
        asked = [(Message(role="user", content=str(number)),) for number in [0, 1, 0, 0]]
        ahead = earlier.query_ahead(asked, None)  # as often as it was asked, and once more
        assert [answer and answer.text for answer in ahead] == [first[0], first[1], again[0], None]
        (answer,) = earlier.query([(Message(role="user", content="new"),)], None)
        assert answer.failure is not None
        assert answer.failure.message == "not made: an earlier query of the session did not make it"
    earlier.close()
    assert [redis_client.dump(keys.job("j", part)) for part in parts] == before
