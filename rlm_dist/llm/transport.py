"""Sends the requests of one endpoint over aiohttp's connections, with little kept for each that waits.

A call waits for seconds or minutes, and a worker has thousands that wait. The SDK's client, and the session
of aiohttp, build headers, address and objects of their own for each request, and keep them and the body until
the answer is there: a quarter of a waiting call's memory, and of its CPU time. Here the head of a request is
made once for each route, and its body is let go when it is sent. The connections, with names, proxies, TLS
and their reuse, are those of aiohttp's connector; the SDK knows the proxies and certificates.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import httpx2
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

_CHUNK_BYTES = 16 * 1024
# Connections that are being made at once. A listener has room for about as many (128 is usual): it drops what
# comes above, which is tried again after a second. And each holds more memory than a request that waits.
_MOST_CONNECTING = 128
_NO_HEADER_CHAR = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Transport:
    """Sends to addresses below ``url``; used only in one event loop. ``connect_s`` bounds each connection."""

    def __init__(
        self, http: httpx2.AsyncClient, url: str, headers: Mapping[str, str], *, connect_s: float
    ) -> None:
        self._http = http
        self._url = url
        self._headers = CIMultiDict(headers)
        # Whoever sends a request bounds its whole time: calls of the flex tier may take longer than others.
        self._timeouts = aiohttp.ClientTimeout(sock_connect=connect_s)
        self._connecting = asyncio.Semaphore(_MOST_CONNECTING)
        self._routes: dict[tuple[str, str], _Route] = {}
        self._proxy: URL | None = None
        self._proxy_headers: CIMultiDict[str] = CIMultiDict()
        self._connector: aiohttp.TCPConnector | None = None

    async def send(self, address: str, content: bytes | None) -> httpx2.Response:
        """The response to a POST of ``content``, or to a GET, its body unread; redirects are not followed.

        No request is sent twice, whatever becomes of its connection.

        Raises:
            aiohttp.ClientError, OSError, ValueError, httpx2.InvalidURL: whatever was wrong with the address
                or the way.
        """
        connector = self._connector or self._open()
        method = "GET" if content is None else "POST"
        route = self._routes.get((method, address)) or self._route(method, address)
        try:
            async with self._connecting:
                connection = await connector.connect(route.request, [], self._timeouts)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError("no connection in time") from error
        try:
            protocol = connection.protocol
            assert protocol is not None
            protocol.set_response_params(read_until_eof=True, auto_decompress=False)
            if protocol.transport is None:
                raise aiohttp.ServerDisconnectedError
            protocol.transport.writelines(route.pieces(content))
            del content  # the transport holds it until it is sent
            message, payload = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:  # only says that more is to come
                message, payload = await protocol.read()
        except HttpProcessingError as error:
            _drop(connection)
            info = route.request.request_info
            raise aiohttp.ClientResponseError(info, (), status=error.code, message=error.message) from error
        except BaseException:
            _drop(connection)
            raise
        return httpx2.Response(
            message.code, headers=message.raw_headers, stream=_ArrivingBody(connection, payload)
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._connector is not None:
            await self._connector.close()
        await self._http.aclose()

    def _open(self) -> aiohttp.TCPConnector:
        transport: Any = self._http._transport_for_url(httpx2.URL(self._url))
        proxy = transport.proxy
        if proxy is not None:
            self._proxy = URL(str(proxy.url))
            self._proxy_headers.extend(proxy.headers)
            if proxy.auth:  # not in the address, which aiohttp's errors name
                self._proxy_headers["Proxy-Authorization"] = aiohttp.encode_basic_auth(*proxy.auth)
        self._connector = aiohttp.TCPConnector(
            limit=0,  # the slots bound the requests; those that waited for a connection would be seen nowhere
            keepalive_timeout=transport.limits.keepalive_expiry,
            ssl=transport.ssl_context,
        )
        return self._connector

    def _route(self, method: str, address: str) -> "_Route":
        url = URL(str(httpx2.URL(address)))
        headers = CIMultiDict(self._proxy_headers)
        request = aiohttp.ClientRequest(
            method, url, headers=self._headers, proxy=self._proxy, proxy_headers=headers
        )
        request.headers.pop("Content-Length", None)  # of the empty body that it has
        if self._proxy is not None and request.is_ssl():
            # aiohttp would add it with the first tunnel, which is then not found for the next request.
            headers["Host"] = request.headers["Host"]
        else:
            request.headers.extend(headers)
        route = self._routes[method, address] = _Route(request)
        return route


class _Route:
    """What the requests to one address have in common; ``request`` says how its connections are made."""

    def __init__(self, request: aiohttp.ClientRequest) -> None:
        self.request = request
        self._head = b""

    def pieces(self, content: bytes | None) -> list[bytes]:
        """A request as bytes."""
        self._head = self._head or self._made_head()
        if content is None:
            return [self._head, b"\r\n"]
        return [self._head, b"Content-Length: %d\r\n\r\n" % len(content), content]

    def _made_head(self) -> bytes:
        request = self.request
        through_proxy = request.proxy is not None and not request.is_ssl()
        target = str(request.url.with_user(None)) if through_proxy else request.url.raw_path_qs
        lines = [f"{request.method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        if any(map(_NO_HEADER_CHAR.search, lines)):
            raise ValueError("a header contains a control character")
        return "".join(f"{line}\r\n" for line in lines).encode()


class _ArrivingBody(httpx2.AsyncByteStream):
    """The body of a response, in chunks as they arrive; a connection is used again if its body was whole."""

    def __init__(self, connection: Any, payload: aiohttp.StreamReader) -> None:
        self._connection = connection
        self._payload = payload

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._payload.iter_chunked(_CHUNK_BYTES):
            yield chunk

    async def aclose(self) -> None:
        transport = self._connection.transport
        if transport is not None and transport.get_write_buffer_size():  # the answer came before the end
            _drop(self._connection)
        self._connection.release()


def _drop(connection: Any) -> None:
    """Close a connection at once: to close it in order waits until what is unsent is taken."""
    if connection.protocol is not None:
        connection.protocol.abort()
    connection.close()
