"""How long a job with a very long reply keeps the other threads of its process from running.

``python -m rlm_dist.bench.long_reply URL ROUNDS`` does in one process what a root worker does with a reply:
it sends the request, reads, packs and parses the reply, and sends the chat with it. Meanwhile a thread ticks
every millisecond. What counts is the longest time between two ticks, in seconds and in CPU seconds of the
process; the latter leaves out what others of a busy machine took. Replies are long and short in turns.
"""

import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from rlm_dist.bench.rig import measured
from rlm_dist.bench.rows import Figure, Group
from rlm_dist.engine.parsing import parse
from rlm_dist.llm import LLM
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.schema import CallRequest, CallResult, Message, Role
from rlm_dist.simulated import SimulatedEndpoint
from rlm_dist.simulated.server import ROOT_MODEL
from rlm_dist.worker.call_ids import CallIds

_TICK_S = 0.001
_SYSTEM = "Call llm_query."  # by its name the endpoint knows a root model's chat
_CODE = "```repl\nFINAL(1)\n```"
_LINE = 'Some words of a long reply, with "quotes", Straße and x = f(y).\n'


class Held(NamedTuple):
    """The longest time between two ticks of another thread: seconds, and CPU seconds of the process."""

    seconds: float
    cpu_s: float


class _Ticks(threading.Thread):
    """Notes its longest time between two ticks, from the first ``restart`` on."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self.longest = Held(0.0, 0.0)

    def restart(self) -> None:
        """Forget what was noted."""
        self.longest = Held(0.0, 0.0)

    def run(self) -> None:
        """Tick until ``stop``."""
        last = time.perf_counter(), time.process_time()
        while not self._over.wait(_TICK_S):
            now = time.perf_counter(), time.process_time()
            self.longest = Held(
                max(self.longest.seconds, now[0] - last[0]), max(self.longest.cpu_s, now[1] - last[1])
            )
            last = now

    def stop(self) -> None:
        """End, and wait for the end."""
        self._over.set()
        self.join()


def figures(_: Path, *, megabytes: int, rounds: int) -> Iterator[Figure]:
    """The row of ``bench speed``."""
    long = _LINE * (megabytes * 10**6 // len(_LINE)) + _CODE

    def reply(messages: Sequence[Message]) -> str:
        return long if messages[-1].content.startswith("long") else _CODE

    with SimulatedEndpoint(root=reply) as endpoint:
        found = measured("long_reply", endpoint.url, rounds)
    longs, shorts = ([Held(*pair) for pair in found[name]] for name in ("long", "short"))
    held = statistics.median(each.seconds for each in longs)
    other = statistics.median(each.seconds for each in shorts)
    yield Figure(
        group=Group.DENSITY,
        what=f"a reply of {megabytes} MB in a root worker's process: the longest hold of another thread",
        value=held * 1e3,
        unit="ms",
        aim="≤ 100",
        parts={
            "beside a short reply": other * 1e3,
            "ratio": held / other,
            "CPU ms in it": statistics.median(each.cpu_s for each in longs) * 1e3,
            "CPU ms beside a short reply": statistics.median(each.cpu_s for each in shorts) * 1e3,
        },
    )


def main(url: str, rounds: int) -> None:
    """Print what was held in each round, by the length of the reply."""
    ticks = _Ticks()
    ticks.start()
    found: dict[str, list[Held]] = {"long": [], "short": []}
    with closing(LLM({Role.ROOT: (Endpoint(url),)}, call_timeout_s=600)) as llm:
        _take_turn(llm, "short")  # loads what is loaded with the first call
        for _ in range(rounds):
            for name, held in found.items():
                ticks.restart()
                _take_turn(llm, name)
                held.append(ticks.longest)
    ticks.stop()
    sys.stdout.write(json.dumps(found) + "\n")


def _take_turn(llm: LLM, query: str) -> None:
    """What a root worker does with a reply, and with the next request, in which the reply is."""
    asked = (Message(role="system", content=_SYSTEM), Message(role="user", content=query))
    stored = _result(llm, asked).model_dump_json()
    completion = CallResult.model_validate_json(stored).completion
    assert completion is not None
    assert parse(completion.text).blocks
    answered = Message(role="assistant", content=completion.text)
    _result(llm, (*asked, answered, Message(role="user", content="go on")))


def _result(llm: LLM, messages: tuple[Message, ...]) -> CallResult:
    request = CallRequest(role=Role.ROOT, model=ROOT_MODEL, messages=messages)
    CallIds("job").name(request)
    return llm.submit(request).result()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
