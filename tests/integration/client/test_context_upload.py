"""A batch's jobs on their way into the store: chunks are bounded, and each context is stored once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.blobs.store import Blobs, open_blobs
from rlm_dist.client import context_upload
from rlm_dist.client.batch_item import BatchItem
from rlm_dist.client.context_upload import upload_contexts
from rlm_dist.client.options import JobOptions
from rlm_dist.contexts.encoding import encode
from rlm_dist.contexts.named_files import ContextFile, FileRules


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return open_blobs(str(tmp_path / "blobs"), home=tmp_path, client=None)


def items(count: int, chars: int) -> Iterator[tuple[int, BatchItem]]:
    for n in range(count):
        yield n, BatchItem(custom_id=f"q{n}", query="?", options=JobOptions(), value=f"{n % 10}" * chars)


def test_a_chunk_is_bounded_in_jobs_and_in_bytes(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(chunk) for chunk in upload_contexts(items(450, 1), blobs)] == [200, 200, 50]
    monkeypatch.setattr(context_upload, "_CHUNK_BYTES", 10_000)
    assert [len(chunk) for chunk in upload_contexts(items(7, 4000), blobs)] == [3, 3, 1]


def test_contexts_are_stored_before_their_jobs_are_told(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("a book")
    file = BatchItem(
        custom_id="f",
        query="?",
        options=JobOptions(),
        context_file=ContextFile(str(tmp_path / "book.txt"), FileRules((tmp_path,))),
    )
    (chunk,) = upload_contexts([*items(30, 5), (30, file)], blobs)
    assert [ready.position for ready in chunk] == list(range(31))
    assert not blobs.missing(ready.context.sha256 for ready in chunk)
    assert len({ready.context.sha256 for ready in chunk}) == 11
    assert chunk[-1].context == encode("a book").ref


def test_missing_blobs_are_told_once_and_only_those(blobs: Blobs) -> None:
    there = blobs.put_text("there")
    assert blobs.missing([there, "0" * 64, "0" * 64]) == {"0" * 64}
    assert blobs.missing([]) == set()
