"""The blob store's disk is full: jobs that need it fail and say why, the others go on."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rlm_dist.client.client import Client
from rlm_dist.schema import JobState, Message, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import WAIT_S, Bench, open_bench, submit
from tests.support.redis_servers import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

LARGE = 100_000

PROGRAMS = {
    "large prompt": f"FINAL(len(llm_query('x' * {LARGE})) > 0)",
    "large answer": "FINAL([getattr(each, 'ok', True) for each in llm_query_batched(['large'])])",
    "small prompt": "FINAL(len(llm_query('small')) > 0)",
}


def root(messages: Sequence[Message]) -> str:
    """Run one cell, which hands in its answer."""
    asked = "\n".join(message.content for message in messages if message.role == "user")
    program = next(program for name, program in PROGRAMS.items() if name in asked)
    return f"```repl\n{program}\n```"


def sub(messages: Sequence[Message]) -> str:
    """Return a large answer if the prompt asks for one."""
    return "y" * LARGE if messages[-1].content == "large" else "yes"


class Disk:
    """A folder that can be made to refuse writes: a small file system if we may mount one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
        self.mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
        if not self.mounted and os.geteuid() == 0:
            pytest.skip("root cannot mount here, and may write into any folder")

    def fill(self) -> None:
        """Use up all space."""
        if not self.mounted:
            self.folder.chmod(0o555)
            return
        with (self.folder / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 4096)
            except OSError:
                return

    def empty(self) -> None:
        """Free the space again."""
        self.folder.chmod(0o755)
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount the file system."""
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small disk."""
    disk = Disk(tmp_path / "blobs")
    yield disk
    disk.close()


@pytest.fixture
def endpoint() -> Iterator[SimulatedEndpoint]:
    """An endpoint that holds every root call at first."""
    with SimulatedEndpoint(root=root, sub=sub, faults=[Fault(kind="hold", role=Role.ROOT)]) as endpoint:
        yield endpoint


@pytest.fixture
def bench(
    chaos_redis: RedisServer, endpoint: SimulatedEndpoint, disk: Disk, tmp_path: Path
) -> Iterator[Bench]:
    """A worker of each role and a client, with their blobs on the small disk."""
    bench = open_bench(chaos_redis, endpoint.url, tmp_path / "bench")
    bench.client.close()
    bench.client = Client(bench.settings.model_copy(update={"blob_url": str(disk.folder)}))
    bench.start(Role.ROOT, concurrency=3, RLM_BLOB_URL=str(disk.folder))
    bench.start(Role.SUB, concurrency=4, RLM_BLOB_URL=str(disk.folder))
    bench.wait_ready()
    yield bench
    bench.close()


def test_a_full_disk_fails_what_needs_it(bench: Bench, endpoint: SimulatedEndpoint, disk: Disk) -> None:
    """A failed write is reported and paid for once; with space again, a retry completes the job."""
    ids = {name: submit(bench.client, name.replace(" ", "-"), "text", name) for name in PROGRAMS}
    wait_until(lambda: endpoint.served.in_flight == len(PROGRAMS))
    disk.fill()
    endpoint.release()
    results = {name: bench.client.job(job_id).result(WAIT_S) for name, job_id in ids.items()}
    assert results["small prompt"].answer_json is True
    # The prompt could not be stored, so no call was made.
    failed = results["large prompt"]
    assert (failed.state, failed.costs.sub_llm_calls) == (JobState.FAILED, 0)
    assert failed.error is not None
    assert failed.error.type == "BlobError"
    assert "RLM_BLOB_URL" in failed.error.message
    # The answer could not be stored: it is paid for and not requested again.
    lost = results["large answer"]
    assert lost.answer_json == [False]
    assert (lost.costs.sub_llm_calls, lost.costs.failed_calls) == (1, 1)
    assert endpoint.served.answered == sum(
        result.costs.root_llm_calls + result.costs.sub_llm_calls for result in results.values()
    )
    disk.empty()
    assert bench.client.retry("large-prompt") == 1
    again = bench.client.job(ids["large prompt"]).result(WAIT_S)
    assert again.answer_json is True
    assert (again.costs.root_llm_calls, again.costs.sub_llm_calls) == (1, 1)
