"""The child jobs of one job over a real store; the test plays the workers of the children."""

import hashlib
import io
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from rlm_dist.blobs.store import open_blobs
from rlm_dist.contexts.encoded_files import EMPTY
from rlm_dist.contexts.encoding import encode
from rlm_dist.errors import Cancelled, InputError, ModelNotAllowed, Superseded
from rlm_dist.root_worker.children import ChildJobs
from rlm_dist.schema import Answer, ContextRef, ErrorInfo, JobSpec, JobState, Outcome
from rlm_dist.schema.events import ChildrenAnswered, Event
from rlm_dist.schema.id_lists import unpack_ids
from rlm_dist.store import Store
from tests.support.store_values import LEASE_MS, finish_job, spec, start_job
from tests.support.waiting import wait_until

MIB = 1 << 20


class Bench:
    """A job's children, the tasks that were sent for them, and workers that end them on demand."""

    def __init__(self, store: Store, client: redis.Redis, home: Path, **fields: Any) -> None:
        self.store = store
        self.client = client
        self.home = home
        limits = {"max_depth": 3, **fields.pop("limits", {})}
        job = spec("j", **limits).model_copy(update=fields)
        store.jobs.create([job])
        self.sent: list[JobSpec] = []
        self.events: list[Event] = []
        self.ends_at_once = True
        self.epoch = 0
        self.take_up()

    def take_up(self) -> None:
        """Let a worker take the job up, as after the death of the last."""
        epoch = start_job(self.store, "j", "root-1", LEASE_MS)
        if epoch is None:
            assert self.store.jobs.park("j", self.epoch)
            epoch = start_job(self.store, "j", "root-2", LEASE_MS)
        assert epoch
        self.epoch = epoch
        self.blobs = open_blobs("redis", home=self.home, client=self.client, retention_s=1000)
        self.children = ChildJobs(
            spec=self.store.jobs.get("j").spec, epoch=epoch, store=self.store, blobs=self.blobs,
            resolve=lambda _, name: "m", send=self._send, left_s=lambda: 12.5, emit=self.events.append,
            folder=self.home, max_context_bytes=MIB,
        )  # fmt: skip

    def _send(self, specs: Sequence[JobSpec]) -> None:
        self.sent += specs
        for child in specs if self.ends_at_once else ():
            self.end(child)

    def end(self, child: JobSpec) -> None:
        """End a child; its question says how."""
        epoch = start_job(self.store, child.id, "root-9", LEASE_MS)
        assert epoch
        outcome = Outcome(state=JobState.SUCCEEDED, answer=f"re {child.query}")
        if "bad" in child.query:
            error = ErrorInfo(type="LimitExceeded", message="its turns are used up")
            outcome = Outcome(state=JobState.EXHAUSTED, error=error, partial_answer="p" * 600)
        assert finish_job(self.store, child.id, epoch, outcome)

    def ask(self, *prompts: str, context: ContextRef | None = None, model: str | None = None) -> list[Answer]:
        """Ask several children."""
        return self.children.ask(prompts, [context] * len(prompts), model)

    def ask_aside(self, *prompts: str) -> tuple[threading.Thread, list[Any]]:
        """Ask in another thread; its answers, or its error, go into the list."""
        got: list[Any] = []

        def ask() -> None:
            try:
                got.extend(self.ask(*prompts))
            except (Cancelled, Superseded) as error:
                got.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        return thread, got


@pytest.fixture
def bench(store: Store, redis_client: redis.Redis, tmp_path: Path) -> Iterator[Bench]:
    """The children of a job of depth 0 with a ``max_depth`` of 3."""
    made = Bench(store, redis_client, tmp_path)
    yield made
    made.children.close()


def test_a_child_is_a_job_below_its_parent(bench: Bench) -> None:
    answers = bench.ask("one", "two")
    assert [answer.text for answer in answers] == ["re one", "re two"]
    first, second = bench.sent
    parent = bench.store.jobs.get("j").spec
    assert (first.depth, first.parent_id, first.query, first.custom_id) == (1, "j", "one", "j/1")
    assert second.custom_id == "j/2"
    assert first.limits.model_dump() == {**parent.limits.model_dump(), "max_seconds": 12.5}
    assert first.context.sha256 == hashlib.sha256(EMPTY).hexdigest()
    assert b"".join(bench.blobs.read(first.context.sha256)) == EMPTY
    assert first.id.isalnum()
    (event,) = bench.events
    assert isinstance(event, ChildrenAnswered)
    assert (event.children, event.failed) == (2, 0)
    assert unpack_ids(event.job_ids) == (first.id, second.id)


def test_ids_follow_from_what_is_asked(bench: Bench) -> None:
    one = bench.blobs.put_text("one")
    context = bench.store.jobs.get("j").spec.context
    other = context.model_copy(update={"sha256": one})
    answers = [*bench.ask("q", "q"), *bench.ask("q", context=other), *bench.ask("r")]
    assert len({answer.call_id for answer in answers}) == 4
    assert answers[1].call_id == f"{answers[0].call_id}n2"
    bench.children.rewind()
    assert [answer.call_id for answer in bench.ask("q", "q")] == [answer.call_id for answer in answers[:2]]
    assert len(bench.sent) == 4  # those asked again had ended


