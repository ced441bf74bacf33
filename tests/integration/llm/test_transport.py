"""Requests take the ways that the SDK's own client would take."""

import base64
import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from rlm_dist.llm import LLM
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.schema import Role
from tests.support.raw_endpoint import RawEndpoint, head, raw_endpoint


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
