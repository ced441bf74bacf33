"""A sub worker claims, runs and settles calls: over a real store, with a model made of futures."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from rlm_dist.blobs.payloads import INLINE_CHARS, Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.errors import FailureKind
from rlm_dist.llm import LLM
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.otel.spans import cell_span, job_span, traceparent
from rlm_dist.schema import CallRequest, CallResult, Completion, Message, Role, Usage
from rlm_dist.simulated import Fault, SimulatedEndpoint
from rlm_dist.store import OpenCall, Store
from rlm_dist.sub_worker.calls import SubCalls
from rlm_dist.worker.accounts import Accounts
from rlm_dist.worker.model_client import EndedCall, ManyCalls
from tests.support.recorded_spans import RecordedSpans
from tests.support.store_values import running_job
from tests.support.waiting import wait_until

SLOTS = 4


class Model:
    """A fake model client: each request waits until the test answers it."""

    def __init__(self) -> None:
        self.asked: dict[str, Future[CallResult]] = {}
        self.away = False

    def start(
        self,
        request: CallRequest,
        _job_id: str,
        _may_fall_back: Callable[[], bool] | None,
        when_over: Callable[[EndedCall], None],
        /,
    ) -> Callable[[], None]:
        future: Future[CallResult] = Future()
        self.asked[request.messages[0].content] = future
        future.add_done_callback(when_over)

        def abort() -> None:
            future.cancel()

        return abort

    def drain(self) -> None:
        """Nothing waits here."""

    def waiting(self) -> set[str]:
        """The prompts that have no answer yet."""
        return {prompt for prompt, future in self.asked.copy().items() if not future.done()}

    def answer(self, *prompts: str, text: str = "yes") -> None:
        """Answer these prompts."""
        for prompt in prompts:
            done = Completion(text=text, usage=Usage(input_tokens=1), finish_reason="stop", model="m")
            self.asked[prompt].set_result(CallResult(completion=done))


class Worker:
    """A sub worker's calls; ``run`` does in a pool thread what a task does in one of Celery's."""

    def __init__(
        self,
        store: Store,
        client: redis.Redis,
        home: Path,
        slots: int = SLOTS,
        llm: ManyCalls | None = None,
    ) -> None:
        self.model = Model()
        self.spans = RecordedSpans()
        self.woken = 0
        blobs = open_blobs("redis", home=home, client=client, retention_s=1000)
        self.payloads = Payloads(store=store, blobs=blobs)
        accounts = Accounts(
            prices=Prices(None),
            endpoints=dict.fromkeys(Role, (Endpoint("http://x"),)),
            resolve=lambda _, name: name,
        )
        self.calls = SubCalls(
            calls=store.calls, payloads=self.payloads, llm=llm or self.model, accounts=accounts,
            owner="sub-1", slots=slots, wants_more=self._wake, spans=self.spans,
        )  # fmt: skip
        self.pool = ThreadPoolExecutor(8)

    def _wake(self) -> None:
        self.woken += 1

    def close(self) -> None:
        """Abort what a test left unanswered, and stop."""
        self.calls.drain()
        self.calls.abort(["j", "k"])
        self.pool.shutdown()
        self.calls.close()

    def run(self, *call_ids: str, job_id: str = "j", traceparent: str | None = None) -> Future[bool]:
        """Run calls to their end in another thread."""
        return self.pool.submit(self.calls.run, job_id, call_ids, traceparent)


@pytest.fixture
def worker(store: Store, redis_client: redis.Redis, tmp_path: Path) -> Iterator[Worker]:
    """A worker with a few slots."""
    with closing(Worker(store, redis_client, tmp_path)) as made:
        yield made


def opened(
    store: Store, worker: Worker, *call_ids: str, job_id: str = "j", prompt: str = "{}", model: str = "m"
) -> None:
    """Start a job and open calls, each with its id as its prompt."""
    epoch = running_job(store, job_id)
    requests = {
        call_id: CallRequest(
            role=Role.SUB, model=model, messages=(Message(role="user", content=prompt.format(call_id)),)
        ).model_dump_json()
        for call_id in call_ids
    }
    store.calls.open(
        job_id,
        epoch,
        [OpenCall(call_id, worker.payloads.pack(job_id, text), 0, 0) for call_id, text in requests.items()],
    )


def answered(store: Store, *call_ids: str, job_id: str = "j") -> list[bool]:
    """The calls that have an answer."""
    return [answer is not None for answer in store.calls.answers(job_id, call_ids)]


def test_calls_of_several_tasks_share_the_slots(store: Store, worker: Worker) -> None:
    """No more calls are claimed than there are slots; when one ends, the next of any task gets the slot."""
    opened(store, worker, "a", "b", "c")
    opened(store, worker, "d", "e", "f", job_id="k")
    first, second = worker.run("a", "b", "c"), worker.run("d", "e", "f", job_id="k")
    wait_until(lambda: len(worker.model.waiting()) == SLOTS)
    assert sum(len(ids) for ids in worker.calls.held().values()) == SLOTS
    for _ in range(6):
        worker.model.answer(wait_until(worker.model.waiting).pop())
    assert (first.result(), second.result()) == (True, True)
    assert all(answered(store, "a", "b", "c") + answered(store, "d", "e", "f", job_id="k"))
    assert worker.calls.held() == {}
    assert store.jobs.costs("j").sub_llm_calls == store.jobs.costs("k").sub_llm_calls == 3


def test_replies_over_http_are_settled_with_what_they_cost(
    store: Store, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """32 and 33: a refusal is a failed call and is paid for once; an answer that was cut off is counted."""
    faults = [
        Fault(kind="choice", contains="refuse", choice={"message": {"content": "", "refusal": "I cannot."}}),
        Fault(kind="choice", contains="cut", choice={"finish_reason": "length"}),
    ]
    with SimulatedEndpoint(faults=faults) as endpoint:
        llm = LLM({Role.SUB: (Endpoint(endpoint.url),)}, call_timeout_s=60)
        with closing(llm), closing(Worker(store, redis_client, tmp_path, llm=llm)) as worker:
            opened(store, worker, "refuse", "cut", "whole", model="simulated-sub")
            assert worker.run("refuse", "cut", "whole").result()
        stored = store.calls.answers("j", ["refuse", "cut", "whole"])
        results = [CallResult.model_validate_json(packed or "") for packed in stored]
        failure = results[0].failure
        assert failure is not None
        assert (failure.kind, failure.message) == (FailureKind.NO_ANSWER, "the model refused: I cannot.")
        assert [r.completion and r.completion.truncated for r in results] == [None, True, False]
        costs, usage = store.jobs.costs("j"), endpoint.served.usage
        assert (costs.failed_calls, costs.truncated_calls, costs.sub_llm_calls) == (1, 1, 3)
        assert (costs.sub_input_tokens, costs.sub_output_tokens) == (usage.input_tokens, usage.output_tokens)
        assert store.audits.job("j").differences == []


def test_what_ends_together_is_settled_together(
    store: Store, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settlements that arrive while one is written wait and are written together."""
    opened(store, worker, "a", "b", "c", "d")
    may_settle, settle, sizes = threading.Event(), store.calls.settle, list[int]()

    def slowly(job_id: str, owner: str, settlements: Any) -> list[bool]:
        sizes.append(len(settlements))
        may_settle.wait()
        return settle(job_id, owner, settlements)

    monkeypatch.setattr(store.calls, "settle", slowly)
    run = worker.run("a", "b", "c", "d")
    wait_until(lambda: len(worker.model.waiting()) == SLOTS)
    worker.model.answer("a")
    wait_until(lambda: sizes)
    worker.model.answer("b", "c", "d")
    may_settle.set()
    assert run.result()
    assert sizes == [1, 3]


