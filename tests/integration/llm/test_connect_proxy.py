"""An https endpoint behind a proxy of the environment: a tunnel by CONNECT, and in it TLS to the endpoint."""

import base64
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from rlm_dist.errors import FailureKind
from tests.integration.llm.test_transport import KEPT, ask, asked, completion_of, kept_endpoint, made


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate of localhost that the client accepts."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    return context


@contextmanager
def connect_proxy(
    answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n",
) -> Iterator[tuple[str, list[str], bytearray]]:
    """Serve tunnels; yield the address, the heads of the requests, and all that clients sent into tunnels."""
    heads: list[str] = []
    sent = bytearray()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            lines = [self.rfile.readline()]
            while lines[-1] not in (b"\r\n", b""):
                lines.append(self.rfile.readline())
            heads.append(b"".join(lines).decode())
            self.wfile.write(answer)
            if b" 200 " not in answer:
                return
            host, _, port = lines[0].split()[1].decode().rpartition(":")
            with socket.create_connection((host, int(port))) as endpoint:
                back = threading.Thread(target=pump, args=(endpoint, self.connection))
                back.start()
                pump(self.connection, endpoint, sent)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", heads, sent
        finally:
            server.shutdown()
            thread.join()


def pump(source: socket.socket, target: socket.socket, copy: bytearray | None = None) -> None:
    """Hand on what comes until it ends, and then the end."""
    with suppress(OSError):
        while data := source.recv(65536):
            if copy is not None:
                copy += data
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_requests_share_a_tunnel(variable: str, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy gets its password and the endpoint's address, and no word of a request."""
    with kept_endpoint(lambda n: KEPT, tls=tls) as (url, seen), connect_proxy() as (proxy, heads, sent):
        address = url.replace("http://127.0.0.1", "https://localhost")
        monkeypatch.setenv(variable, proxy.replace("//", "//me:hush@"))
        with closing(made(address)) as llm:
            assert [completion_of(llm.submit(ask("a-prompt")).result()) for _ in range(3)] == ["yes"] * 3
    assert seen == [3]
    (head,) = heads
    assert head.startswith(f"CONNECT {address.removeprefix('https://')} HTTP/1.1\r\n")
    assert f"proxy-authorization: basic {base64.b64encode(b'me:hush').decode()}".lower() in head.lower()
    assert "a-key-that-stays" not in head
    assert sent
    assert not any(word in sent for word in (b"a-prompt", b"a-key-that-stays", b"hush"))


def test_the_proxy_of_http_is_not_that_of_https(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    with kept_endpoint(lambda n: KEPT, tls=tls) as (url, seen):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        assert completion_of(asked(url.replace("http://127.0.0.1", "https://localhost"))) == "yes"
    assert seen == [1]


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_refused_tunnel_fails_the_call(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent to the endpoint, and the failure names no password."""
    answer = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
    with connect_proxy(answer) as (proxy, heads, _):
        monkeypatch.setenv("HTTPS_PROXY", proxy.replace("//", "//me:hush@"))
        result = asked("https://endpoint.invalid")
    assert result.failure is not None
    assert result.failure.kind in (FailureKind.TRANSIENT, FailureKind.OUTAGE), result.failure
    assert "hush" not in result.failure.message
    assert heads[0].startswith("CONNECT endpoint.invalid:443 ")
