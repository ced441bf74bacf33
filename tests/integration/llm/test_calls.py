"""Real HTTP against the simulated endpoint: each fault has its kind of failure, its retries and its costs."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from rlm_dist.errors import CallError, FailureKind, Unreachable
from rlm_dist.llm import LLM, RetryPolicy, check_endpoint
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.schema import CallRequest, CallResult, Message, Role, Usage
from rlm_dist.simulated import Fault, SimulatedEndpoint

KEY = "sk-test-51a7e0c3"
PROMPT = "the quick brown fox jumps over the lazy dog, and keeps it to itself"
FAST = RetryPolicy(base_s=0.001, cap_s=0.005)
# Nothing listens on this reserved port.
HEADER = "t0ken-in-a-header"
NOWHERE = "http://127.0.0.1:1/v1"

MakeLLM = Callable[..., LLM]


@pytest.fixture
def make_llm() -> Iterator[MakeLLM]:
    """Model clients of one endpoint for both roles, closed at the end of the test."""
    made: list[LLM] = []

    def make(
        url: str,
        *,
        key: str | None = KEY,
        model: str = "auto",
        timeout_s: float = 20,
        retry: RetryPolicy = FAST,
        headers: Mapping[str, str] | None = None,
        keep_thoughts: bool = False,
    ) -> LLM:
        endpoint = Endpoint(url, SecretStr(key) if key else None, model, headers or {})
        endpoints = dict.fromkeys(Role, (endpoint,))
        made.append(LLM(endpoints, call_timeout_s=timeout_s, retry=retry, keep_thoughts=keep_thoughts))
        return made[-1]

    yield make
    for llm in made:
        llm.close()


def ask(text: str = PROMPT, *, model: str = "auto") -> CallRequest:
    """A sub-call with one user message."""
    return CallRequest(role=Role.SUB, model=model, messages=(Message(role="user", content=text),))


def status(code: int, *, on: tuple[int, ...] | None = None, **headers: str) -> Fault:
    """A rule that answers with an HTTP status."""
    return Fault(
        kind="status", status=code, on=on, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def wait_until(true: Callable[[], bool], for_s: float = 20) -> None:
    """Wait for a state."""
    deadline = time.monotonic() + for_s
    pause = threading.Event()
    while not true():
        assert time.monotonic() < deadline, "the state never came"
        pause.wait(0.002)


def failure_of(result: CallResult) -> tuple[str, str]:
    """The kind and message of a failed call."""
    assert result.failure is not None, result
    assert result.completion is None
    return result.failure.kind, result.failure.message


def text_of(result: CallResult) -> str:
    """The answer of a successful call."""
    assert result.completion is not None, result.failure
    return result.completion.text


def spent(results: Sequence[CallResult]) -> Usage:
    """All tokens that these calls report."""
    usages = [charge.usage for result in results for charge in result.wasted]
    usages += [result.completion.usage for result in results if result.completion]
    return sum(usages, Usage())


def test_a_call_is_answered_and_its_usage_is_what_was_served(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint() as endpoint:
        result = make_llm(endpoint.url).submit(
            ask("magic number for k is 7. What is the magic number for k?")
        )
        assert text_of(result.result()) == "7"
        assert result.result().attempts == 1
        assert spent([result.result()]) == endpoint.served.usage


def test_three_hundred_calls_at_once(make_llm: MakeLLM) -> None:
    """No call waits for another: all are at the endpoint at the same time."""
    with SimulatedEndpoint(faults=[Fault(kind="hold")]) as endpoint:
        llm = make_llm(endpoint.url, model="simulated-sub")
        futures = [llm.submit(ask(f"{PROMPT} {number}")) for number in range(300)]
        wait_until(lambda: endpoint.served.in_flight == 300)
        endpoint.release()
        results = [future.result() for future in futures]
        assert len({text_of(result) for result in results}) == 300
        assert spent(results) == endpoint.served.usage
        assert endpoint.served.answered == 300


def test_the_models_are_asked_once_by_fifty_calls_at_once(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint() as endpoint:
        llm = make_llm(endpoint.url)
        start = threading.Barrier(50)
        results: list[CallResult] = []

        def call() -> None:
            start.wait()
            results.append(llm.submit(ask()).result())

        threads = [threading.Thread(target=call) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {result.completion and result.completion.model for result in results} == {"simulated-root"}
        assert llm.resolve_model(Role.ROOT, "auto") == "simulated-root"
        assert llm.resolve_model(Role.ROOT, "named") == "named"
        assert endpoint.served.model_lists == 1


class SlowModels(BaseHTTPRequestHandler):
    """Lists its models only when the test allows it, and answers every call with the word ``here``."""

    go: ClassVar[threading.Event]
    asks: ClassVar[list[str]]

    def do_GET(self) -> None:
        self.asks.append(self.path)
        self.go.wait(20)
        self._send({"data": [{"id": "m"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send({"choices": [{"message": {"content": "here"}}]})

    def _send(self, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Log nothing."""


