"""An exchange with a receiver that does what it likes, over real connections."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rlm_dist.outbound import AddressRefused, _tls, exchange
from tests.support.canned_endpoint import Reply, canned_endpoint

LATE_S = 0.3


@contextmanager
def receiver(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that gives its first connection to ``serve``."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/hook"
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join()


def drip(start: bytes) -> Callable[[socket.socket], None]:
    """Send ``start``, then a byte now and then, for as long as somebody listens."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(start)
        gone = threading.Event()
        while not gone.wait(0.02):
            connection.sendall(b"x")

    return serve


def listen(connection: socket.socket) -> None:
    """Read until the other side goes away."""
    while connection.recv(2**16):
        pass


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n",
    ],
    ids=["nothing", "in a header", "a body without an end", "a body"],
)
def test_who_sends_a_byte_now_and_then_is_left_at_the_deadline(start: bytes) -> None:
    with (
        receiver(drip(start)) as url,
        pytest.raises(TimeoutError),
        exchange("GET", url, deadline_s=LATE_S, private=True) as response,
    ):
        response.read()


def test_who_never_answers_is_left_at_the_deadline() -> None:
    with (
        receiver(listen) as url,
        pytest.raises(TimeoutError),
        exchange("POST", url, deadline_s=LATE_S, private=True, body=b"{}"),
    ):
        pass


def test_a_handshake_that_never_ends_is_under_the_deadline_too() -> None:
    with (
        receiver(listen) as url,
        pytest.raises(TimeoutError),
        exchange("GET", url.replace("http:", "https:"), deadline_s=LATE_S, private=True),
    ):
        pass


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A new certificate of localhost and its key, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    path = tmp_path / "localhost.pem"
    made = f"req -x509 -newkey rsa:2048 -nodes -keyout {path} -out {path} -subj /CN=localhost"
    subprocess.run(
        [openssl, *made.split(), "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True
    )
    return path


def test_over_tls_the_certificate_must_be_that_of_the_named_host(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(certificate)

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), own.wrap_socket(connection, server_side=True) as secure:
            secure.recv(2**16)
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def answer(host: str) -> bytes:
        with receiver(serve) as url:
            named = url.replace("http:", "https:").replace("127.0.0.1", host)
            with exchange("GET", named, deadline_s=30, private=True) as response:
                return response.read()

    with pytest.raises(ssl.SSLCertVerificationError):  # nobody vouches for it
        answer("localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    _tls.cache_clear()
    assert answer("localhost") == b"ok"
    with pytest.raises(ssl.SSLCertVerificationError):
        answer("127.0.0.1")
    _tls.cache_clear()


def test_no_connection_is_made_to_a_private_address() -> None:
    with (
        canned_endpoint(lambda _: Reply(200, "")) as server,
        pytest.raises(AddressRefused),
        exchange("GET", f"{server.url}/x", deadline_s=5, private=False),
    ):
        pass
    assert server.requests == []


def test_a_redirect_is_an_answer_and_not_followed() -> None:
    with canned_endpoint(lambda _: Reply(302, "", {"Location": "/other"})) as server:
        url = f"{server.url}/a path?q=ü#part"
        headers = {"X-Own": "1", "Content-Type": "application/json"}
        with exchange(
            "POST", url, deadline_s=30, private=True, body=b'{"a": 1}', headers=headers
        ) as response:
            assert response.status == 302
    ((path, received, body),) = server.requests
    assert (path, body, received["x-own"]) == ("/a%20path?q=%C3%BC", {"a": 1}, "1")
    assert received["host"] == server.url.removeprefix("http://")


@pytest.mark.parametrize(
    "answer", [b"nonsense\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"]
)
def test_who_speaks_no_http_is_an_error_of_the_network(answer: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(2**16)
        connection.sendall(answer)

    with (
        receiver(serve) as url,
        pytest.raises(OSError, match=r"."),
        exchange("GET", url, deadline_s=30, private=True),
    ):
        pass
