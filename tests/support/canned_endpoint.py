"""An HTTP endpoint whose answers a test writes out, byte for byte."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """One response; a body that is no text is sent as JSON."""

    status: int
    body: object
    headers: Mapping[str, str] = {}


class ReceivedRequest(NamedTuple):
    """One request: its path with the query, its headers in lower case, and its JSON body."""

    path: str
    headers: Mapping[str, str]
    body: Any


class CannedEndpoint(NamedTuple):
    """The address of the server, without a path, and the requests that it got so far."""

    url: str
    requests: list[ReceivedRequest]


@contextmanager
def canned_endpoint(reply: Callable[[ReceivedRequest], Reply]) -> Iterator[CannedEndpoint]:
    """Serve ``reply`` for each request; it is called by one thread for each connection."""
    requests: list[ReceivedRequest] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            requests.append(ReceivedRequest(self.path, headers, json.loads(data) if data else None))
            status, body, extra = reply(requests[-1])
            sent = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(sent)), **extra}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield CannedEndpoint(f"http://127.0.0.1:{server.server_port}", requests)
        finally:
            server.shutdown()
            thread.join()
