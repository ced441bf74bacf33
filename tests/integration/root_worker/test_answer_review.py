"""The review of answers over a real store: the judge is a sub-call with its place in the ledger."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.engine.answer_checks import Refusal
from rlm_dist.errors import AnswerCheckFailed, Cancelled, LimitExceeded
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.root_worker.answer_review import AnswerReview, make_review
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.schema import Role, Usage
from rlm_dist.store import Store
from rlm_dist.worker.accounts import Accounts
from tests.support.played_jobs import PlayedSubWorker
from tests.support.sandboxes import write_context
from tests.support.store_values import running_job

USAGE = Usage(input_tokens=1)
PATH = f"{__name__}:short"
Made = Callable[..., AnswerReview]


def short(answer: object, query: str, metadata: object) -> str | None:
    """A validator."""
    return None if len(str(answer)) < 40 else "is too long"


class Judges(PlayedSubWorker):
    """A sub worker whose model gives these replies in turn."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, lambda _: self.replies.pop(0))
        self.replies: list[str] = []


@pytest.fixture
def judges(store: Store) -> Judges:
    """The sub worker."""
    return Judges(store)


@pytest.fixture
def review(store: Store, redis_client: redis.Redis, tmp_path: Path, judges: Judges) -> Iterator[Made]:
    """Make the review of a job whose spec has these fields; it may make one sub-call."""
    epoch = running_job(store, max_sub_calls=1)
    blobs = open_blobs("redis", home=tmp_path, client=redis_client, retention_s=1000)
    context = write_context(tmp_path / "context", "list", ["one  two", "three"])
    made: list[FanOut] = []

    def make(**fields: object) -> AnswerReview:
        spec = store.jobs.get("j").spec.model_copy(update={"sub_models": (), **fields})
        accounts = Accounts(
            prices=Prices(None),
            endpoints=dict.fromkeys(Role, (Endpoint("http://x"),)),
            resolve=lambda _, name: name,
        )
        made.append(
            FanOut(
                spec=spec, epoch=epoch, store=store, payloads=Payloads(store=store, blobs=blobs),
                accounts=accounts, send=judges.send, queue_is_empty=lambda: True, emit=lambda _: None,
            )
        )  # fmt: skip
        found = make_review(spec, made[-1], context, (PATH,))
        assert found is not None
        return found

    yield make
    for each in made:
        each.close()


def test_the_first_check_that_refuses_decides(review: Made, judges: Judges, store: Store) -> None:
    checks = review(quote_check="q", validator=PATH, judge="Good?", judge_model="big")
    assert checks({"q": ["one two", "two three", "four"]}, 0) == Refusal(
        "quote_check", "Not in the context, of 3 in `q`:\n- two three\n- four"
    )
    assert checks("no object", 0) == Refusal("quote_check", "the answer has no field `q`")
    assert checks({"q": "one two", "more": "x" * 40}, 0) == Refusal("validator", "is too long")
    judges.replies = ['{"accept": false, "reason": "vague"}']
    assert checks('{"q": "one two"}', 0) == Refusal("judge", "vague")
    assert judges.models == ["big"]
    assert store.jobs.costs("j").sub_llm_calls == 1


def test_the_judge_is_the_sub_model_and_its_answer_is_kept_for_the_next_run(
    review: Made, judges: Judges, store: Store
) -> None:
    judges.replies = ['{"accept": true, "reason": ""}']
    for _ in range(2):
        assert review(judge="Good?", sub_model="small")("answer", 0) is None
    assert judges.models == ["small"]
    assert store.jobs.costs("j").sub_llm_calls == 1


def test_a_limit_that_leaves_no_room_for_the_judge_ends_the_job(review: Made, judges: Judges) -> None:
    judges.replies = ["hm"]
    with pytest.raises(LimitExceeded):
        review(judge="Good?")("answer", 0)


def test_no_check_is_made_without_a_need_or_after_the_end(review: Made, store: Store) -> None:
    checks = review(quote_check="q", validator=PATH)
    checks.abort(Cancelled("j"))
    with pytest.raises(Cancelled):
        checks({"q": "one"}, 0)
    with pytest.raises(AnswerCheckFailed, match="not on this worker's list"):
        review(validator="os:system")
    with pytest.raises(AssertionError):
        review()
