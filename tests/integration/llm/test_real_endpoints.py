"""Requests that real endpoints take, and answers as they give them, over real HTTP."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm import LLM, RetryPolicy, check_endpoint
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.schema import CallRequest, CallResult, Message, Role, Usage
from tests.support.canned_endpoint import CannedEndpoint, ReceivedRequest, Reply, canned_endpoint

KEY = "sk-test-51a7e0c3"
PROMPT = "the quick brown fox jumps over the lazy dog, and keeps it to itself"
FAST = RetryPolicy(base_s=0.001, cap_s=0.005)
ANSWER = {"choices": [{"message": {"content": "here"}, "finish_reason": "stop"}]}

Serve = Callable[[Callable[[ReceivedRequest], Reply]], CannedEndpoint]
Call = Callable[..., CallResult]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Endpoints and clients, closed at the end of the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(stack: ExitStack) -> Serve:
    """Start an endpoint."""
    return lambda reply: stack.enter_context(canned_endpoint(reply))


def client(
    stack: ExitStack, url: str, *, key: str | None = KEY, headers: Mapping[str, str] | None = None
) -> LLM:
    """A model client of one endpoint, closed at the end of the test."""
    endpoint = Endpoint(url, SecretStr(key) if key else None, "auto", headers or {})
    llm = LLM(dict.fromkeys(Role, (endpoint,)), call_timeout_s=20, retry=FAST)
    stack.callback(llm.close)
    return llm


def ask(llm: LLM, *, model: str = "m", text: str = PROMPT, **parameters: Any) -> CallResult:
    """The result of one sub-call."""
    messages = (Message(role="user", content=text),)
    return llm.submit(CallRequest(role=Role.SUB, model=model, messages=messages, **parameters)).result(60)


def text_of(result: CallResult) -> str:
    """The answer of a successful call."""
    assert result.completion is not None, result.failure
    return result.completion.text


def failure_of(result: CallResult) -> tuple[str, str]:
    """The kind and message of a failed call."""
    assert result.failure is not None, result
    return result.failure.kind, result.failure.message


def error(message: str, **fields: object) -> dict[str, object]:
    """An error in OpenAI's form."""
    return {"error": {"message": message, **fields}}


# Addresses


def test_a_query_in_the_address_stays_behind_the_path(stack: ExitStack, serve: Serve) -> None:
    """Azure wants its version there, and the key in a header of its own."""
    endpoint = serve(lambda _: Reply(200, ANSWER))
    url = f"{endpoint.url}/openai/deployments/d/?api-version=2024-10-21"
    llm = client(stack, url, key=None, headers={"api-key": KEY})
    assert text_of(ask(llm)) == "here"
    (request,) = endpoint.requests
    assert request.path == "/openai/deployments/d/chat/completions?api-version=2024-10-21"
    assert request.headers["api-key"] == KEY
    assert "authorization" not in request.headers


def test_a_query_is_not_shown(stack: ExitStack, serve: Serve) -> None:
    secret = "AIzaSy-a-key-in-the-query"
    endpoint = serve(lambda _: Reply(400, error(f"bad request with {secret}")))
    kind, message = failure_of(ask(client(stack, f"{endpoint.url}/v1?key={secret}")))
    assert kind == FailureKind.INVALID
    assert f"{endpoint.url}/v1/chat/completions answered HTTP 400" in message
    assert secret not in message
    assert "key=" not in message


