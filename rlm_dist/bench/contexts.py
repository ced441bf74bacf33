"""A context's way to the store and into a REPL."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from rlm_dist.bench.rows import Figure, Group
from rlm_dist.client.client import Client
from rlm_dist.contexts.cache import ContextCache
from rlm_dist.local.redis.server import server
from rlm_dist.sandbox.fork_server_start import start_at
from rlm_dist.sandbox.host import ReplStart, Sandbox, SandboxLimits
from rlm_dist.sandbox.probe import choose
from rlm_dist.schema import Answer, ContextRef, Message
from rlm_dist.settings import Settings

_WORDS = 1000
_MAIN_MB = 100


def there_and_back(home: Path, *, megabytes: Sequence[int]) -> Iterator[Figure]:
    """Submit a text, submit it again, fetch it past an empty cache, and load it into a REPL."""
    settings = Settings(home=home, blob_url=str(home / "blobs"))
    with (
        server(home) as url,
        Client(settings, redis_url=url) as client,
        closing(start_at(choose("auto", "off"))) as start,
    ):
        for _ in _rows(client, start, home / "cache-0", 1):  # starts the fork-server
            pass
        for size in megabytes:
            yield from _rows(client, start, home / f"cache-{size}", size)


def _rows(client: Client, start: ReplStart, folder: Path, megabytes: int) -> Iterator[Figure]:
    text = _text(megabytes * 1_000_000)
    submits = [_seconds(lambda: client.submit(text, "Is it long?")) for _ in range(2)]
    ref = client.store.jobs.newest(1)[0].spec.context
    fetch_s, load_s = _fetch_and_load(client, ref, folder, start)
    of = f"a context of {megabytes} MB"
    aims = ("≤ 1.5", "≤ 0.3", "≤ 1") if megabytes == _MAIN_MB else ("linear",) * 3
    taken = (submits[0], submits[1], fetch_s + load_s)
    for what, seconds, aim in zip(
        ("first submit", "second submit", "fetch + load"), taken, aims, strict=True
    ):
        parts = {"ms a MB": seconds / megabytes * 1e3}
        yield Figure(
            group=Group.CONTEXTS, what=f"{what} of {of}", value=seconds, unit="s", aim=aim, parts=parts
        )


def _fetch_and_load(client: Client, ref: ContextRef, folder: Path, start: ReplStart) -> tuple[float, float]:
    cache = ContextCache(folder, client.blobs)
    fetch_s = _seconds(lambda: cache.path(ref))
    repl = Sandbox(context_path=cache.path(ref), query=_unasked, limits=SandboxLimits(), start=start)
    try:
        return fetch_s, _seconds(repl.start)
    finally:
        repl.close()


def _text(chars: int) -> str:
    """A text that compresses as prose does, different each time."""
    words = [f"{random.getrandbits(40):x} "[: 3 + number % 9] for number in range(_WORDS)]
    some = "".join(random.choices(words, k=100_000))
    return (some * (chars // len(some) + 1))[:chars]


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _unasked(prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
    raise AssertionError("the REPL of a benchmark has asked something")
