"""Each provider's errors, in its own words: the table is ``provider_errors.toml``, which reads as a list."""

import json
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.failures import Secrets, error_in_answer, refusal
from rlm_dist.llm.wire import read_reply
from rlm_dist.schema import CallRequest, Message, Role

URL = "https://api.example.com/v1/chat/completions"
PROMPT = "a prompt that no error repeats, whatever happens"
SECRETS = Secrets((), (PROMPT,))


class Case(BaseModel):
    """One response, and what is made of it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    status: int
    body: str
    kind: FailureKind
    words: str
    delay_s: float | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    source: str = ""


TABLE = tomllib.loads((Path(__file__).parent / "provider_errors.toml").read_text("utf-8"))
CASES = TypeAdapter(list[Case]).validate_python(TABLE["case"])


def check(case: Case, failure: CallError) -> None:
    """Compare ``failure`` with what the case expects."""
    assert failure.kind is case.kind
    assert case.words in failure.message
    assert failure.retry_after_s == (None if case.delay_s is None else pytest.approx(case.delay_s))
    assert PROMPT not in failure.message


@pytest.mark.parametrize("case", [case for case in CASES if case.status != 200], ids=lambda case: case.name)
def test_a_refusal_is_sorted_and_quoted(case: Case) -> None:
    check(case, refusal(case.status, case.headers, case.body, URL, SECRETS))


@pytest.mark.parametrize("case", [case for case in CASES if case.status == 200], ids=lambda case: case.name)
def test_an_error_in_place_of_an_answer_is_sorted_as_its_status_would_be(case: Case) -> None:
    """It is not taken for a malformed answer, which would be asked for and paid again."""
    request = CallRequest(role=Role.SUB, model="m", messages=(Message(role="user", content=PROMPT),))
    attempt = read_reply(case.body, request, "m")
    assert attempt.completion is None
    check(case, error_in_answer(attempt.error_body, URL, SECRETS))


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "9" * 5000, "message": ["x"], "status": [], "retry_after": "9" * 400}},
        {"error": {"code": True, "retry_after": float("inf"), "param": {}, "loc": [None], "msg": 3}},
        {"error": {"message": f"try again in {'9' * 400}s", "metadata": {"headers": {"retry-after": 1e999}}}},
        {"error": {"details": [{"retryDelay": {"seconds": "soon"}}, {"retryDelay": None}], "errors": 3}},
    ],
)
def test_nonsense_is_no_harm(body: dict[str, object]) -> None:
    failure = refusal(429, {}, json.dumps(body), URL, SECRETS)
    assert (failure.kind, failure.retry_after_s) == (FailureKind.RATE, None)


@pytest.mark.parametrize("body", ["[" * 100_000, "[" * 900 + "]" * 900, '{"error":' * 900 + "1" + "}" * 900])
def test_a_deep_body_is_no_harm(body: str) -> None:
    assert refusal(400, {}, body, URL, SECRETS).kind is FailureKind.INVALID