def test_a_deployment_that_lists_no_models_is_checked_by_its_answer(serve: Serve) -> None:
    """Azure's deployments have no ``/models``; elsewhere a missing route is a wrong address."""
    endpoint = serve(lambda _: Reply(404, error("Resource not found", code="404")))
    assert check_endpoint(Endpoint(f"{endpoint.url}/d?api-version=1", model="gpt-5")) == ["gpt-5"]
    for other in (Endpoint(f"{endpoint.url}/d?api-version=1"), Endpoint(f"{endpoint.url}/d", model="gpt-5")):
        with pytest.raises(CallError, match="no such route"):
            check_endpoint(other)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(stack: ExitStack, serve: Serve, status: int) -> None:
    """Neither key nor prompt go where nobody sent them; the new address is named, without its query."""
    other = serve(lambda _: Reply(200, ANSWER))
    location = {"Location": f"{other.url}/v2/chat/completions?token=abc"}
    endpoint = serve(lambda _: Reply(status, "moved", location))
    result = ask(client(stack, f"{endpoint.url}/v1"))
    kind, message = failure_of(result)
    assert kind == FailureKind.INVALID
    assert f"it has moved to {other.url}/v2/chat/completions." in message
    assert f"set RLM_API_URL (or RLM_SUB_API_URL) to {other.url}/v2" in message
    assert "token" not in message
    assert (len(endpoint.requests), result.attempts, other.requests) == (1, 1, [])


def test_a_redirect_of_the_list_of_models_is_not_followed(stack: ExitStack, serve: Serve) -> None:
    endpoint = serve(lambda _: Reply(301, "", {"Location": "/other/models"}))
    with pytest.raises(CallError, match=f"set RLM_API_URL .* to {endpoint.url}/other$"):
        check_endpoint(Endpoint(f"{endpoint.url}/v1"))
    assert [request.path for request in endpoint.requests] == ["/v1/models"]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"data": [{"id": "a"}, {"id": "b"}]}, ["a", "b"]),
        ({"models": [{"name": "a:latest", "model": "a:latest"}]}, ["a:latest"]),
        ([{"id": "a", "type": "chat"}], ["a"]),
        (["a", "b"], ["a", "b"]),
    ],
    ids=["OpenAI", "Ollama", "Together", "names"],
)
def test_a_list_of_models_has_several_forms(serve: Serve, body: object, names: list[str]) -> None:
    assert check_endpoint(Endpoint(serve(lambda _: Reply(200, body)).url)) == names


def test_an_error_in_place_of_the_models_is_sorted(serve: Serve) -> None:
    endpoint = serve(lambda _: Reply(200, error("no such key", code=401)))
    with pytest.raises(CallError, match=r"auth: .*no such key"):
        check_endpoint(Endpoint(endpoint.url))


# Errors


@pytest.mark.parametrize(
    ("body", "kind", "attempts"),
    [
        (error("Insufficient credits", code=402), FailureKind.QUOTA, 1),
        ({"choices": None, **error("bad", code=400)}, FailureKind.INVALID, 1),
        (error("Provider returned error", code=502), FailureKind.TRANSIENT, FAST.attempts),
        (error("slow down", code=429), FailureKind.RATE, FAST.rate_attempts),
    ],
)
def test_an_error_with_http_200_is_asked_again_as_its_status_says(
    stack: ExitStack, serve: Serve, body: object, kind: FailureKind, attempts: int
) -> None:
    endpoint = serve(lambda _: Reply(200, body))
    result = ask(client(stack, endpoint.url))
    assert failure_of(result)[0] == kind
    assert result.attempts == len(endpoint.requests) == attempts


def test_what_an_error_with_http_200_cost_is_charged(stack: ExitStack, serve: Serve) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    endpoint = serve(lambda _: Reply(200, {**error("bad", code=400), "usage": usage}))
    (charge,) = ask(client(stack, endpoint.url)).wasted
    assert charge.usage == Usage(input_tokens=9, output_tokens=2)


def test_a_delay_in_the_body_is_obeyed(stack: ExitStack, serve: Serve) -> None:
    """A delay beyond the call's deadline ends it at once, so it was read."""
    body = [{"error": {"code": 429, "message": "busy", "details": [{"retryDelay": "34000s"}]}}]
    endpoint = serve(lambda _: Reply(429, body))
    result = ask(client(stack, endpoint.url))
    assert failure_of(result)[0] == FailureKind.RATE
    assert result.attempts == len(endpoint.requests) == 1


