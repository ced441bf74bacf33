"""The query that every peer answers, and how it is measured.

The root model's first reply asks all pieces of the context at once and hands in how many answers differ,
which is all of them, and how long that took. Standard library only, since every peer's memory is measured
with it.
"""

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rlm_dist.bench.dictated import query
from rlm_dist.bench.machine import cpu_s, memory_mb

CHARS = 2000
ROOT_MODEL = "simulated-root"
SUB_MODEL = "simulated-sub"
Ask = Callable[[str], str]

_POLL_S = 0.05
_CODE = """\
import time
pieces = [context[n : n + {chars}] for n in range(0, len(context), {chars})]
began = time.perf_counter()
answers = llm_query_batched(pieces)
seconds = time.perf_counter() - began
result = f"{{len(set(map(str, answers)))}} {{seconds}}"
{hand_in}"""


def query_for(hand_in: str) -> str:
    """The query; ``hand_in`` is the line of code by which a peer's root model hands in its ``result``."""
    return query(_CODE.format(chars=CHARS, hand_in=hand_in))


def measure(ask: Ask, calls: int, others: Sequence[int] = ()) -> None:
    """Ask twice, to warm up and watch the memory, then to take the time; print the figures.

    Args:
        ask: takes a context and returns what the root model handed in.
        others: processes that belong to the peer and are not below this one.
    """
    pids = [os.getpid(), *others]
    with _watched(pids) as held:
        _asking_s(ask, _context(calls), calls)
    context = _context(calls)
    used_s, began = cpu_s(pids), time.perf_counter()
    asking_s = _asking_s(ask, context, calls)
    seconds = time.perf_counter() - began
    used_s = cpu_s(pids) - used_s
    figures = {
        "calls": calls,
        "seconds": seconds,
        "asking_s": asking_s,
        "cpu_ms": used_s / calls * 1e3,
        "memory_mb": max(held),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def _context(calls: int) -> str:
    """New pieces, as many as a query asks about."""
    unique = random.random()
    return "".join(f"{unique} {n} ".ljust(CHARS, ".") for n in range(calls))


def _asking_s(ask: Ask, context: str, calls: int) -> float:
    """The seconds of the sub-calls, as measured by the model's code."""
    answered, seconds = ask(context).split()
    if int(answered) != calls:
        raise RuntimeError(f"{answered} of {calls} pieces were answered")
    return float(seconds)


@contextmanager
def _watched(pids: Sequence[int]) -> Iterator[list[float]]:
    """Yield a list that grows by what these processes hold, in MB, while the context is open."""
    held = [memory_mb(pids)]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_S):
            held.append(memory_mb(pids))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield held
    finally:
        done.set()
        watcher.join()
