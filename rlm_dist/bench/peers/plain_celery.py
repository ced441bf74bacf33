"""What most people write first: a Celery task that asks one prompt with the plain SDK, and a group of them.

It has no root model and no REPL. The worker finds its broker and its endpoint in the variables that Celery
and the SDK read by themselves.
"""

import atexit
import functools
import sys
import time

import openai
from celery import Celery, group

from rlm_dist.bench.peers.asking import CHARS, SUB_MODEL, measure
from rlm_dist.bench.peers.redis_server import redis_server
from rlm_dist.local.child_python import module_command
from rlm_dist.local.lifeline import watch_lifeline
from rlm_dist.local.processes import Cluster

_READY_S = 120.0

watch_lifeline()
app = Celery("plain")


@functools.cache
def client() -> openai.OpenAI:
    """The one client of a worker, closed when the process ends."""
    made = openai.OpenAI(max_retries=0)
    atexit.register(made.close)
    return made


@app.task(name="ask")
def ask(prompt: str) -> str | None:
    """Ask one prompt."""
    completion = client().chat.completions.create(
        model=SUB_MODEL, messages=[{"role": "user", "content": prompt}]
    )
    return completion.choices[0].message.content


def fan_out(context: str) -> str:
    """What the root model's code does elsewhere."""
    pieces = [context[n : n + CHARS] for n in range(0, len(context), CHARS)]
    began = time.perf_counter()
    answers = group(ask.s(piece) for piece in pieces).apply_async().get()
    seconds = time.perf_counter() - began
    return f"{len(set(answers))} {seconds}"


def main(url: str, calls: int, in_flight: int) -> None:
    """Measure; the worker is a process below this one, with a pool of threads."""
    with redis_server() as held, app:
        app.conf.update(broker_url=held.url, result_backend=held.url)
        variables = {
            "CELERY_BROKER_URL": held.url,
            "CELERY_RESULT_BACKEND": held.url,
            "OPENAI_BASE_URL": url,
            "OPENAI_API_KEY": "none",
        }
        options = ["--pool", "threads", "--concurrency", str(in_flight)]
        command = module_command("celery", "-A", "rlm_dist.bench.peers.plain_celery", "worker", *options)
        with Cluster({"plain": command}, environment=variables, folder=held.folder) as worker:
            worker.wait_ready(lambda: bool(app.control.ping()), _READY_S)
            measure(fan_out, calls, [held.pid])


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