def test_an_unknown_model_is_said_in_the_endpoints_words_too(stack: ExitStack, serve: Serve) -> None:
    def reply(request: ReceivedRequest) -> Reply:
        if request.path == "/models":
            return Reply(200, {"data": [{"id": "a"}]})
        return Reply(404, error("The model `m` does not exist or you do not have access to it."))

    kind, message = failure_of(ask(client(stack, serve(reply).url)))
    assert kind == FailureKind.UNKNOWN_MODEL
    assert "it has: a" in message
    assert "or you do not have access to it" in message


# Streams


def events(*chunks: object, done: bool = True) -> str:
    """A stream of server-sent events."""
    lines = [f"data: {json.dumps(chunk)}" for chunk in chunks]
    return "\n\n".join([": a comment", *lines, *(["data: [DONE]"] if done else [])]) + "\n\n"


def delta(finish: str | None = None, **fields: object) -> dict[str, object]:
    """One chunk of a streamed answer."""
    return {"id": "c", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


STREAM = events(
    delta(role="assistant", content=""),
    delta(content="he"),
    delta(content="re\u2028"),
    delta("length"),
    {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
)
SSE = {"Content-Type": "text/event-stream"}


@pytest.mark.parametrize(
    "words",
    [
        "Stream must be set to true",
        "This model only support stream mode, please enable the stream parameter to access the model.",
        "parameter.enable_thinking must be set to false for non-streaming calls",
        "Non-streaming requests are not supported",
    ],
)
def test_an_endpoint_that_only_streams_is_asked_for_a_stream(
    stack: ExitStack, serve: Serve, words: str
) -> None:
    """The first call learns it, without a failed attempt; the others know it."""
    endpoint = serve(
        lambda request: (
            Reply(200, STREAM, SSE) if request.body.get("stream") else Reply(400, {"detail": words})
        )
    )
    llm = client(stack, endpoint.url)
    results = [ask(llm), ask(llm)]
    assert [text_of(result) for result in results] == ["here\u2028"] * 2
    assert [result.attempts for result in results] == [1, 1]
    assert results[0].completion is not None
    assert results[0].completion.usage == Usage(input_tokens=5, output_tokens=2)
    assert results[0].completion.finish_reason == "length"
    assert [request.body.get("stream") for request in endpoint.requests] == [None, True, True]
    assert endpoint.requests[1].body["stream_options"] == {"include_usage": True}


def test_a_stream_that_nobody_asked_for_is_read(stack: ExitStack, serve: Serve) -> None:
    """From then on it is asked for, as only then the usage is reported."""
    endpoint = serve(lambda _: Reply(200, STREAM, SSE))
    llm = client(stack, endpoint.url)
    assert [text_of(ask(llm)), text_of(ask(llm))] == ["here\u2028"] * 2
    assert [request.body.get("stream") for request in endpoint.requests] == [None, True]


def test_usage_in_a_stream_is_not_asked_for_again_where_that_is_refused(
    stack: ExitStack, serve: Serve
) -> None:
    def reply(request: ReceivedRequest) -> Reply:
        if not request.body.get("stream"):
            return Reply(400, error("streaming is required"))
        if "stream_options" in request.body:
            return Reply(400, error("Unrecognized request argument supplied: stream_options"))
        return Reply(200, STREAM, SSE)

    endpoint = serve(reply)
    llm = client(stack, endpoint.url)
    assert text_of(ask(llm)) == text_of(ask(llm)) == "here\u2028"
    assert len(endpoint.requests) == 4


def test_a_stream_that_breaks_off_is_asked_for_again(stack: ExitStack, serve: Serve) -> None:
    cut = events(delta(content="he"), done=False)
    bodies = iter([cut, cut + "data: {", STREAM])
    endpoint = serve(lambda _: Reply(200, next(bodies), SSE))
    result = ask(client(stack, endpoint.url))
    assert text_of(result) == "here\u2028"
    assert result.failed_attempts == (FailureKind.TRANSIENT,) * 2


def test_an_error_in_a_stream_is_sorted(stack: ExitStack, serve: Serve) -> None:
    body = events(delta(content="he"), error("no credits left", code=402), done=False)
    result = ask(client(stack, serve(lambda _: Reply(200, body, SSE)).url))
    assert failure_of(result)[0] == FailureKind.QUOTA
    assert "no credits left" in failure_of(result)[1]


# Dialects

TOO_NEW = error(
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
    "instead.",
    type="invalid_request_error",
    param="max_tokens",
    code="unsupported_parameter",
)
# https://github.com/editor-code-assistant/eca/issues/231
TOO_OLD = {
    "object": "error",
    "message": {
        "detail": [
            {
                "type": "extra_forbidden",
                "loc": ["body", "max_completion_tokens"],
                "msg": "Extra inputs are not permitted",
                "input": 7,
            }
        ]
    },
}
NO_TEMPERATURE = error(
    "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is "
    "supported.",
    type="invalid_request_error",
    param="temperature",
    code="unsupported_value",
)


def refusing(field: str, refusal: object, status: int = 400) -> Callable[[ReceivedRequest], Reply]:
    """An endpoint that refuses requests that have this field."""
    return lambda request: Reply(status, refusal) if field in request.body else Reply(200, ANSWER)


@pytest.mark.parametrize("model", ["gpt-5-mini", "o1", "o3-mini", "o4-mini", "openai/gpt-5.1"])
def test_a_reasoning_model_is_known_by_its_name(stack: ExitStack, serve: Serve, model: str) -> None:
    endpoint = serve(refusing("max_tokens", TOO_NEW))
    assert text_of(ask(client(stack, endpoint.url), model=model, max_output_tokens=7)) == "here"
    (request,) = endpoint.requests
    assert request.body["max_completion_tokens"] == 7


@pytest.mark.parametrize(
    ("refused", "words", "status", "model", "wanted"),
    [
        ("max_tokens", TOO_NEW, 400, "my-deployment", "max_completion_tokens"),
        ("max_completion_tokens", TOO_OLD, 422, "gpt-5-of-another-server", "max_tokens"),
    ],
)
def test_the_name_of_the_output_limit_is_learnt(
    stack: ExitStack, serve: Serve, refused: str, words: object, status: int, model: str, wanted: str
) -> None:
    """The call is repeated at once, without a failed attempt; later ones of the same model know it."""
    endpoint = serve(refusing(refused, words, status))
    llm = client(stack, endpoint.url)
    results = [ask(llm, model=model, max_output_tokens=7) for _ in range(3)]
    assert [text_of(result) for result in results] == ["here"] * 3
    assert [(result.attempts, result.failed_attempts) for result in results] == [(1, ())] * 3
    assert [request.body.get(wanted) for request in endpoint.requests] == [None, 7, 7, 7]
    assert not any(result.completion and result.completion.dropped_parameters for result in results)


def test_an_output_limit_that_is_refused_by_both_names_is_not_left_out(
    stack: ExitStack, serve: Serve
) -> None:
    """Without it the call could cost more than the user allowed."""

    def reply(request: ReceivedRequest) -> Reply:
        return Reply(400, TOO_NEW if "max_tokens" in request.body else error("unknown max_completion_tokens"))

    result = ask(client(stack, serve(reply).url), max_output_tokens=7)
    assert failure_of(result)[0] == FailureKind.INVALID
    assert result.attempts == 1


def test_a_limit_in_the_extra_body_is_left_as_it_is(stack: ExitStack, serve: Serve) -> None:
    endpoint = serve(lambda _: Reply(200, ANSWER))
    ask(client(stack, endpoint.url), extra_body={"max_completion_tokens": 9}, max_output_tokens=7)
    (request,) = endpoint.requests
    assert request.body["max_completion_tokens"] == 9
    assert "max_tokens" not in request.body


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("temperature", NO_TEMPERATURE),
        # https://github.com/UKGovernmentBEIS/inspect_ai/issues/3721
        ("temperature", error("`temperature` is deprecated for this model.", type="invalid_request_error")),
        # https://github.com/BerriAI/litellm/pull/16265
        (
            "reasoning_effort",
            {
                "code": "Client specified an invalid argument",
                "error": "Model grok-4-latest does not support parameter reasoningEffort.",
            },
        ),
        ("reasoning_effort", error("Unrecognized request argument supplied: reasoning_effort")),
        ("reasoning_effort", {"error": '"gemma3" does not support thinking'}),
    ],
)
def test_a_parameter_that_a_model_does_not_take_is_left_out_and_said(
    stack: ExitStack, serve: Serve, field: str, words: object
) -> None:
    endpoint = serve(refusing(field, words))
    llm = client(stack, endpoint.url)
    parameters: dict[str, Any] = {"temperature": 0.2, "reasoning_effort": "low"}
    with capture_logs() as logs:
        results = [ask(llm, **parameters) for _ in range(3)]
    assert [text_of(result) for result in results] == ["here"] * 3
    assert [result.completion and result.completion.dropped_parameters for result in results] == [
        (field,)
    ] * 3
    assert [result.attempts for result in results] == [1, 1, 1]
    assert len(endpoint.requests) == 4
    other = ({"temperature", "reasoning_effort"} - {field}).pop()
    assert all(request.body[other] == parameters[other] for request in endpoint.requests)
    assert [entry["refused"] for entry in logs if entry["event"] == "request_dialect_learnt"] == [[field]]