def test_a_call_that_somebody_else_holds_is_left_to_them(store: Store, worker: Worker) -> None:
    """Its task ends, its slot is free again, and its request is not sent."""
    opened(store, worker, "a", "b")
    store.calls.claim("j", ["a"], "sub-2", 60_000)
    run = worker.run("a", "b", "unknown")
    wait_until(lambda: worker.model.waiting() == {"b"})
    worker.model.answer("b")
    assert run.result()
    assert answered(store, "a", "b") == [False, True]


def test_a_worker_that_stops_gives_back_what_it_has_not_begun(store: Store, worker: Worker) -> None:
    """Calls in flight end; later tasks start nothing."""
    ids = [f"c{n}" for n in range(SLOTS + 2)]
    opened(store, worker, *ids)
    run = worker.run(*ids)
    wait_until(lambda: len(worker.model.waiting()) == SLOTS)
    worker.calls.drain()
    worker.model.answer(*ids[:SLOTS])
    assert not run.result()
    assert not worker.run(ids[-1]).result()
    assert answered(store, *ids) == [True] * SLOTS + [False] * 2


def test_a_worker_has_enough_while_calls_wait_for_a_slot(store: Store, worker: Worker) -> None:
    """It also says when it wants more."""
    ids = [f"c{n}" for n in range(SLOTS + 1)]
    opened(store, worker, *ids)
    run = worker.run(*ids)
    wait_until(lambda: len(worker.model.waiting()) == SLOTS)
    assert worker.calls.has_enough()
    woken = worker.woken
    worker.model.answer(ids[0])
    wait_until(lambda: worker.woken > woken)
    assert not worker.calls.has_enough()
    worker.model.answer(*ids[1:SLOTS])
    wait_until(lambda: ids[SLOTS] in worker.model.waiting())
    worker.model.answer(ids[SLOTS])
    assert run.result()


