"""HTTP errors become our kinds of failure, with texts that help and keep secrets."""

import pickle

import httpx2
import pytest

from rlm_dist.errors import FailureKind
from rlm_dist.llm.failures import (
    HTTPRefusal,
    Secrets,
    error_in_answer,
    refusal,
    shown,
    shown_models,
    shown_url,
    to_call_error,
)

URL = "http://127.0.0.1:9/v1/chat/completions"
KEY = "sk-very-secret-key"
NOTHING = Secrets(())


def refused(status: int, error: object = None, headers: dict[str, str] | None = None) -> HTTPRefusal:
    """The failure for a response with ``status`` and the JSON error object ``error``."""
    return refusal(status, headers or {}, error, URL, NOTHING)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"message": "temperature must be below 2"}, FailureKind.INVALID),
        (401, {"message": "no"}, FailureKind.AUTH),
        (402, {"message": "pay first"}, FailureKind.QUOTA),
        (403, {"message": "not your region"}, FailureKind.AUTH),
        (
            404,
            {"message": "The model `m` does not exist.", "type": "NotFoundError"},
            FailureKind.UNKNOWN_MODEL,
        ),
        (404, {"message": 'model "m" not found, try pulling it first'}, FailureKind.UNKNOWN_MODEL),
        (400, {"message": "no such", "code": "model_not_found"}, FailureKind.UNKNOWN_MODEL),
        (404, {"message": "File Not Found", "type": "not_found_error"}, FailureKind.INVALID),
        (404, "<html>nothing here</html>", FailureKind.INVALID),
        (408, None, FailureKind.TRANSIENT),
        (409, None, FailureKind.TRANSIENT),
        (413, {"message": "Request too large"}, FailureKind.TOO_LONG),
        (422, {"message": "messages: field required"}, FailureKind.INVALID),
        (429, {"message": "slow down", "code": "rate_limit_exceeded"}, FailureKind.RATE),
        (429, {"message": "no money", "code": "insufficient_quota"}, FailureKind.QUOTA),
        (429, {"message": "no money", "type": "insufficient_quota"}, FailureKind.QUOTA),
        (500, "<html>boom</html>", FailureKind.TRANSIENT),
        (503, {"message": "Loading model", "code": 503}, FailureKind.TRANSIENT),
        (529, None, FailureKind.RATE),
    ],
)
def test_a_status_has_its_kind(status: int, error: object, kind: FailureKind) -> None:
    """The status decides; if it is ambiguous, the error's code, type or words decide."""
    assert refused(status, error).kind is kind


@pytest.mark.parametrize(
    ("error", "prompt", "window"),
    [
        (
            {
                "message": "This model's maximum context length is 4097 tokens. However, your messages "
                "resulted in 5000 tokens. Please reduce the length of the messages.",
                "code": "context_length_exceeded",
            },
            5000,
            4097,
        ),
        (
            {
                "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9000,
                "n_ctx": 512,
            },
            9000,
            512,
        ),
        (
            {"message": "request (9000 tokens) exceeds the available context size (512 tokens), try more"},
            9000,
            512,
        ),
        (
            {
                "message": "This model's maximum context length is 8192 tokens. However, you requested "
                "9100 tokens (9000 in the messages, 100 in the completion)."
            },
            9000,
            8192,
        ),
        (
            {"message": "The decoder prompt (length 9000) is longer than the maximum model length of 8192."},
            9000,
            8192,
        ),
        (
            {"message": "The input (9000 tokens) is longer than the model's context length (8192 tokens)."},
            9000,
            8192,
        ),
        ({"message": "prompt is too long: 209653 tokens > 200000 maximum"}, 209653, 200000),
    ],
)
def test_too_long_a_prompt_names_both_sizes(error: dict[str, object], prompt: int, window: int) -> None:
    """Every server's wording gives the sizes of the prompt and of the window."""
    failure = refused(400, error)
    assert failure.kind is FailureKind.TOO_LONG
    assert failure.message == f"the prompt has {prompt} tokens, the model's window is {window}"