def test_what_one_model_refuses_another_is_asked_for(stack: ExitStack, serve: Serve) -> None:
    def reply(request: ReceivedRequest) -> Reply:
        is_refused = request.body["model"] == "a" and "temperature" in request.body
        return Reply(400, NO_TEMPERATURE) if is_refused else Reply(200, ANSWER)

    endpoint = serve(reply)
    llm = client(stack, endpoint.url)
    for model in ("a", "b"):
        assert text_of(ask(llm, model=model, temperature=0.2)) == "here"
    bodies = [(request.body["model"], request.body.get("temperature")) for request in endpoint.requests]
    assert bodies == [("a", 0.2), ("a", None), ("b", 0.2)]


@pytest.mark.parametrize(
    ("parameters", "refusal"),
    [
        ({"temperature": 3.0}, error("temperature must be below 2", param="temperature")),
        (
            {"reasoning_effort": "minimal"},
            error(
                "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model. Supported "
                "values are: 'low', 'medium', and 'high'.",
                param="reasoning_effort",
                code="unsupported_value",
            ),
        ),
    ],
)
def test_a_wrong_value_is_not_left_out(
    stack: ExitStack, serve: Serve, parameters: dict[str, Any], refusal: dict[str, Any]
) -> None:
    """The model takes the parameter, with another value: the call fails with the endpoint's words."""
    endpoint = serve(refusing(next(iter(parameters)), refusal))
    result = ask(client(stack, endpoint.url), **parameters)
    assert failure_of(result)[0] == FailureKind.INVALID
    assert refusal["error"]["message"] in failure_of(result)[1]
    assert len(endpoint.requests) == 1


def test_many_calls_at_once_learn_together(stack: ExitStack, serve: Serve) -> None:
    endpoint = serve(refusing("temperature", NO_TEMPERATURE))
    llm = client(stack, endpoint.url)
    requests = [
        CallRequest(
            role=Role.SUB, model="m", temperature=0.2, messages=(Message(role="user", content=str(number)),)
        )
        for number in range(20)
    ]
    results = [future.result(60) for future in [llm.submit(request) for request in requests]]
    assert [text_of(result) for result in results] == ["here"] * 20
    assert [result.failed_attempts for result in results] == [()] * 20
    assert len(endpoint.requests) <= 40
