"""Requests take the ways that the SDK's own client would take, and none is sent twice."""

import base64
import json
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm import LLM, RetryPolicy, transport
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.schema import CallRequest, CallResult, Message, Role
from tests.support.raw_endpoint import RawEndpoint, head, raw_endpoint

ONCE = RetryPolicy(attempts=1)


def _models(_: RawEndpoint) -> Iterator[bytes]:
    yield head() + json.dumps({"data": [{"id": "behind"}]}).encode()


def test_a_proxy_of_the_environment_is_used_with_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_endpoint(_models) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("//", "//me:hush@"))
        llm = LLM({Role.SUB: (Endpoint("http://endpoint.invalid/v1"),)}, call_timeout_s=30)
        with closing(llm):
            assert llm.models(Role.SUB) == ["behind"]
        (asked,) = proxy.heads
        assert asked.startswith("get http://endpoint.invalid/v1/models http/1.1")
        password = base64.b64encode(b"me:hush").decode().lower()
        assert f"proxy-authorization: basic {password}" in asked


def test_no_proxy_is_used_for_an_address_that_the_environment_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with raw_endpoint(_models) as endpoint:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        llm = LLM({Role.SUB: (Endpoint(f"{endpoint.url}/v1"),)}, call_timeout_s=30)
        with closing(llm):
            assert llm.models(Role.SUB) == ["behind"]


def test_a_redirect_takes_key_and_prompt_nowhere() -> None:
    def elsewhere(_: RawEndpoint) -> Iterator[bytes]:
        yield head(307, Location=f"{target.url}/v1/chat/completions", Content_Length="0")

    with raw_endpoint(_models) as target, raw_endpoint(elsewhere) as endpoint:
        assert asked(endpoint.url).failure is not None
        assert (len(endpoint.heads), target.heads) == (1, [])


def test_what_comes_before_the_answer_is_passed_over() -> None:
    def hints_first(_: RawEndpoint) -> Iterator[bytes]:
        yield b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        yield head() + REPLY

    with raw_endpoint(hints_first) as endpoint:
        assert completion_of(asked(endpoint.url)) == "yes"


def test_an_answer_may_come_before_the_whole_prompt_is_sent() -> None:
    """The rest of the prompt stays unsent; the connection is not used for another request."""
    with kept_endpoint(lambda n: b"HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n", reads=False) as (url, seen):
        with closing(made(url)) as llm:
            for _ in range(2):
                assert llm.submit(ask("x" * 20_000_000)).result().failure is not None
        assert seen == [1, 1]


def test_a_connection_is_used_again() -> None:
    with kept_endpoint(lambda n: KEPT) as (url, seen), closing(made(url)) as llm:
        assert [completion_of(llm.submit(ask("x")).result()) for _ in range(3)] == ["yes"] * 3
        assert seen == [3]


def test_a_request_that_a_kept_connection_swallowed_is_not_sent_again_unasked() -> None:
    """It may have been paid for: to make it again is for the retry policy, which counts it."""
    with kept_endpoint(lambda n: KEPT if n == 1 else b"") as (url, seen):
        with closing(made(url)) as llm:
            assert completion_of(llm.submit(ask("x")).result()) == "yes"
            result = llm.submit(ask("x")).result()
        assert result.failure is not None
        assert (result.failure.kind, result.attempts) == (FailureKind.TRANSIENT, 1)
        assert seen == [2]


def test_a_header_cannot_bring_a_second_one() -> None:
    with raw_endpoint(_models) as endpoint:
        headers = {"X-A": "b\r\nX-C: d"}
        llm = LLM({Role.SUB: (Endpoint(endpoint.url, headers=headers),)}, call_timeout_s=30)
        with closing(llm), pytest.raises(CallError):
            llm.models(Role.SUB)
        assert not any(endpoint.heads)  # connected, but nothing was sent


@pytest.mark.parametrize("is_known", [True, False])
def test_a_certificate_is_checked(is_known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own authorities are those of SSL_CERT_FILE, as for the SDK's client."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    if is_known:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with kept_endpoint(lambda n: KEPT, tls=context) as (url, seen):
        result = asked(url.replace("http://127.0.0.1", "https://localhost"))
        assert (result.completion is not None, seen) == (is_known, [1] if is_known else [])


def test_few_connections_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener drops those that come above its room. Here each waits for a server that says nothing."""
    monkeypatch.setattr(transport, "_MOST_CONNECTING", 3)
    with socket.create_server(("127.0.0.1", 0)) as listener, raw_endpoint(_models) as other:
        endpoints = {
            Role.SUB: (Endpoint(f"https://127.0.0.1:{listener.getsockname()[1]}"),),
            Role.ROOT: (Endpoint(other.url),),
        }
        with closing(LLM(endpoints, call_timeout_s=30, retry=ONCE)) as llm:
            calls = [llm.submit(ask(f"{number}")) for number in range(4)]
            accepted = [listener.accept()[0] for _ in range(3)]
            assert llm.models(Role.ROOT) == ["behind"]  # so the loop has got to every call
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
            listener.setblocking(True)
            accepted[0].close()
            accepted.append(listener.accept()[0])
            for each in accepted:
                each.close()
            assert all(call.result().failure is not None for call in calls)


REPLY = json.dumps(
    {
        "choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
KEPT = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(REPLY) + REPLY


def ask(text: str) -> CallRequest:
    return CallRequest(role=Role.SUB, model="m", messages=(Message(role="user", content=text),))


def made(url: str) -> LLM:
    endpoint = Endpoint(url, key=SecretStr("a-key-that-stays"))
    return LLM({Role.SUB: (endpoint,)}, call_timeout_s=30, retry=ONCE)


def asked(url: str) -> CallResult:
    """The result of one call."""
    with closing(made(url)) as llm:
        return llm.submit(ask("who?")).result()


def completion_of(result: CallResult) -> str:
    assert result.completion is not None, result.failure
    return result.completion.text


@contextmanager
def kept_endpoint(
    answer: Callable[[int], bytes], *, reads: bool = True, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[int]]]:
    """Serve with connections that are kept, until an answer is empty; yield the address and a count.

    The count is that of the POSTs of each connection. ``answer`` gets it and makes the bytes of an answer.
    Without ``reads``, it is sent while the body is still on its way.
    """
    seen: list[int] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            number, index = 0, -1
            while line := self.rfile.readline():
                lines = [line]
                while lines[-1] not in (b"\r\n", b""):
                    lines.append(self.rfile.readline())
                if line.startswith(b"GET"):  # whether the endpoint answers at all
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                    continue
                if index < 0:
                    index = len(seen)
                    seen.append(0)
                number += 1
                seen[index] = number
                lengths = [int(one[15:]) for one in lines if one.lower().startswith(b"content-length:")]
                if reads:
                    self.rfile.read(lengths[0])
                if not (said := answer(number)):
                    return
                self.wfile.write(said)
                if not reads:
                    closing_down.wait()
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def get_request(self) -> tuple[ssl.SSLSocket | object, object]:  # type: ignore[override]
            accepted, address = super().get_request()
            return (tls.wrap_socket(accepted, server_side=True) if tls else accepted), address

    closing_down = threading.Event()
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", seen
        finally:
            closing_down.set()
            server.shutdown()
            thread.join()
