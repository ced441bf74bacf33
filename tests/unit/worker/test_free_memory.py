"""Memory between what is kept goes back to the system."""

import os
from pathlib import Path

from rlm_dist.worker.free_memory import give_back_free_memory

BLOCK_BYTES = 100_000  # small enough for the heap
BLOCKS = 600


def resident_bytes() -> int:
    """What this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_memory_between_what_is_kept_is_given_back() -> None:
    blocks: list[bytes | None] = [os.urandom(BLOCK_BYTES) for _ in range(BLOCKS)]
    kept = blocks[::100]
    blocks.clear()
    before = resident_bytes()
    give_back_free_memory()
    assert before - resident_bytes() > BLOCKS * BLOCK_BYTES / 2
    assert len(kept) == BLOCKS // 100
