"""Jobs whose model-written code fights its worker: they end, and the worker goes on with others."""

from collections.abc import Sequence

import pytest
import redis

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


# A new draft of a megabyte in each block, which does not compress.
FILLS = "```repl\nimport random\nanswer['content'] = random.randbytes(500_000).hex()\n```\n\n" * 100


def root(messages: Sequence[Message]) -> str:
    """Act as the scripted root, or reply with hostile code if the query asks for it."""
    if "Fill it" in scripts.query_text(messages):
        return FILLS
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


def test_a_job_cannot_fill_redis(make_bench: MakeBench) -> None:
    """It ends at its budget of bytes with its draft, and the worker goes on with others."""
    with SimulatedEndpoint(root=root) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1, RLM_BLOB_URL="redis", RLM_MAX_JOB_BYTES=str(5 * 2**20))
        bench.start(Role.SUB, concurrency=4)
        bench.wait_ready()
        result = bench.client.submit("text", "Fill it.").result(WAIT_S)
        assert (result.state, result.limits_reached) == (JobState.EXHAUSTED, ("max_job_bytes",))
        assert result.error is not None
        assert "of 5242880 used" in result.error.message.replace(",", "")
        assert len(result.partial_answer or "") == 1_000_000
        with redis.Redis.from_url(str(bench.settings.redis_url)) as client:
            keys = [*client.scan_iter(f"rlm:job:{result.id}*"), *client.scan_iter("rlm:blob:*")]
            assert sum(client.memory_usage(key) or 0 for key in keys) < 12 * 2**20
        honest = bench.client.submit(
            "The magic number for copper-fox is 7654321.\n", "What is the magic number for copper-fox?"
        )
        assert honest.result(WAIT_S).answer == "7654321"
