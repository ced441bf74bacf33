"""The journal as a run writes it: entries wait for what rests on them."""

from pathlib import Path

import pytest
import redis

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.errors import Superseded
from rlm_dist.root_worker.journal_writer import JournalWriter
from rlm_dist.root_worker.run_counts import RunCounts
from rlm_dist.store import Store
from tests.support.store_values import running_job

LONG = "x" * 100_000


def writer(
    store: Store, client: redis.Redis, home: Path, epoch: int, *, at_once: bool = False
) -> JournalWriter:
    """The writer of one run of the job."""
    blobs = open_blobs("redis", home=home, client=client, retention_s=1000)
    return JournalWriter(
        store.journals, Payloads(store=store, blobs=blobs),
        job_id="j", epoch=epoch, counts=RunCounts(), at_once=at_once,
    )  # fmt: skip


def test_entries_wait_until_they_are_sent_and_are_sent_once(
    store: Store, redis_client: redis.Redis, tmp_path: Path
) -> None:
    journal = writer(store, redis_client, tmp_path, running_job(store))
    journal.write("one")
    journal.write(LONG)
    assert list(journal.read()) == []
    with journal.sending() as entries:
        assert len(entries.texts) == 2
    journal.write("three")
    store.journals.extend("j", 1, entries)
    journal.flush()
    journal.flush()
    assert list(journal.read()) == ["one", LONG, "three"]
    with journal.sending() as entries:
        assert entries.texts == []


def test_a_session_stores_each_entry_at_once(store: Store, redis_client: redis.Redis, tmp_path: Path) -> None:
    epoch = running_job(store)
    writer(store, redis_client, tmp_path, epoch, at_once=True).write("one")
    assert store.journals.read("j") == ["one"]
    with pytest.raises(Superseded):
        writer(store, redis_client, tmp_path, epoch + 1, at_once=True).write("late")
