"""HTTP requests to addresses that somebody else chose: a webhook, or a URL in a batch file.

Invariant: a host is resolved once; unless private addresses are allowed, each of its addresses is checked,
and the connection goes to a checked address, not to the name again. Redirects are not followed, no proxy of
the environment is used, and the whole exchange has one deadline, however slowly the other side sends.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from urllib.parse import quote, urlsplit

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_PROTOCOLS = ipaddress.IPv4Network("192.0.0.0/24")  # Python's releases differ in it
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNQUOTED = "%/:=&?~+!$,;'@()*[]"
_PORTS = {"http": 80, "https": 443}


class AddressRefused(OSError):
    """The host has an address that is not public."""

    def __init__(self) -> None:
        super().__init__("its address is private, loopback or link-local")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also if it wraps an IPv4 address."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour
        if wrapped is None and ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
        if ip not in _GLOBAL_UNICAST:
            return False
    elif ip in _PROTOCOLS:
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def resolve(host: str, port: int, *, private: bool) -> list[tuple[str, int]]:
    """The addresses of a host, as the operating system resolves it.

    Raises:
        AddressRefused: one of them is not public, and ``private`` is False.
        OSError: the host cannot be resolved.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("the name of the host cannot be resolved") from None
    addresses = list(dict.fromkeys((str(each[4][0]), port) for each in found))
    if not private and not all(is_public(address) for address, _ in addresses):
        raise AddressRefused
    return addresses


@contextmanager
def exchange(
    method: str,
    url: str,
    *,
    deadline_s: float,
    private: bool,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """Send a request and yield the response, whose body is read, if at all, before the deadline too.

    The look-up of the host's name has only the operating system's own timeout.

    Raises:
        TimeoutError: the deadline is over.
        AddressRefused: as ``resolve``.
        OSError: the host cannot be reached, or does not speak HTTP.
    """
    clock = _Deadline(deadline_s)
    try:
        connection = _connect(url, clock, private=private)
        try:
            connection.request(method, _target(url), body=body, headers=dict(headers or {}))
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        if clock.over:
            raise TimeoutError("took too long") from None
        if isinstance(error, OSError):
            raise
        raise OSError(f"the exchange failed ({type(error).__name__})") from None
    finally:
        clock.stop()
    if clock.over:  # a body that ends with the connection looks whole
        raise TimeoutError("took too long")


class _Deadline:
    """Shuts a socket down when the time is over, which wakes the thread that waits for it."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._timer: threading.Timer | None = None
        self.over = False

    @property
    def remaining_s(self) -> float:
        remaining_s = self._end - time.monotonic()
        if remaining_s <= 0:
            self.over = True
            raise TimeoutError("took too long")
        return remaining_s

    def watch(self, connected: socket.socket) -> None:
        self.stop()
        connected.settimeout(self.remaining_s)
        self._timer = threading.Timer(self.remaining_s, self._cut, [connected])
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _cut(self, connected: socket.socket) -> None:
        self.over = True
        with suppress(OSError):
            socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _connect(url: str, clock: _Deadline, *, private: bool) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    if parts.scheme == "http":
        connection = http.client.HTTPConnection(host, port)
    else:
        connection = http.client.HTTPSConnection(host, port, context=_tls())
    connected = _first_that_answers(resolve(host, port, private=private), clock)
    try:
        clock.watch(connected)
        if parts.scheme == "https":
            # The handshake comes after ``watch``, so that it is under the deadline too.
            connected = _tls().wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
            clock.watch(connected)
            connected.do_handshake()
    except BaseException:
        connected.close()
        raise
    connection.sock = connected
    return connection


def _first_that_answers(addresses: list[tuple[str, int]], clock: _Deadline) -> socket.socket:
    last: OSError = OSError("the host has no address")
    for address in addresses:
        try:
            return socket.create_connection(address, timeout=clock.remaining_s)
        except OSError as error:
            last = error
    raise last


@lru_cache(1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _target(url: str) -> str:
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return quote(f"{parts.path or '/'}{query}", safe=_UNQUOTED)
