"""A model judges an answer: one call, a strict verdict, and a failure if there is none."""

import pytest

from rlm_dist.errors import AnswerCheckFailed, CallError, FailureKind, LimitExceeded
from rlm_dist.root_worker.judge import judge
from rlm_dist.schema import Answer, CallFailure, Message, ReachedLimit
from tests.support.fake_repl import spec

SPEC = spec("Who is {x}?", judge="Names a person.")


class Model:
    """Gives these replies in turn."""

    def __init__(self, *replies: str | CallFailure) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[Message, ...]] = []

    def __call__(self, messages: tuple[Message, ...]) -> Answer:
        self.asked.append(messages)
        step = self.replies.pop(0)
        text, failure = (step, None) if isinstance(step, str) else (None, step)
        return Answer(call_id="c", text=text, failure=failure)


def verdict(model: Model, answer: object = "Ahab", limits: tuple[ReachedLimit, ...] = ()) -> str | None:
    return judge(SPEC, answer, model, lambda: limits)  # type: ignore[arg-type]


def test_the_judge_sees_rubric_query_and_answer() -> None:
    model = Model('{"accept": true, "reason": ""}')
    assert verdict(model, {"name": "Ähab", "lone": "\ud800"}) is None
    (messages,) = model.asked
    text = messages[-1].content
    assert [words in text for words in ("Names a person.", "Who is {x}?", '"Ähab"')] == [True] * 3
    text.encode()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ('{"accept": false, "reason": "no person"}', "no person"),
        ('```json\n{"accept": false, "reason": "no person"}\n```', "no person"),
        ('{"accept": false}', "the judge gave no reason"),
    ],
)
def test_a_refusal_has_a_reason(reply: str, reason: str) -> None:
    assert verdict(Model(reply)) == reason


@pytest.mark.parametrize(
    "reply", ["yes", "", '{"accept": "true"}', '{"accept": 1}', '{"accept": true, "reason": 5}', "[]"]
)
def test_what_is_no_verdict_is_asked_for_once_more(reply: str) -> None:
    model = Model(reply, '{"accept": true, "reason": ""}')
    assert verdict(model) is None
    assert len(model.asked[1]) == len(model.asked[0]) + 2
    with pytest.raises(AnswerCheckFailed, match="no verdict"):
        verdict(Model(reply, reply))


def test_a_call_that_fails_or_does_not_fit_is_no_verdict() -> None:
    with pytest.raises(CallError):
        verdict(Model(CallFailure(kind=FailureKind.TIMEOUT, message="slow")))
    with pytest.raises(LimitExceeded, match="max_sub_calls"):
        verdict(
            Model(CallFailure(kind=FailureKind.LIMIT, message="not made")),
            limits=(ReachedLimit("max_sub_calls", 1, 1),),
        )
