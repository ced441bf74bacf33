"""Jobs whose model-written code fights its worker: they end, and the worker goes on with others."""

from collections.abc import Sequence

import pytest

from rlm_dist.schema import JobState, Message, Role
from rlm_dist.simulated import SimulatedEndpoint, scripts
from tests.support.bench import WAIT_S, MakeBench

pytestmark = pytest.mark.acceptance

# Asks for more than the socket to the host holds, and sends frames itself. From then on its reader waits at a
# pipe: what the host sends is never read.
NEVER_READS = """\
import json, os, stat, time
own = next(fd for fd in range(3, 64) if os.path.exists(f"/proc/self/fd/{fd}") and
           stat.S_ISSOCK(os.fstat(fd).st_mode))
other = os.dup(own)
os.dup2(os.pipe()[0], own)
def send(**message):
    data = json.dumps(message).encode()
    data = len(data).to_bytes(4, "big") + data
    while data:
        data = data[os.write(other, data):]
for number in range(100, 140):
    send(op="query", id=number, prompts=[[{"role": "user", "content": "Label it. Line: " + "q" * 200_000}]],
         model=None)
time.sleep(1)
send(op="done", cell=1, output={"head": "", "tail": "", "omitted": 0}, error=None, final=None, partial=None,
     names=[])
time.sleep(600)
"""


def root(messages: Sequence[Message]) -> str:
    """Act as the scripted root, or reply with hostile code if the query asks for it."""
    if "Never read" in scripts.query_text(messages):
        return f"Now.\n\n```repl\n{NEVER_READS}```"
    return scripts.reply(messages)


def test_jobs_that_never_read_do_not_hold_their_worker(make_bench: MakeBench) -> None:
    """Two of them on a worker of two: each ends at its time limit, and a third job runs."""
    with SimulatedEndpoint(root=root) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=2)
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        hostile = [bench.client.submit("text", "Never read.", max_seconds=5) for _ in range(2)]
        honest = bench.client.submit(
            "The magic number for copper-fox is 7654321.\n", "What is the magic number for copper-fox?"
        )
        for job in hostile:
            result = job.result(WAIT_S)
            assert (result.state, result.limits_reached) == (JobState.EXHAUSTED, ("max_seconds",))
        assert honest.result(WAIT_S).answer == "7654321"
