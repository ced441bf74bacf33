"""What the sandbox costs: ``python -m tests.benchmarks.sandbox [LEVEL...]``, next to the alternatives.

Every number is printed with its ratio to the plainest equivalent on the same machine at the same time: a
start next to ``python -c pass``; a call next to the same message through a pipe to a plain process; a context
next to a fresh process that reads it as a line of JSON. The ``exec`` rows run model-written code in the
worker's own process, with nothing between it and the keys; what isolation costs is the difference from these.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from rlm_dist.contexts.encoding import encode
from rlm_dist.sandbox.fork_server_start import start_at
from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.sandbox.level import Level
from rlm_dist.schema import Answer, Message
from tests.support.sandboxes import descends, held_bytes, peak_bytes, process_of

STARTS = 40
CALLS = 1000
CROWD = 50
MEGABYTES = (1, 100, 500)
_MB = 1_000_000
_ECHO = "import sys\nfor line in sys.stdin: sys.stdout.write(line); sys.stdout.flush()"
_READ = "import json, sys\nx = json.loads(sys.stdin.readline())\nprint(len(x))"

MANY_CALLS = f"""
import time, statistics
took = []
for _ in range({CALLS}):
    began = time.perf_counter()
    llm_query("q")
    took.append(time.perf_counter() - began)
median = statistics.median(took)
"""


def answered(prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
    """A sub model that answers at once."""
    return [Answer(call_id="c", text="answer") for _ in prompts]


def seconds(action: Callable[[], object]) -> float:
    """How long an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def plain_start() -> float:
    """Run a Python process that does nothing."""
    return seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))


def plain_calls() -> float:
    """Send one line to a plain process and read its answer."""
    command = [sys.executable, "-c", _ECHO]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as echo:
        assert echo.stdin is not None
        assert echo.stdout is not None
        line = json.dumps({"op": "query", "prompts": [[{"role": "user", "content": "q"}]]}).encode() + b"\n"
        took = []
        for _ in range(CALLS):
            began = time.perf_counter()
            echo.stdin.write(line)
            echo.stdout.readline()
            took.append(time.perf_counter() - began)
        echo.stdin.close()
    return statistics.median(took)


def plain_context(text: str) -> float:
    """Give a fresh process the context as a line of JSON."""
    return seconds(
        lambda: subprocess.run(
            [sys.executable, "-c", _READ], input=json.dumps(text), text=True, check=True, capture_output=True
        )
    )


def exec_here(code: str, names: dict[str, object]) -> dict[str, object]:
    """Run code in this process, without any isolation."""
    exec(code, names)  # noqa: S102  # running code without isolation is what is measured
    return names


def exec_context(path: Path) -> float:
    """Read a text and give it to code in this process."""
    return seconds(lambda: exec_here("len(context)", {"context": path.read_text()}))


class Bench:
    """The REPLs of one level."""

    def __init__(self, level: Level, folder: Path) -> None:
        self._folder = folder
        self._start = start_at(level)
        self.small = self.stored("hello")

    def stored(self, text: str) -> Path:
        """Store the text in a file as an encoded context."""
        path = self._folder / f"context-{len(text)}-{ord(text[0])}"
        if not path.exists():
            with path.open("wb") as file:
                file.writelines(encode(text).pieces())
        return path

    @contextmanager
    def repl(self, context: Path) -> Iterator[Sandbox]:
        """A REPL over the context."""
        limits = SandboxLimits()
        with Sandbox(context_path=context, query=answered, limits=limits, start=self._start) as repl:
            yield repl

    def start(self, context: Path) -> float:
        """The time until a REPL is ready."""
        repl = Sandbox(context_path=context, query=answered, limits=SandboxLimits(), start=self._start)
        try:
            return seconds(repl.start)
        finally:
            repl.close()

    def calls(self) -> float:
        """The time of one ``llm_query`` and its answer."""
        with self.repl(self.small) as repl:
            return float(repl.run(f"{MANY_CALLS}\nprint(median)").output.head)

    def peak(self, context: Path) -> int:
        """The peak memory of a REPL with this context."""
        with self.repl(context) as repl:
            return peak_bytes(process_of(repl))

    def crowd(self, context: Path) -> tuple[float, int]:
        """The slowest first turn, and the memory, of many REPLs over one context at once."""
        with ExitStack() as stack:
            repls = [
                Sandbox(context_path=context, query=answered, limits=SandboxLimits(), start=self._start)
                for _ in range(CROWD)
            ]
            for repl in repls:
                stack.callback(repl.close)
            with ThreadPoolExecutor(CROWD) as pool:
                slowest = max(pool.map(lambda repl: seconds(lambda: first_turn(repl)), repls))
            return slowest, sum(held_bytes(pid) for pid in below(os.getpid()))

    def close(self) -> None:
        """End the fork-server."""
        self._start.close()