@pytest.fixture
def slow_models() -> Iterator[tuple[str, type[SlowModels]]]:
    """The address of an endpoint that holds back its list of models, and its handler."""

    class Handler(SlowModels):
        go = threading.Event()
        asks: ClassVar[list[str]] = []

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1", Handler
        Handler.go.set()
        server.shutdown()
        thread.join()


def test_a_cancelled_call_leaves_the_ask_for_the_models_to_the_others(
    make_llm: MakeLLM, slow_models: tuple[str, type[SlowModels]]
) -> None:
    url, handler = slow_models
    llm = make_llm(url)
    first = llm.submit(ask())
    wait_until(lambda: handler.asks == ["/v1/models"])
    second = llm.submit(ask())
    assert first.cancel()
    wait([first], timeout=20)
    handler.go.set()
    assert text_of(second.result(timeout=20)) == "here"
    assert len(handler.asks) == 1


def test_a_failed_ask_for_the_models_is_not_remembered(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint() as endpoint:
        url, port = endpoint.url, int(endpoint.url.split(":")[2].split("/")[0])
    llm = make_llm(url)
    with pytest.raises(CallError, match="transient"):
        llm.resolve_model(Role.SUB, "auto")
    with SimulatedEndpoint(port=port):
        assert llm.resolve_model(Role.SUB, "auto") == "simulated-root"


def test_the_endpoints_model_stands_for_auto(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint() as endpoint:
        result = make_llm(endpoint.url, model="simulated-sub").submit(ask(model="auto")).result()
        assert result.completion is not None
        assert result.completion.model == "simulated-sub"
        assert endpoint.served.model_lists == 0


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (status(400), FailureKind.INVALID),
        (status(403), FailureKind.AUTH),
        (status(404), FailureKind.INVALID),
        (Fault(kind="status", status=429, error={"code": "insufficient_quota"}), FailureKind.QUOTA),
        (Fault(kind="status", status=400, error={"code": "context_length_exceeded"}), FailureKind.TOO_LONG),
    ],
)
def test_a_deterministic_failure_is_not_tried_again(
    make_llm: MakeLLM, fault: Fault, kind: FailureKind
) -> None:
    with SimulatedEndpoint(faults=[fault]) as endpoint:
        result = make_llm(endpoint.url, model="simulated-sub").submit(ask()).result()
        assert failure_of(result)[0] == kind
        assert result.attempts == 1
        # A 404 is tried once more, on the route without chat.
        assert endpoint.served.requests == (2 if fault.status == 404 else 1)


