"""An unfinished job as a version of this project left it in Redis: written once, read by all later ones.

``python -m tests.support.stored_job VERSION`` runs ``REPLIES`` on real workers until the root worker kills
itself with all but the last reply in the journal. It then writes all keys of the job, each with its type and
value, to ``tests/acceptance/stored/VERSION.json``. Each release adds a file made by its own code; no file is
ever changed.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis

from rlm_dist.client.client import Client
from rlm_dist.contexts.encoding import encode, store_context
from rlm_dist.schema import Message, Role
from rlm_dist.simulated import SimulatedEndpoint
from rlm_dist.worker import failpoints
from tests.support.bench import Bench
from tests.support.environment import PROJECT
from tests.support.redis_servers import flavours, running
from tests.support.waiting import wait_until

FOLDER = PROJECT / "tests/acceptance/stored"
CONTEXT = "Who is number 0?\nWhere is number 1?\nWho is number 2?\nWhere is number 3?"
REPLIES = (
    "I look first.\n\n```repl\nimport random\nprint(len(context), random.random())\nlines = 1 / 0\n```",
    "```repl\nlines = context.splitlines()\n"
    "labels = llm_query_batched([f'Label it.\\nLine: {line}' for line in lines])\nlabels\n```\n\n"
    "```repl\nanswer['content'] = 'half an answer'\nprint({str(label) for label in labels})\n```",
    "```repl\nFINAL([len(lines), sorted(set(labels))])\n```",
)
ANSWER = [4, ["human being", "location"]]
ENTRIES = 7  # two replies, three cells and two hints


def root(messages: Sequence[Message]) -> str:
    """Return the next of the replies."""
    return REPLIES[sum(message.content in REPLIES for message in messages)]


def load(client: Client, stored: Path) -> str:
    """Put the job into an empty store as if its worker had died; returns its id."""
    state = json.loads(stored.read_text())
    store_context(encode(CONTEXT), client.blobs)
    with redis.Redis.from_url(str(client.settings.redis_url), decode_responses=True) as server:
        for name, (kind, value) in state["keys"].items():
            _WRITE[kind](server, name, value)
        server.zadd("rlm:jobs", {state["job"]: 1})
        server.zadd("rlm:leases", {state["job"]: 1})
        server.hset(f"rlm:job:{state['job']}", "lease_ms", 1)
    return str(state["job"])


def _dump(server: Any, job_id: str) -> dict[str, object]:
    names = sorted(server.scan_iter(f"rlm:job:{job_id}*"))
    kinds = {name: server.type(name) for name in names}
    return {
        "job": job_id,
        "keys": {name: [kinds[name], _READ[kinds[name]](server, name)] for name in names},
    }


_READ: dict[str, Callable[[Any, str], object]] = {
    "hash": lambda server, name: server.hgetall(name),
    "list": lambda server, name: server.lrange(name, 0, -1),
    "set": lambda server, name: sorted(server.smembers(name)),
    "zset": lambda server, name: dict(server.zrange(name, 0, -1, withscores=True)),
    "stream": lambda server, name: [fields for _, fields in server.xrange(name)],
}
_WRITE: dict[str, Callable[[Any, str, Any], object]] = {
    "hash": lambda server, name, value: server.hset(name, mapping=value),
    "list": lambda server, name, value: server.rpush(name, *value),
    "set": lambda server, name, value: server.sadd(name, *value),
    "zset": lambda server, name, value: server.zadd(name, value),
    "stream": lambda server, name, value: [server.xadd(name, fields) for fields in value],
}


def _write(folder: Path, version: str) -> None:
    with running(flavours()["valkey"], folder) as server, SimulatedEndpoint(root=root) as endpoint:
        bench = Bench(redis_url=server.url, api_url=endpoint.url, folder=folder)
        try:
            death = {failpoints.VARIABLE: f"journal.written:{ENTRIES}"}
            worker = bench.start(Role.ROOT, concurrency=1, **death)
            bench.start(Role.SUB, concurrency=4)
            bench.wait_ready()
            job = bench.client.submit(CONTEXT, "Label the lines.", max_sub_calls=5)
            with redis.Redis.from_url(server.url, decode_responses=True) as client:
                wait_until(lambda: client.llen(f"rlm:job:{job.id}:journal") == ENTRIES)
                worker.kill()
                document = json.dumps(_dump(client, job.id), indent=1)
        finally:
            bench.close()
    (FOLDER / f"{version}.json").write_text(f"{document}\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        _write(Path(name), sys.argv[1])