def first_turn(repl: Sandbox) -> None:
    """Start a REPL and look at its context."""
    repl.start()
    assert repl.run("len(context)").error is None


def below(ancestor: int) -> list[int]:
    """The descendants of this process."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if descends(int(path.name), ancestor)]


def say(level: str, what: str, took: float, plain: float, more: str = "") -> None:
    """Print one number next to its plain equivalent."""
    print(  # noqa: T201
        f"{level:10}  {what:28}  {took * 1e3:9.3f} ms  plain {plain * 1e3:9.2f} ms  "
        f"ratio {took / plain:5.2f}  {more}"
    )


def without_isolation() -> None:
    """The same measurements in this process."""
    starts = [seconds(lambda: exec_here("pass", {})) for _ in range(STARTS)]
    say("exec", "start of a REPL (median)", statistics.median(starts), plain_start())
    calls = exec_here(MANY_CALLS, {"llm_query": lambda prompt: answered([()], None)[0].text})
    say("exec", "llm_query there and back", float(str(calls["median"])), plain_calls())
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in MEGABYTES:
            text = "x" * (megabytes * _MB)
            path = Path(folder, "context")
            path.write_text(text)
            say("exec", f"context of {megabytes} MB", exec_context(path), plain_context(text))


def main(levels: Sequence[Level]) -> None:
    """Measure every level; plain and sandboxed runs alternate, as the machine may be busy."""
    without_isolation()
    for level in levels:
        with tempfile.TemporaryDirectory() as folder, closing(Bench(level, Path(folder))) as bench:
            bench.start(bench.small)
            pairs = []
            for _ in range(STARTS):
                time.sleep(0.1)
                pairs.append((bench.start(bench.small), plain_start()))
            ours, plain = (statistics.median(column) for column in zip(*pairs, strict=True))
            say(level, "start of a REPL (median)", ours, plain)
            with bench.repl(bench.small) as repl:
                held = held_bytes(process_of(repl)) / _MB
            print(f"{level:10}  one REPL over a small context holds {held:.1f} MB")  # noqa: T201
            say(level, "llm_query there and back", bench.calls(), plain_calls())
            for megabytes in MEGABYTES:
                text = "x" * (megabytes * _MB)
                context = bench.stored(text)
                peak = f"peak {bench.peak(context) / _MB:.0f} MB"
                say(level, f"context of {megabytes} MB", bench.start(context), plain_context(text), peak)
            slowest, memory = bench.crowd(bench.stored("x" * (100 * _MB)))
            print(  # noqa: T201
                f"{level:10}  {CROWD} REPLs over one context of 100 MB: slowest first turn {slowest:.2f} s, "
                f"in all {memory / _MB:.0f} MB"
            )
            context = bench.stored("\N{GRINNING FACE}" * (25 * _MB))
            peak = f"peak {bench.peak(context) / _MB:.0f} MB"
            say(
                level,
                "context of 100 MB of emoji",
                bench.start(context),
                plain_context("x" * 100 * _MB),
                peak,
            )


if __name__ == "__main__":
    main([Level(name) for name in sys.argv[1:]] or list(Level))
