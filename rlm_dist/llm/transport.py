"""Sends the requests of one endpoint over aiohttp, with no more kept for each that waits than is needed.

The SDK's client would build the headers, the address and objects of its own for each request, and keep them
until the answer is there: a quarter of the memory of a call in flight. Here they are made once. What the
SDK knows of proxies and certificates still holds, as its transports make the sessions.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import httpx2
from multidict import CIMultiDict
from yarl import URL

_CHUNK_BYTES = 16 * 1024


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
        self._urls: dict[str, URL] = {}
        self._proxy: dict[str, Any] = {}
        self._session: aiohttp.ClientSession | None = None

    async def send(self, address: str, content: bytes | None) -> httpx2.Response:
        """The response to a POST of ``content``, or to a GET, its body unread; redirects are not followed.

        Raises:
            aiohttp.ClientError, OSError, httpx2.InvalidURL: whatever was wrong with the address or the way.
        """
        if address not in self._urls:
            self._urls[address] = URL(str(httpx2.URL(address)))
        session = self._session or self._open()
        response = await session.request(
            "GET" if content is None else "POST",
            self._urls[address],
            headers=self._headers,
            data=content,
            allow_redirects=False,
            auto_decompress=False,
            timeout=self._timeouts,
            **self._proxy,
        )
        return httpx2.Response(response.status, headers=response.raw_headers, stream=_ArrivingBody(response))

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
        await self._http.aclose()

    def _open(self) -> aiohttp.ClientSession:
        transport: Any = self._http._transport_for_url(httpx2.URL(self._url))
        proxy = transport.proxy
        if proxy is not None:
            address = URL(str(proxy.url))
            if proxy.auth:
                address = address.with_user(proxy.auth[0]).with_password(proxy.auth[1])
            self._proxy = {"proxy": address, "proxy_headers": proxy.headers}
        connector = aiohttp.TCPConnector(
            limit=0,  # the slots bound the requests; those that waited for a connection would be seen nowhere
            keepalive_timeout=transport.limits.keepalive_expiry,
            ssl=transport.ssl_context,
        )
        # An endpoint could heap up cookies.
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


class _ArrivingBody(httpx2.AsyncByteStream):
    """The body of a response, in chunks as they arrive."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.content.iter_chunked(_CHUNK_BYTES):
            yield chunk

    async def aclose(self) -> None:
        self._response.release()
        await self._response.wait_for_close()