def test_a_job_that_is_taken_up_again_finds_its_children(bench: Bench) -> None:
    bench.ends_at_once = False
    asking, got = bench.ask_aside("ended", "running", "waiting")
    wait_until(lambda: len(bench.sent) == 3)
    bench.children.abort(Superseded("j", 1))  # the worker loses the job; its children go on
    asking.join()
    bench.children.close()
    assert isinstance(got[0], Superseded)
    ended, running, waiting = bench.sent
    bench.end(ended)
    running_epoch = start_job(bench.store, running.id, "root-9", LEASE_MS)
    bench.sent.clear()
    bench.take_up()
    asking, got = bench.ask_aside("ended", "running", "waiting")
    wait_until(lambda: [child.id for child in bench.sent] == [waiting.id])
    bench.end(waiting)
    assert running_epoch
    outcome = Outcome(state=JobState.SUCCEEDED, answer="at last")
    assert finish_job(bench.store, running.id, running_epoch, outcome)
    asking.join(30)
    assert [answer.text for answer in got] == ["re ended", "at last", "re waiting"]


def test_a_child_without_an_answer_says_why_and_how_its_partial_answer_begins(bench: Bench) -> None:
    good, bad = bench.ask("good", "bad")
    assert good.failure is None
    assert bad.failure is not None
    assert bad.failure.kind == "exhausted"
    head = f"its turns are used up\nIts partial answer, which may be wrong, begins: {'p' * 500} …"
    assert bad.failure.message == head
    (event,) = bench.events
    assert isinstance(event, ChildrenAnswered)
    assert event.failed == 1


def test_a_child_that_does_not_fit_into_a_limit_is_not_started(
    store: Store, redis_client: redis.Redis, tmp_path: Path
) -> None:
    bench = Bench(store, redis_client, tmp_path, limits={"max_sub_calls": 1})
    one, two = bench.ask("one", "two")
    assert one.text == "re one"
    assert two.failure is not None
    assert two.failure.kind == "limit"
    assert [limit.kind for limit in bench.children.take_limits()] == ["max_sub_calls"]
    assert bench.children.take_limits() == ()
    assert len(bench.sent) == 1
    bench.children.close()


def test_an_end_whose_entry_is_lost_is_found(bench: Bench) -> None:
    bench.ends_at_once = False
    asking, got = bench.ask_aside("one")
    wait_until(lambda: len(bench.sent) == 1)
    bench.end(bench.sent[0])
    bench.client.delete("rlm:job:j:replies")
    asking.join(30)
    assert [answer.text for answer in got] == ["re one"]


def test_an_abort_ends_the_wait_and_later_ones(bench: Bench) -> None:
    bench.ends_at_once = False
    asking, got = bench.ask_aside("one")
    wait_until(lambda: len(bench.sent) == 1)
    bench.children.abort(Cancelled("j"))
    asking.join(30)
    assert isinstance(got[0], Cancelled)
    with pytest.raises(Cancelled):
        bench.ask("two")


def test_many_children_are_opened_some_at_a_time(bench: Bench) -> None:
    bench.ends_at_once = False
    asking, got = bench.ask_aside(*(f"q{n}" for n in range(300)))
    wait_until(lambda: len(bench.sent) == 256)
    for child in bench.sent[:100]:
        bench.end(child)
    wait_until(lambda: len(bench.sent) == 300)
    for child in bench.sent[100:]:
        bench.end(child)
    asking.join(60)
    assert [answer.text for answer in got] == [f"re q{n}" for n in range(300)]


@pytest.mark.parametrize(
    ("fields", "named", "model"),
    [
        ({}, None, "big"),
        ({}, "small", "small"),
        ({"child_models": ("a", "b")}, None, "a"),
        ({"child_models": ("a", "b")}, "auto", "a"),
        ({"child_models": ("a", "b")}, "b", "b"),
        ({"child_models": ("a", "b"), "depth": 1}, None, "b"),
        ({"child_models": ("a",), "depth": 1}, None, "a"),
    ],
)
def test_the_model_of_a_child(
    store: Store,
    redis_client: redis.Redis,
    tmp_path: Path,
    fields: dict[str, Any],
    named: str | None,
    model: str,
) -> None:
    models = {"model": "big", "sub_model": "small", "sub_models": ()}
    bench = Bench(store, redis_client, tmp_path, **models, **fields)
    bench.ask("one", model=named)
    assert [(child.model, child.sub_model) for child in bench.sent] == [(model, "small")]
    with pytest.raises(ModelNotAllowed):
        bench.ask("one", model="other")
    bench.children.close()


def test_a_context_is_stored_once_and_counts_for_the_job(bench: Bench) -> None:
    encoded = encode(["a", "b" * 1000])
    data = b"".join(encoded.pieces())
    for _ in range(2):
        ref = bench.children.store(io.BytesIO(data), encoded.ref.sha256, len(data))
    assert ref == encoded.ref
    assert b"".join(bench.blobs.read(ref.sha256)) == data
    assert f"rlm:blob:{ref.sha256}" in bench.client.smembers("rlm:job:j:blobs")
    assert int(bench.client.hget("rlm:job:j", "bytes") or 0) >= bench.blobs.stored_bytes(ref.sha256)
    with pytest.raises(InputError):
        bench.children.store(io.BytesIO(b"no context"), "0" * 64, 10)