@pytest.mark.parametrize(
    "fault",
    [
        *(status(code) for code in (408, 409, 429, 500, 502, 503)),
        Fault(kind="html"),
        Fault(kind="half_body"),
        Fault(kind="disconnect"),
        Fault(kind="choice", choice={"finish_reason": "error"}),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_a_passing_failure_is_tried_again(make_llm: MakeLLM, fault: Fault) -> None:
    """Two attempts fail, the third is answered, and all charges are reported."""
    with SimulatedEndpoint(faults=[fault.model_copy(update={"on": (0, 1)})]) as endpoint:
        result = make_llm(endpoint.url).submit(ask()).result()
        assert text_of(result)
        assert result.attempts == 3 == endpoint.served.requests
        assert spent([result]) == endpoint.served.usage
        assert len(result.wasted) == (2 if fault.kind == "choice" else 0)


@pytest.mark.parametrize(("fault", "kind"), [(status(500), "transient"), (Fault(kind="html"), "transient")])
def test_a_lasting_failure_ends_after_a_bounded_number_of_attempts(
    make_llm: MakeLLM, fault: Fault, kind: str
) -> None:
    with SimulatedEndpoint(faults=[fault]) as endpoint:
        result = make_llm(endpoint.url).submit(ask()).result()
        assert failure_of(result)[0] == kind
        assert result.attempts == FAST.attempts == endpoint.served.requests


def test_the_last_attempt_is_charged_too(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint(faults=[Fault(kind="choice", choice={"finish_reason": "error"})]) as endpoint:
        result = make_llm(endpoint.url).submit(ask()).result()
        assert failure_of(result)[0] == FailureKind.TRANSIENT
        assert len(result.wasted) == FAST.attempts
        assert spent([result]) == endpoint.served.usage != Usage()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="null_content"),
        Fault(kind="empty_choices"),
        Fault(kind="choice", choice={"message": {"content": None, "refusal": "I cannot."}}),
        Fault(kind="choice", choice={"message": {"content": "half"}, "finish_reason": "content_filter"}),
        Fault(kind="choice", choice={"message": {"content": "<think>so"}, "finish_reason": "length"}),
    ],
    ids=["null", "no choice", "refusal", "filter", "thoughts"],
)
def test_32_no_answer_fails_the_call_and_is_paid_for_once(make_llm: MakeLLM, fault: Fault) -> None:
    with SimulatedEndpoint(faults=[fault]) as endpoint:
        result = make_llm(endpoint.url).submit(ask()).result()
        assert failure_of(result)[0] == FailureKind.NO_ANSWER
        assert (result.attempts, result.failed_attempts) == (1, (FailureKind.NO_ANSWER,))
        assert len(result.wasted) == endpoint.served.requests == 1
        assert spent([result]) == endpoint.served.usage != Usage()


def test_33_34_an_answer_cut_by_length_has_its_text_without_thoughts(make_llm: MakeLLM) -> None:
    choice = {"message": {"content": "<think>hm</think>half of it"}, "finish_reason": "length"}
    with SimulatedEndpoint(faults=[Fault.model_validate({"kind": "choice", "choice": choice})]) as endpoint:
        result = make_llm(endpoint.url).submit(ask()).result()
        assert text_of(result) == "half of it"
        assert result.completion is not None
        assert result.completion.truncated
        whole = make_llm(endpoint.url, keep_thoughts=True).submit(ask()).result()
        assert text_of(whole) == "<think>hm</think>half of it"


