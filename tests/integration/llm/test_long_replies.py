"""A long reply is read in a thread of its own: the event loop, and so every other call, goes on."""

import json
import threading
from contextlib import closing
from typing import Any

import pytest

from rlm_dist.llm import LLM, connection, wire
from rlm_dist.llm.connection import LONG_CHARS
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.schema import Role
from tests.integration.llm.test_transport import ask, completion_of, kept_endpoint


def answer(text: str) -> bytes:
    body = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_other_calls_end_while_a_long_reply_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, others_ended = threading.Event(), threading.Event()
    read_reply = wire.read_reply

    def slow(body: str, *args: Any, **kwargs: Any) -> Any:
        if len(body) > LONG_CHARS:
            reading.set()
            assert others_ended.wait(30)
        return read_reply(body, *args, **kwargs)

    monkeypatch.setattr(connection, "read_reply", slow)
    long = "a long reply " * (LONG_CHARS // 10)
    with (
        kept_endpoint(lambda n: answer(long)) as (far, _),
        kept_endpoint(lambda n: answer("short")) as (near, _),
    ):
        endpoints = {Role.ROOT: (Endpoint(far),), Role.SUB: (Endpoint(near),)}
        with closing(LLM(endpoints, call_timeout_s=60)) as llm:
            call = llm.submit(ask("x").model_copy(update={"role": Role.ROOT}))
            try:
                assert reading.wait(30)
                assert completion_of(llm.submit(ask("x")).result(30)) == "short"
            finally:
                others_ended.set()
            assert completion_of(call.result(30)) == long