def test_an_unexpected_error_in_the_ledger_thread_is_logged_and_the_work_goes_on(
    store: Store, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the hook that asks for more messages fails; calls claimed before that are not lost."""
    ids = [f"c{n}" for n in range(12)]
    opened(store, worker, *ids)

    def fail() -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(worker.calls, "_wants_more", fail)
    with capture_logs() as logs:
        task = worker.run(*ids)
        while wait_until(lambda: task.done() or worker.model.waiting()) is not True:
            worker.model.answer(*worker.model.waiting())
        assert task.result(20)
    assert "ledger_round_failed" in [entry["event"] for entry in logs]
    assert None not in store.calls.answers("j", ids)


def test_while_the_endpoint_is_away_a_worker_takes_one_call_to_try_with(store: Store, worker: Worker) -> None:
    opened(store, worker, "a")
    worker.model.away = True
    assert not worker.calls.has_enough()
    task = worker.run("a")
    wait_until(lambda: worker.model.waiting() == {"a"})
    assert worker.calls.has_enough()
    worker.calls.look()
    worker.model.away = False
    woken = worker.woken
    worker.calls.look()
    assert worker.woken == woken + 1
    worker.model.answer("a")
    assert task.result(20)


def test_aborted_calls_end_without_an_answer(store: Store, worker: Worker) -> None:
    """Calls of other jobs go on."""
    opened(store, worker, "a")
    opened(store, worker, "b", job_id="k")
    aborted, other = worker.run("a"), worker.run("b", job_id="k")
    wait_until(lambda: worker.model.waiting() == {"a", "b"})
    wait_until(lambda: len(worker.calls.held()) == 2)
    worker.calls.abort(["j"])
    assert aborted.result()
    worker.model.answer("b")
    assert other.result()
    assert (answered(store, "a"), answered(store, "b", job_id="k")) == ([False], [True])


def test_a_call_that_has_ended_before_it_is_noted_is_not_held(
    store: Store, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """Else its lease would be renewed for ever."""

    class Quick(Model):
        """Its calls are settled, in another thread as their answers are long, before ``start`` returns."""

        def start(self, request: CallRequest, *others: Any) -> Callable[[], None]:
            abort = super().start(request, *others)
            self.answer(*self.waiting(), text="long " * 100_000)
            wait_until(lambda: not made.calls.held())
            return abort

    made = Worker(store, redis_client, tmp_path, llm=Quick())
    with closing(made):
        for call, job_id in (("a", "j"), ("b", "k")):  # one thread starts both in turn
            opened(store, made, call, job_id=job_id)
            assert made.run(call, job_id=job_id).result()
        assert "j" not in made.calls.held()


def test_long_texts_go_by_the_blob_store(store: Store, worker: Worker) -> None:
    """A request and an answer too long for the store itself."""
    long = "x" * INLINE_CHARS
    opened(store, worker, "a", prompt=long + "{}")
    run = worker.run("a")
    wait_until(worker.model.waiting)
    worker.model.answer(f"{long}a", text=long)
    assert run.result()
    (packed,) = store.calls.answers("j", ["a"])
    assert worker.payloads.is_long(packed or "")
    result = CallResult.model_validate_json(worker.payloads.unpack(packed or ""))
    assert result.completion is not None
    assert result.completion.text == long


def test_a_request_that_is_gone_fails_its_call(store: Store, worker: Worker) -> None:
    """The call does not hang, and its error says why."""
    epoch = running_job(store)
    store.calls.open("j", epoch, [OpenCall("a", '{"blob": "' + "0" * 64 + '"}', 0, 0)])
    assert worker.run("a").result()
    assert "cannot be read" in (store.calls.answers("j", ["a"])[0] or "")


@pytest.mark.parametrize("broken", ["claim", "settle"])
def test_a_store_that_fails_takes_no_slot_away(
    store: Store, worker: Worker, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """The calls' leases lapse and the calls are sent again; here other calls have all slots."""
    ids = [f"c{n}" for n in range(SLOTS)]
    opened(store, worker, *ids)

    def fail(*_: object) -> Callable[..., object]:
        raise RuntimeError("no")

    with monkeypatch.context() as patched:
        patched.setattr(store.calls, broken, fail)
        run = worker.run(*ids)
        if broken == "settle":
            wait_until(lambda: len(worker.model.waiting()) == SLOTS)
            worker.model.answer(*ids)
        assert run.result()
    assert worker.calls.held() == {}
    opened(store, worker, *(f"d{n}" for n in range(SLOTS)), job_id="k")
    again = worker.run(*(f"d{n}" for n in range(SLOTS)), job_id="k")
    wait_until(lambda: len(worker.model.waiting()) == SLOTS)
    worker.model.answer(*worker.model.waiting())
    assert again.result()


def test_an_eighth_more_is_claimed_than_there_are_slots(
    store: Store, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """The model client holds the extra calls until a slot is free, so no slot idles during a claim."""
    with closing(Worker(store, redis_client, tmp_path, slots=16)) as worker:
        ids = [f"c{n}" for n in range(20)]
        opened(store, worker, *ids)
        ran = worker.run(*ids)
        wait_until(lambda: len(worker.model.waiting()) >= 18)
        assert len(worker.calls.held()["j"]) == 18
        worker.model.answer(*worker.model.waiting())
        wait_until(lambda: len(worker.model.waiting()) == 2)
        worker.model.answer(*worker.model.waiting())
        assert ran.result(30)


def _bad(fields: dict[str, Any]) -> CallResult:
    """An answer with a field that a ledger or JSON cannot hold."""
    usage = Usage.model_construct(**{"input_tokens": 7, **fields.pop("usage", {})})
    known = {"text": "yes", "usage": usage, "finish_reason": "stop", "model": "m"}
    return CallResult(completion=Completion.model_construct(**{**known, **fields}))


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "lone \ud800"},
        {"model": "lone \ud800"},
        {"finish_reason": "lone \ud800"},
        {"usage": {"input_tokens": 10**30}},
        {"usage": {"output_tokens": -5}},
        {"usage": {"reasoning_tokens": 10**30}},
        {"usage": {"billed_nanousd": 10**30}},
        {"usage": {"input_tokens": "many"}},
        {"usage": {"billed_nanousd": 1.5}},
        None,
    ],
)
def test_a_reply_that_no_ledger_can_hold_spoils_no_other(
    store: Store, worker: Worker, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any] | None
) -> None:
    """It ends with its task, as an answer with an estimated cost or as a failed call."""
    opened(store, worker, "a", "bad", "b", "c")
    may_settle, settle, sizes = threading.Event(), store.calls.settle, list[int]()

    def together(job_id: str, owner: str, settlements: Any) -> list[bool]:
        sizes.append(len(settlements))
        may_settle.wait()
        return settle(job_id, owner, settlements)

    monkeypatch.setattr(store.calls, "settle", together)
    run = worker.run("a", "bad", "b", "c")
    wait_until(lambda: len(worker.model.waiting()) == SLOTS)
    worker.model.answer("a")
    wait_until(lambda: sizes)
    if fields is None:
        worker.model.asked["bad"].set_exception(RuntimeError("a bug"))
    else:
        worker.model.asked["bad"].set_result(_bad(dict(fields)))
    worker.model.answer("b", "c")
    may_settle.set()
    assert run.result()
    assert sizes == [1, 3]
    assert all(answered(store, "a", "bad", "b", "c"))
    costs = store.jobs.costs("j")
    assert costs.sub_llm_calls >= 3
    assert (costs.pending_calls, store.jobs.get("j").calls_claimed) == (0, 0)
    assert store.audits.job("j").differences == []
    recorded = {span.attributes["rlm.call_id"] for span in worker.spans.spans}
    assert {"a", "b", "c"} <= recorded
    used = sum(int(str(span.attributes["gen_ai.usage.input_tokens"])) for span in worker.spans.spans)
    assert used == costs.sub_input_tokens


@pytest.mark.parametrize("named", [True, False], ids=["cell", "job"])
def test_an_answered_call_is_recorded_below_the_cell_that_asked(
    store: Store, worker: Worker, named: bool
) -> None:
    """Below the job, if its message names no cell. A call that is given back has no span."""
    opened(store, worker, "a", "b")
    cell = cell_span("j", 0, "code")
    run = worker.run("a", "b", traceparent=traceparent("j", cell) if named else None)
    wait_until(lambda: len(worker.model.waiting()) == 2)
    worker.model.answer("a")
    wait_until(lambda: worker.spans.spans)
    worker.calls.abort(["j"])
    assert run.result()
    (span,) = [span for span in worker.spans.spans if span.attributes["rlm.call_id"] == "a"]
    assert (span.parent, span.span_id) == (cell if named else job_span("j"), None)
    assert span.attributes["gen_ai.usage.input_tokens"] == store.jobs.costs("j").sub_input_tokens