def test_missing_usage_is_estimated(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint(faults=[Fault(kind="no_usage")]) as endpoint:
        result = make_llm(endpoint.url).submit(ask()).result()
        assert result.completion is not None
        assert result.completion.usage.estimated
        assert result.completion.usage.input_tokens > 0


@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_an_endpoint_that_never_ends_its_answer_is_left(make_llm: MakeLLM, kind: str) -> None:
    """The deadline is for the whole attempt: an occasional byte does not extend it."""
    fault = Fault.model_validate({"kind": kind})
    with SimulatedEndpoint(faults=[fault]) as endpoint:
        result = make_llm(endpoint.url, timeout_s=0.5).submit(ask()).result()
        assert failure_of(result)[0] == FailureKind.TIMEOUT
        assert 1 < result.attempts <= FAST.deadline_factor + 1
        wait_until(lambda: endpoint.served.in_flight == 0)
        assert endpoint.served.aborted == endpoint.served.requests


def test_a_retry_after_holds_the_call_that_got_it(make_llm: MakeLLM) -> None:
    """The other calls go on: one refusal says nothing about the load."""
    faults = [Fault(kind="hold"), status(429, on=(0,), retry_after="0.4")][::-1]
    with capture_logs() as logs, SimulatedEndpoint(faults=faults) as endpoint:
        llm = make_llm(endpoint.url, model="simulated-sub")
        before = time.monotonic()
        first = llm.submit(ask())
        wait_until(lambda: [each["told_s"] for each in logs] == [0.4])
        others = [llm.submit(ask(str(number))) for number in range(20)]
        wait_until(lambda: endpoint.served.in_flight >= 20)
        wait_until(lambda: endpoint.served.in_flight == 21)
        assert time.monotonic() >= before + 0.4
        endpoint.release()
        results = [future.result() for future in [first, *others]]
        assert [result.attempts for result in results] == [2, *[1] * 20]
        assert [result.failed_attempts for result in results] == [("rate",), *[()] * 20]


def test_a_limit_of_which_nothing_remains_holds_every_call(make_llm: MakeLLM) -> None:
    """This also holds if the endpoint answers well and reports it only in ``x-ratelimit-*`` headers."""
    told = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h"}
    with SimulatedEndpoint(faults=[Fault(kind="limits", headers=told)]) as endpoint:
        llm = make_llm(endpoint.url, model="simulated-sub")
        assert text_of(llm.submit(ask()).result())
        assert failure_of(llm.submit(ask()).result())[0] == FailureKind.RATE
        assert endpoint.served.requests == 1


def test_a_wait_beyond_the_deadline_fails_at_once(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint(faults=[status(429, retry_after="3600")]) as endpoint:
        llm = make_llm(endpoint.url)
        result = llm.submit(ask()).result()
        assert failure_of(result)[0] == FailureKind.RATE
        assert result.attempts == endpoint.served.requests == 1


def test_a_cancelled_call_closes_its_request(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint(faults=[Fault(kind="hang")]) as endpoint:
        future = make_llm(endpoint.url).submit(ask())
        wait_until(lambda: endpoint.served.in_flight == 1)
        assert future.cancel()
        wait_until(lambda: endpoint.served.aborted == 1)
        assert endpoint.served.in_flight == 0
        assert not wait([future], timeout=20).not_done
        with pytest.raises(CancelledError):
            future.result()


def test_close_ends_what_is_under_way() -> None:
    with SimulatedEndpoint(faults=[Fault(kind="hang")]) as endpoint:
        llm = LLM(dict.fromkeys(Role, (Endpoint(endpoint.url),)), call_timeout_s=60)
        futures: list[Future[CallResult]] = [llm.submit(ask()) for _ in range(3)]
        wait_until(lambda: endpoint.served.in_flight == 3)
        llm.close()
        assert all(future.cancelled() for future in futures)
        with pytest.raises(RuntimeError, match="closed"):
            llm.submit(ask())
        llm.close()


def test_an_unknown_model_is_told_with_those_there_are(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint() as endpoint:
        result = make_llm(endpoint.url).submit(ask(model="gpt-99")).result()
        kind, message = failure_of(result)
        assert kind == FailureKind.UNKNOWN_MODEL
        assert "gpt-99" in message
        assert "simulated-root, simulated-sub" in message
        assert result.attempts == 1


def test_an_endpoint_without_models_is_an_unknown_model(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint(models=()) as endpoint:
        assert failure_of(make_llm(endpoint.url).submit(ask()).result())[0] == FailureKind.UNKNOWN_MODEL


def test_an_endpoint_without_chat_is_asked_for_plain_completions(make_llm: MakeLLM) -> None:
    """The missing route is tried once; a chat is then sent whole, as a transcript."""
    seen: list[Sequence[Message]] = []

    def root(messages: Sequence[Message]) -> str:
        seen.append(messages)
        return "hello"

    chat = (
        Message(role="system", content="use llm_query"),
        Message(role="user", content="one"),
        Message(role="assistant", content="two"),
        Message(role="user", content="three"),
    )
    with SimulatedEndpoint(root=root, chat=False) as endpoint:
        llm = make_llm(endpoint.url)
        request = CallRequest(role=Role.ROOT, model="auto", messages=chat)
        results = [llm.submit(request).result() for _ in range(3)]
        assert [text_of(result) for result in results] == ["hello"] * 3
        assert seen == [chat] * 3
        assert endpoint.served.faults == {"no_chat": 1}


def test_a_wrong_address_names_the_url(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint() as endpoint:
        wrong = endpoint.url.removesuffix("/v1") + "/v2"
        kind, message = failure_of(make_llm(wrong, model="simulated-sub").submit(ask()).result())
        assert kind == FailureKind.INVALID
        assert f"{wrong}/chat/completions" in message


def test_nobody_there_is_transient_and_names_the_address(make_llm: MakeLLM) -> None:
    kind, message = failure_of(make_llm(NOWHERE, model="m").submit(ask()).result())
    assert kind == FailureKind.TRANSIENT
    assert NOWHERE in message


def test_a_key_is_sent_and_a_wrong_one_refused(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint(key=KEY) as endpoint:
        assert text_of(make_llm(endpoint.url).submit(ask()).result())
        for wrong in (None, "sk-wrong", "sk-ключ", "sk-\n"):
            result = make_llm(endpoint.url, key=wrong, model="simulated-sub").submit(ask()).result()
            assert failure_of(result)[0] == FailureKind.AUTH
            assert result.attempts == 1


def test_further_headers_are_sent_and_win_over_the_key(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint(key=KEY) as endpoint:
        llm = make_llm(endpoint.url, key="sk-wrong", headers={"Authorization": f"Bearer {KEY}"})
        assert text_of(llm.submit(ask()).result())


def test_a_header_that_an_endpoint_quotes_is_blotted_out(make_llm: MakeLLM) -> None:
    fault = Fault(kind="status", status=400, error={"message": f"no such token: {HEADER}"})
    with SimulatedEndpoint(faults=[fault]) as endpoint:
        result = make_llm(endpoint.url, headers={"X-Secret": f"Token {HEADER}"}).submit(ask()).result()
    assert failure_of(result)[1].endswith("no such token: ***")


def test_no_key_and_no_prompt_in_any_text(make_llm: MakeLLM, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the call's texts nor any log of ours, the SDK's or its transport's has them at any level."""
    caplog.set_level(logging.DEBUG)
    quoting: dict[str, str | None] = {
        "message": f"bad request by Bearer {KEY} {HEADER}: messages.0 = {PROMPT!r}"
    }
    faults = [
        *(Fault(kind="status", status=400, on=(n,), error={**quoting}) for n in range(1)),
        *(Fault(kind="status", status=500, on=(n,), error={**quoting}) for n in range(1, 3)),
        Fault(kind="status", status=401, on=(4,), error={**quoting}),
        Fault(kind="half_body", on=(5,)),
    ]
    with capture_logs() as logs, SimulatedEndpoint(faults=faults) as endpoint:
        llm = make_llm(endpoint.url, headers={"X-Secret": f"Token {HEADER}"})
        results = [llm.submit(ask()).result() for _ in range(4)]
        results.append(make_llm(NOWHERE, model="m").submit(ask()).result())
    told = [str(each) for each in [*logs, *(record.__dict__ for record in caplog.records)]]
    told += [str(result.failure) for result in results]
    assert "model_call_retried" in str(logs)
    assert not [text for text in told if KEY in text or HEADER in text or PROMPT[:20] in text]


def test_checking_an_endpoint_lists_its_models() -> None:
    with SimulatedEndpoint(key=KEY) as endpoint:
        assert check_endpoint(Endpoint(endpoint.url, SecretStr(KEY))) == ["simulated-root", "simulated-sub"]
        with pytest.raises(CallError, match="auth"):
            check_endpoint(Endpoint(endpoint.url))


def test_checking_an_endpoint_that_is_not_there_names_the_ways_on() -> None:
    with pytest.raises(Unreachable) as caught:
        check_endpoint(Endpoint(NOWHERE, SecretStr(KEY)), 5)
    for way in ("RLM_API_URL", "rlm-dist model pull", "--local", "rlm-dist demo --simulated"):
        assert way in str(caught.value)
    assert KEY not in repr(caught.value)
