"""Whatever an endpoint sends, a call ends with few bytes held: too large, too deep, too slow, compressed."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm import LLM, RetryPolicy
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.schema import CallRequest, CallResult, Message, Role
from tests.support.raw_endpoint import Pieces, RawEndpoint, head, raw_endpoint

MIB = 2**20
REPLY = json.dumps({"choices": [{"message": {"content": "here"}, "finish_reason": "stop"}]}).encode()
BLANKS = b" " * MIB


def make(url: str, timeout_s: float = 60) -> LLM:
    """A model client that would try three times."""
    endpoints = dict.fromkeys(Role, (Endpoint(f"{url}/v1", model="m"),))
    return LLM(endpoints, call_timeout_s=timeout_s, retry=RetryPolicy(attempts=3, base_s=0.001))


def call(pieces: Pieces, *, timeout_s: float = 60) -> tuple[CallResult, RawEndpoint]:
    """The result of one sub-call to such an endpoint."""
    with raw_endpoint(pieces) as endpoint:
        llm = make(endpoint.url, timeout_s)
        request = CallRequest(role=Role.SUB, model="m", messages=(Message(role="user", content="what"),))
        try:
            return llm.submit(request).result(timeout=120), endpoint
        finally:
            llm.close()


def answering(body: bytes, status: int = 200, **headers: str) -> Pieces:
    return lambda _: iter((head(status, **headers), body))


def text_of(result: CallResult) -> str:
    assert result.completion is not None, result.failure
    return result.completion.text


def refused(result: CallResult, words: str) -> None:
    """The call has failed, and was not tried again: it was probably paid for."""
    assert result.failure is not None
    assert words in result.failure.message
    assert (result.failure.kind, result.attempts) == (FailureKind.NO_ANSWER, 1)


@cache
def bomb(size: int, wbits: int) -> bytes:
    """``size`` blanks, compressed."""
    squeeze = zlib.compressobj(9, wbits=wbits)
    parts = [squeeze.compress(BLANKS) for _ in range(size // MIB)]
    return b"".join([*parts, squeeze.flush()])


@pytest.fixture
def peak() -> Iterator[Callable[[], float]]:
    """The most memory held at once by Python since the start of the test, in MiB."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1] / MIB
    tracemalloc.stop()


def test_no_compression_is_asked_for() -> None:
    result, endpoint = call(answering(REPLY))
    assert text_of(result) == "here"
    assert "\r\naccept-encoding: identity\r\n" in endpoint.heads[0]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(REPLY)),
        ("X-GZIP", gzip.compress(REPLY)),
        ("deflate", zlib.compress(REPLY)),
        ("identity", REPLY),
        ("", REPLY),
    ],
    ids=["gzip", "its old name", "deflate", "identity", "none"],
)
def test_a_server_may_compress_unasked(encoding: str, body: bytes) -> None:
    assert text_of(call(answering(body, Content_Encoding=encoding))[0]) == "here"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x" * 5000])
def test_a_compression_that_is_not_read_is_named(encoding: str) -> None:
    result, _ = call(answering(REPLY, Content_Encoding=encoding))
    refused(result, f"it is compressed with {encoding[:40]!r}, which was not asked for")


@pytest.mark.parametrize(
    "body", [b"this is not gzip", gzip.compress(REPLY)[:30]], ids=["no gzip", "half of one"]
)
def test_damaged_compression_is_tried_again(body: bytes) -> None:
    result, _ = call(answering(body, Content_Encoding="gzip"))
    assert result.failure is not None
    assert (result.failure.kind, result.attempts) == (FailureKind.TRANSIENT, 3)


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15)])
def test_a_bomb_is_read_to_the_bound(encoding: str, wbits: int, peak: Callable[[], float]) -> None:
    body = bomb(1024 * MIB, wbits)
    assert len(body) < 2 * MIB
    result, _ = call(answering(body, Content_Encoding=encoding))
    refused(result, "larger than 64 MiB")
    assert peak() < 200


def test_text_is_read_to_the_bound(peak: Callable[[], float]) -> None:
    def pieces(_: RawEndpoint) -> Iterator[bytes]:
        yield head()
        yield REPLY[:-1]
        for _number in range(200):
            yield BLANKS

    result, endpoint = call(pieces)
    refused(result, "larger than 64 MiB")
    assert endpoint.sent < 100 * MIB
    assert peak() < 200


def test_few_long_replies_are_held_at_once(peak: Callable[[], float]) -> None:
    request = CallRequest(role=Role.SUB, model="m", messages=(Message(role="user", content="what"),))
    with raw_endpoint(endless_stream) as endpoint:
        llm = make(endpoint.url)
        try:
            for future in [llm.submit(request) for _ in range(12)]:
                refused(future.result(timeout=120), "larger than 64 MiB")
        finally:
            llm.close()
    assert peak() < 5 * 64 + 50


def test_a_reply_below_the_bound_is_whole() -> None:
    body = json.dumps({"choices": [{"message": {"content": "a" * (20 * MIB)}}]}).encode()
    assert len(text_of(call(answering(body))[0])) == 20 * MIB


def endless_stream(_: RawEndpoint) -> Iterator[bytes]:
    yield head(Content_Type="text/event-stream")
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "' + b"a" * 1000 + b'"}}]}\n\n'
    while True:
        yield event * 1000


def test_a_stream_without_an_end_is_read_to_the_bound(peak: Callable[[], float]) -> None:
    refused(call(endless_stream)[0], "larger than 64 MiB")
    assert peak() < 200