def test_too_long_without_sizes_says_what_the_endpoint_said() -> None:
    failure = refused(400, {"message": "input is over the context window"})
    assert failure.kind is FailureKind.TOO_LONG
    assert "input is over the context window" in failure.message


def test_a_missing_route_names_the_url() -> None:
    assert URL in refused(404, {"message": "File Not Found"}).message


def test_a_retry_after_is_kept() -> None:
    assert refused(429, None, {"retry-after": "7"}).retry_after_s == 7


def test_a_timeout_anywhere_below_is_a_timeout() -> None:
    """The transport reports lost connections as timeouts too, so the root cause decides."""
    slow, lost = httpx2.ConnectTimeout("connect"), httpx2.ConnectTimeout("connect")
    slow.__cause__ = TimeoutError()
    lost.__cause__ = ConnectionResetError("reset by peer")
    assert to_call_error(slow, URL, NOTHING).kind is FailureKind.TIMEOUT
    assert to_call_error(lost, URL, NOTHING).kind is FailureKind.TRANSIENT
    assert "reset by peer" in to_call_error(lost, URL, NOTHING).message


def test_a_wrong_key_is_not_quoted() -> None:
    failure = refused(401, {"message": f"Incorrect API key provided: {KEY[:6]}***"})
    assert "sk-" not in str(failure)
    assert "RLM_API_KEY" in str(failure)


def test_a_key_is_blotted_out() -> None:
    assert KEY not in shown(f"bad header: Bearer {KEY}", Secrets((KEY,)))


def test_a_repeated_prompt_is_left_out() -> None:
    """Servers that validate input often quote it."""
    prompt = "".join(f"secret line {number}; " for number in range(500))
    quoted = f"validation error at messages[0]: {prompt[1000:1100]!r}"
    assert "secret" not in shown(quoted, Secrets((), (prompt,)))
    assert "secret" not in shown("bad input 'secret line'", Secrets((), ("secret line",)))
    assert shown("temperature: too high", Secrets((), (prompt,))) == "temperature: too high"


@pytest.mark.parametrize("status", [200, 400, 422])
def test_words_of_the_prompt_decide_nothing(status: int) -> None:
    """A context may be about anything, such as wrong keys; quoting it must not pause the batch."""
    prompt = "Line 1: Incorrect API key provided, your credit balance is too low, said the server."
    secrets = Secrets((), (prompt,))
    body = {"message": f"validation error at messages[0]: {prompt!r}", "type": "invalid_request_error"}
    failure = (
        error_in_answer(body, URL, secrets) if status == 200 else refusal(status, {}, body, URL, secrets)
    )
    assert failure.kind is FailureKind.INVALID
    assert failure.message.endswith("(the message is left out, as it repeats the prompt)")


def test_the_beginning_of_another_key_is_blotted_out_too() -> None:
    """Endpoints quote the key that they got, or a part of it, and that need not be the one we know."""
    for quoted in (
        "sk-proj-abcDEF123",
        "gsk_abcDEF123",
        "AIzaSyAbc-123",
        "ab***yz",
        "sk-...wxyz",
        "*****wxyz",
    ):
        assert shown(f"wrong key: {quoted}, sorry", NOTHING) == "wrong key: ***, sorry"


def test_what_an_endpoint_says_is_bounded_and_on_one_line() -> None:
    assert shown("a\nb" * 10_000, NOTHING).startswith("a ba b")
    assert len(shown("a\nb" * 10_000, NOTHING)) == 300


def test_an_address_is_shown_without_its_password() -> None:
    assert shown_url("https://me:pass@host:1/v1?key=abc") == "https://host:1/v1"


def test_a_long_list_of_models_is_bounded() -> None:
    text = shown_models(["m" * 1000, *(f"model-{number}" for number in range(300))])
    assert len(text) < 500
    assert text.endswith("and 281 more")


def test_a_refusal_survives_pickle() -> None:
    failure = refused(503, {"message": "down"}, {"retry-after": "2"})
    assert failure.error.text == "down"
    again = pickle.loads(pickle.dumps(failure))  # noqa: S301  # our own bytes
    assert again.error.text == ""  # it may quote the prompt
    assert (str(again), again.retry_after_s, again.status) == (str(failure), 2, 503)
