"""The simulated endpoint over HTTP: in a thread, as a process, and what it counts."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from rlm_dist.schema import Message, Role
from rlm_dist.simulated import Fault, Latency, Served, SimulatedEndpoint, TokenSpeed
from tests.support.environment import PROJECT
from tests.support.waiting import wait_until


def fetch(url: str, body: object = None) -> Any:
    """GET, or POST ``body`` if given; returns the JSON of the response."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


def chat(model: str, *texts: str, system: str = "") -> dict[str, Any]:
    """A chat body: the texts come in turn from user and assistant."""
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    return {"model": model, "messages": messages}


@contextmanager
def process(*options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The endpoint as a process, and its address."""
    started = subprocess.Popen(
        [sys.executable, "-m", "rlm_dist", "simulate", "--port", "0", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert started.stdin is not None
    assert started.stdout is not None
    try:
        yield started, json.loads(started.stdout.readline())["url"]
    finally:
        started.kill()
        started.wait()
        started.stdin.close()
        started.stdout.close()


def test_it_lists_its_models() -> None:
    with SimulatedEndpoint() as endpoint:
        listed = fetch(f"{endpoint.url}/models")
        assert [each["id"] for each in listed["data"]] == ["simulated-root", "simulated-sub"]


def test_a_repl_in_the_system_prompt_makes_a_root() -> None:
    """With ``auto`` both roles ask for the first model, so the chat has to tell them apart."""
    with SimulatedEndpoint(root=lambda _: "I am root", sub=lambda _: "I am sub") as endpoint:
        said = [
            fetch(f"{endpoint.url}/chat/completions", body)["choices"][0]["message"]["content"]
            for body in (
                chat("simulated-root", "q", system="call llm_query"),
                chat("simulated-root", "what is llm_query?"),
                chat("simulated-sub", "q", system="call llm_query"),
            )
        ]
        assert said == ["I am root", "I am sub", "I am sub"]
        assert endpoint.served.by_role == {"root": 1, "sub": 2}
        assert {name: line.requests for name, line in endpoint.served.by_model.items()} == {
            "simulated-root": 2,
            "simulated-sub": 1,
        }


def test_what_it_counts_is_what_it_reports() -> None:
    with SimulatedEndpoint() as endpoint:
        bodies = [chat("simulated-sub", "a" * size, "b", "c", system="same") for size in (1, 1, 50)]
        usages = [fetch(f"{endpoint.url}/chat/completions", body)["usage"] for body in bodies]
        usages.append(
            fetch(f"{endpoint.url}/completions", {"model": "simulated-sub", "prompt": "xyz"})["usage"]
        )
        served = endpoint.served
        assert served.usage.input_tokens == sum(usage["prompt_tokens"] for usage in usages)
        assert served.usage.output_tokens == sum(usage["completion_tokens"] for usage in usages)
        cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
        assert served.usage.cached_tokens == sum(cached)
        assert cached == [0, 4, 1, 0]
        assert served == Served.model_validate(fetch(endpoint.url.replace("/v1", "/served")))


def test_latency_delays_an_answer() -> None:
    with SimulatedEndpoint(latency=Latency(0.01)) as endpoint:
        assert fetch(f"{endpoint.url}/chat/completions", chat("simulated-sub", "q"))["choices"]


def test_an_answer_takes_the_time_of_its_tokens_by_role() -> None:
    """Who gives up before the answer is done is not charged."""
    slow = TokenSpeed(first_s=600, input_per_s=1, output_per_s=1)
    speeds = {Role.ROOT: slow, Role.SUB: TokenSpeed(first_s=0, input_per_s=1e6, output_per_s=1e6)}
    with SimulatedEndpoint(speeds=speeds) as endpoint:
        url = f"{endpoint.url}/chat/completions"
        assert fetch(url, chat("simulated-sub", "q"))["choices"]
        root = json.dumps(chat("simulated-root", "q", system="llm_query")).encode()
        request = urllib.request.Request(url, root, {"Content-Type": "application/json"})
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(request, timeout=0.5)
        wait_until(lambda: endpoint.served.aborted == 1)
        assert (endpoint.served.requests, endpoint.served.answered) == (2, 1)


def test_a_prompt_of_many_mebibytes_is_taken() -> None:
    seen: list[int] = []

    def sub(messages: Sequence[Message]) -> str:
        seen.append(len(messages[-1].content))
        return "long"

    with SimulatedEndpoint(sub=sub) as endpoint:
        fetch(f"{endpoint.url}/chat/completions", chat("simulated-sub", "x" * 5_000_000))
    assert seen == [5_000_000]


def test_faults_can_be_set_while_it_runs() -> None:
    with SimulatedEndpoint() as endpoint:
        address = f"{endpoint.url}/chat/completions"
        assert fetch(address, chat("simulated-sub", "q"))["choices"]
        endpoint.faults = (Fault(kind="empty_choices"),)
        assert fetch(address, chat("simulated-sub", "q"))["choices"] == []
        endpoint.faults = ()
        assert fetch(address, chat("simulated-sub", "q"))["choices"]
        assert endpoint.served.answered == 3


def test_only_those_that_wait_are_released() -> None:
    """A client whose request goes on asks again at once; it waits, as does one that came in between."""
    with (
        SimulatedEndpoint(faults=[Fault(kind="hold")]) as endpoint,
        ThreadPoolExecutor(2) as threads,
    ):
        route = f"{endpoint.url}/chat/completions"

        def ask_twice(name: str) -> None:
            for _ in range(2):
                fetch(route, chat("simulated-sub", name))

        asked = [threads.submit(ask_twice, name) for name in ("one", "two")]
        wait_until(lambda: endpoint.served.in_flight == 2)
        endpoint.release_waiting()
        wait_until(lambda: endpoint.served.requests == 4)
        assert endpoint.served.answered == endpoint.served.in_flight == 2
        endpoint.release()
        for each in asked:
            each.result()


def test_a_connection_that_comes_as_it_ends_is_closed() -> None:
    """Otherwise its client would wait until its own timeout: here, until the socket's."""
    for _ in range(5):
        busy, go_on = threading.Event(), threading.Event()

        def answer(_: Sequence[Message], busy: threading.Event = busy, go_on: threading.Event = go_on) -> str:
            busy.set()
            assert go_on.wait(60)  # in the loop's thread, so that everything that follows comes at once
            return "late"

        with ExitStack() as life, ThreadPoolExecutor(2) as threads:
            endpoint = life.enter_context(SimulatedEndpoint(sub=answer))
            asked = threads.submit(fetch, f"{endpoint.url}/chat/completions", chat("simulated-sub", "q"))
            assert busy.wait(60)
            with socket.create_connection(
                ("127.0.0.1", urlsplit(endpoint.url).port or 0), timeout=20
            ) as late:
                ending = threads.submit(life.close)
                wait_until(ending.running)
                go_on.set()
                with suppress(ConnectionResetError):
                    assert late.recv(1) == b""
            ending.result(60)
            asked.exception(60)  # it was answered or cut off


def test_the_process_serves_and_ends_with_its_stdin() -> None:
    faults = json.dumps([{"kind": "null_content", "on": [1]}])
    with process("--exit-with-stdin", "--latency-s", "0.001", "--faults", faults) as (started, url):
        bodies = [fetch(f"{url}/chat/completions", chat("simulated-sub", "q")) for _ in range(2)]
        assert bodies[0]["choices"][0]["message"]["content"]
        assert bodies[1]["choices"][0]["message"]["content"] is None
        assert fetch(url.replace("/v1", "/served"))["requests"] == 2
        assert started.poll() is None
        assert started.stdin is not None
        started.stdin.close()
        assert started.wait(timeout=20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_on_a_signal(number: signal.Signals) -> None:
    with process() as (started, _):
        started.send_signal(number)
        assert started.wait(timeout=20) == 0
