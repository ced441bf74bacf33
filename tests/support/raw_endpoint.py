"""An HTTP endpoint that sends what a test yields, byte for byte, for as long as the client reads."""

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class RawEndpoint:
    """The address of the server, without a path, what it was asked, and the bytes that it could send."""

    url: str = ""
    heads: list[str] = field(default_factory=list)
    sent: int = 0
    closing: threading.Event = field(default_factory=threading.Event)  # a reply without an end waits for it


Pieces = Callable[[RawEndpoint], Iterator[bytes]]


@contextmanager
def raw_endpoint(pieces: Pieces) -> Iterator[RawEndpoint]:
    """Answer each request with ``pieces``, the head of the response included, and close the connection."""
    endpoint = RawEndpoint()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n") and (line := self.rfile.readline()):
                head += line
            endpoint.heads.append(head.decode().lower())
            lengths = [line for line in endpoint.heads[-1].splitlines() if line.startswith("content-length:")]
            self.rfile.read(int(lengths[0].partition(":")[2]) if lengths else 0)
            with suppress(OSError):  # the client has read enough
                for piece in pieces(endpoint):
                    self.wfile.write(piece)
                    endpoint.sent += len(piece)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        endpoint.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield endpoint
        finally:
            endpoint.closing.set()
            server.shutdown()
            thread.join()


def head(status: int = 200, **headers: str) -> bytes:
    """The head of a response; underscores in a header's name are dashes."""
    lines = [f"HTTP/1.1 {status} X", *(f"{name.replace('_', '-')}: {text}" for name, text in headers.items())]
    return ("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode()
