"""The benchmark of density over a system of its own: threads that ask the endpoint in turns."""

import json
import os
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from rlm_dist.bench.density import System, held_endpoint, of_system
from rlm_dist.bench.machine import census
from rlm_dist.bench.peers.at_once import TURNS, query_of
from rlm_dist.bench.rig import environment
from rlm_dist.simulated.server import ROOT_MODEL

JOBS = 3


def asking(url: str, turns: int = TURNS) -> Callable[[int], int]:
    """Asks in threads of this process; each query has ``turns`` turns, and is right if all were answered."""

    def one(number: int) -> bool:
        messages = [{"role": "user", "content": query_of(number, "FINAL(result)")}]
        body = json.dumps({"model": ROOT_MODEL, "messages": messages}).encode()
        for _ in range(turns):
            with urllib.request.urlopen(f"{url}/chat/completions", body) as response:
                response.read()
        return True

    def ask(queries: int) -> int:
        with ThreadPoolExecutor(queries) as threads:
            return sum(threads.map(one, range(queries)))

    return ask


def test_every_query_is_live_when_the_memory_is_read() -> None:
    """Threads are counted while all wait in their second turn; every request comes once and is answered."""
    here = os.getpid()
    with held_endpoint() as endpoint:
        before = census([here]).threads
        (row,) = of_system(System({"here": [here]}, asking(endpoint.url)), endpoint, JOBS)
        assert endpoint.served.answered == endpoint.served.requests == TURNS * (1 + 2 * JOBS)
        assert endpoint.served.max_in_flight >= JOBS
    assert (row.who, row.jobs, row.right) == ("here", JOBS, 2 * JOBS)
    assert row.threads >= before + JOBS
    assert row.processes == row.idle_processes  # a thread is no process; other tests may have left some
    assert len(row.first_s) == JOBS
    assert list(row.first_s) == sorted(row.first_s)
    assert min(row.idle_mb, row.live_mb) > 1


def test_queries_that_end_too_early_end_the_benchmark() -> None:
    """Nothing would be live when the memory is read."""
    with held_endpoint() as endpoint:
        once = asking(endpoint.url, turns=1)
        three = asking(endpoint.url)
        system = System({"here": [os.getpid()]}, lambda queries: (three if queries == 1 else once)(queries))
        with pytest.raises(RuntimeError, match=f"0 of {JOBS} jobs wait for an answer in turn 2"):
            of_system(system, endpoint, JOBS)


def test_a_peer_says_how_many_answers_were_right() -> None:
    """A query that raises is not right; a replaced stdout or a folder that is gone ends nothing."""
    code = """
        import io, os, sys, tempfile
        from rlm_dist.bench.peers.at_once import ask_at_once

        def ask(context, query):
            os.getcwd()  # raises once the folder is gone
            if "query 1\\n" in query:
                raise ValueError
            if "query 2\\n" in query:
                sys.stdout = io.StringIO()
                with tempfile.TemporaryDirectory() as gone:
                    os.chdir(gone)
            return "3"

        ask_at_once(ask, 1, "FINAL(result)")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment(), input="1\n3\n2\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"ready": True}, {"right": 1}, {"right": 2}, {"right": 1},
    ]  # fmt: skip


def test_a_child_counts_with_its_threads() -> None:
    """One more process, and two threads: its own and one that it has started."""
    code = "import sys, threading\nthreading.Thread(target=sys.stdin.read).start()\nprint(flush=True)"
    before = census([os.getpid()])
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found, after = census([child.pid]), census([os.getpid()])
        child.communicate()
    assert (found.processes, found.threads) == (1, 2)
    assert after.processes == before.processes + 1
    assert found.mb > 1