@pytest.mark.parametrize("line", [b"data: {}\n\n", b":\n", b"\n", b"data:\n"])
def test_a_stream_of_tiny_lines_is_not_taken_apart(line: bytes, peak: Callable[[], float]) -> None:
    body = b'data: {"choices": []}\n\n' + line * (40 * MIB // len(line))
    refused(call(answering(body))[0], "more than 500,000 lines")
    assert peak() < 400


DEEP = b"[" * 50_000 + b"]" * 50_000
SHALLOW = b'{"a":' * 101 + b"1" + b"}" * 101


@pytest.mark.parametrize("value", [DEEP, SHALLOW, b"[" * 500_000], ids=["deep", "101 levels", "unclosed"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": %b}',
        b'{"choices": [{"message": {"content": "here"}}], "usage": %b}',
        b'{"error": %b}',
        b'data: {"choices": %b}\n\ndata: [DONE]\n\n',
    ],
    ids=["choices", "usage", "error", "stream"],
)
def test_deep_json_is_not_parsed(body: bytes, value: bytes) -> None:
    refused(call(answering(body.replace(b"%b", value)))[0], "nested more than 100 levels deep")


def test_brackets_in_a_text_are_no_levels() -> None:
    content = '[{"' * 5000 + "\\" * 7
    body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
    assert text_of(call(answering(body))[0]) == content


@pytest.mark.parametrize("item", [b"{}", b"[]", b'""', b"1"])
def test_many_values_are_not_parsed(item: bytes, peak: Callable[[], float]) -> None:
    body = b'{"choices": [' + (item + b",") * 10_000_000 + b"1]}"
    refused(call(answering(body))[0], "more than 1,000,000 values")
    assert peak() < 300


def test_a_million_choices_are_one_answer_at_most() -> None:
    body = b'{"choices": [{"message": {"content": "here"}}' + b",{}" * 400_000 + b"]}"
    assert text_of(call(answering(body))[0]) == "here"


def test_an_error_is_cut_and_keeps_its_kind(peak: Callable[[], float]) -> None:
    def pieces(_: RawEndpoint) -> Iterator[bytes]:
        yield head(401)
        yield b"that key is not one of ours "
        while True:
            yield BLANKS

    result, endpoint = call(pieces)
    assert result.failure is not None
    assert result.failure.kind == FailureKind.AUTH
    assert "that key is not one of ours" in result.failure.message
    assert endpoint.sent < 20 * MIB
    assert peak() < 50


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(DEEP, ""), (b'{"error": ' + DEEP + b"}", ""), (bomb(256 * MIB, 31), "gzip"), (REPLY, "br")],
    ids=["deep", "deep below error", "bomb", "unknown"],
)
def test_an_error_that_cannot_be_read_is_still_that_error(
    body: bytes, encoding: str, peak: Callable[[], float]
) -> None:
    result, _ = call(answering(body, 403, Content_Encoding=encoding))
    assert result.failure is not None
    assert (result.failure.kind, result.attempts) == (FailureKind.AUTH, 1)
    assert peak() < 50


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (BLANKS * 70, ""),
        (bomb(256 * MIB, 31), "gzip"),
        (b'{"data": ' + DEEP + b"}", ""),
        (b'{"error": ' + DEEP + b"}", ""),
        (json.dumps({"data": [{"id": "m" * MIB}]}).encode(), ""),
    ],
    ids=["text", "bomb", "deep", "deep error", "long name"],
)
def test_the_list_of_models_is_bounded(body: bytes, encoding: str, peak: Callable[[], float]) -> None:
    with raw_endpoint(answering(body, Content_Encoding=encoding)) as endpoint:
        llm = make(endpoint.url)
        try:
            with pytest.raises(CallError) as error:
                llm.models(Role.SUB)
        finally:
            llm.close()
    assert len(str(error.value)) < 500
    assert peak() < 300


@pytest.mark.parametrize(
    "headers",
    [b"X-Long: " + b"a" * (10 * MIB), b"\r\n".join(b"X-%d: a" % number for number in range(100_000))],
    ids=["long", "many"],
)
def test_the_headers_are_bounded(headers: bytes, peak: Callable[[], float]) -> None:
    result, _ = call(lambda _: iter((b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n", REPLY)))
    refused(result, "the headers of the response")
    assert "aaaa" not in str(result.failure)
    assert peak() < 50


def test_a_body_that_drips_ends_at_the_deadline() -> None:
    def pieces(endpoint: RawEndpoint) -> Iterator[bytes]:
        yield head()
        if "/models" in endpoint.heads[-1]:  # asked after a time-out: whether it answers at all
            return
        while not endpoint.closing.wait(0.01):
            yield b" "

    result, _ = call(pieces, timeout_s=0.3)
    assert result.failure is not None
    assert result.failure.kind == FailureKind.TIMEOUT


def test_cookies_are_not_kept() -> None:
    def pieces(endpoint: RawEndpoint) -> Iterator[bytes]:
        yield head(Set_Cookie=f"c{len(endpoint.heads)}=1; Path=/")
        yield REPLY

    with raw_endpoint(pieces) as endpoint:
        llm = make(endpoint.url.replace("127.0.0.1", "localhost"))  # an IP address has no cookies
        request = CallRequest(role=Role.SUB, model="m", messages=(Message(role="user", content="what"),))
        try:
            for _ in range(3):
                assert text_of(llm.submit(request).result(timeout=60)) == "here"
        finally:
            llm.close()
        assert not [head for head in endpoint.heads if "cookie:" in head]
