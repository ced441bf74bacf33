"""REPLs that have ended, or were lost again and again, leave neither threads nor memory taken."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import redis

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.root_worker.repl import JobRepl
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.sandbox.session import ReplSession
from rlm_dist.schema import Role
from rlm_dist.store import Store
from rlm_dist.worker.accounts import Accounts
from tests.support.garbage import freed_without_collector
from tests.support.sandboxes import LIMITS, forks, write_context
from tests.support.store_values import running_job
from tests.support.waiting import wait_until

ASKING = 8
CODE = f"""\
import threading
for n in range({ASKING} - 1):
    threading.Thread(target=llm_query, args=(str(n),)).start()
llm_query("and the block itself")
"""


def _ignore(job_id: str, turn: int, chunks: Sequence[Sequence[str]], traceparent: str | None) -> None:
    """Send to workers that never answer."""


def _serving() -> int:
    return sum(thread.name.startswith("llm_query") for thread in threading.enumerate())


@pytest.fixture
def fan_out(store: Store, redis_client: redis.Redis, tmp_path: Path) -> Iterator[FanOut]:
    epoch = running_job(store)
    blobs = open_blobs("redis", home=tmp_path, client=redis_client, retention_s=1000)
    endpoints = dict.fromkeys(Role, (Endpoint("http://x"),))
    made = FanOut(
        spec=store.jobs.get("j").spec, epoch=epoch, store=store,
        payloads=Payloads(store=store, blobs=blobs), send=_ignore, queue_is_empty=lambda: True,
        accounts=Accounts(prices=Prices(None), endpoints=endpoints, resolve=lambda _, name: "m"),
        emit=lambda _: None,
    )  # fmt: skip
    with closing(made):
        yield made


def _repl(fan_out: FanOut, folder: Path) -> JobRepl:
    context = write_context(folder / "context", "str", ["hello"])
    return JobRepl(
        fan_out,
        lambda query, _, typed_query: Sandbox(
            context_path=context, query=query, typed_query=typed_query, limits=LIMITS, start=forks()
        ),
        lambda _: None,
    )


def test_the_threads_of_a_lost_repls_queries_end(fan_out: FanOut, tmp_path: Path) -> None:
    repl = _repl(fan_out, tmp_path)
    with closing(repl.sandbox) as sandbox:
        sandbox.start()

        def lose() -> None:
            wait_until(lambda: len(fan_out._waiting) == ASKING)
            assert sandbox._session is not None
            sandbox._session.process.kill()

        for _ in range(2):
            losing = threading.Thread(target=lose)
            losing.start()
            assert repl.run(CODE, 0, 1).state_lost
            losing.join()
            wait_until(lambda: _serving() == 0)
            repl.restart()
        assert repl.run("1 + 1", 0, 1).error is None


def test_nothing_of_a_repl_stays_in_memory_after_its_end(fan_out: FanOut, tmp_path: Path) -> None:
    with freed_without_collector(JobRepl, Sandbox, ReplSession):
        repl = _repl(fan_out, tmp_path)
        with closing(repl.sandbox):
            repl.sandbox.start()
            assert repl.run("1 + 1", 0, 1).error is None
            assert repl.sandbox._session is not None
            reader = repl.sandbox._session._reader
        reader.join()
        del repl, reader
