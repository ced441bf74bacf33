"""The fan-out of one job over a real store; a thread that settles what is sent plays the workers."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
import redis

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.errors import Cancelled, FailureKind, ReplLost, UnknownPrice
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.root_worker import fan_out
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.schema import (
    CallFailure,
    CallRequest,
    CallResult,
    Completion,
    Message,
    ReachedLimit,
    Role,
    Usage,
)
from rlm_dist.schema.events import Event, SubCallsAnswered
from rlm_dist.schema.id_lists import unpack_ids
from rlm_dist.store import Settlement, Spend, Store, keys
from rlm_dist.worker.accounts import Accounts
from tests.support.store_values import running_job
from tests.support.waiting import wait_until

WINDOW = 64
USAGE = Usage(input_tokens=1)


class _Accounts(Accounts):
    """Records the models for which it reserved."""

    reserved: ClassVar[set[str]] = set()

    def reserve(self, request: CallRequest, usage: Usage | None = None) -> tuple[int, int | None]:
        """Record the model."""
        self.reserved.add(request.model)
        return super().reserve(request, usage)


class Bench:
    """A fan-out, the calls it sent, and workers that answer on demand."""

    def __init__(self, store: Store, client: redis.Redis, home: Path, **limits: Any) -> None:
        self.store = store
        self.sent: list[Sequence[str]] = []
        self.sent_for: list[tuple[int, str | None]] = []
        self.events: list[Event] = []
        epoch = running_job(store, **limits)
        blobs = open_blobs("redis", home=home, client=client, retention_s=1000)
        self.fan_out = FanOut(
            spec=store.jobs.get("j").spec, epoch=epoch, store=store,
            payloads=Payloads(store=store, blobs=blobs),
            accounts=_Accounts(
                prices=Prices(None),
                endpoints=dict.fromkeys(Role, (Endpoint("http://x"),)),
                resolve=lambda _, name: "m",
            ),
            send=self._send, queue_is_empty=lambda: True, emit=self.events.append,
        )  # fmt: skip
        self.answers_at_once = True
        self.answered: list[str] = []
        _Accounts.reserved.clear()

    def _send(self, job_id: str, turn: int, chunks: Sequence[Sequence[str]], traceparent: str | None) -> None:
        self.sent += chunks
        self.sent_for.append((turn, traceparent))
        if self.answers_at_once:
            for chunk in chunks:
                self.answer(chunk)

    def answer(self, call_ids: Sequence[str]) -> None:
        """Answer each call with its own prompt, the last one first."""
        claimed = self.store.calls.claim("j", call_ids, "sub-1", 60_000)
        for call_id, packed in reversed(list(zip(call_ids, claimed, strict=True))):
            prompt = CallRequest.model_validate_json(packed or "").messages[0].content
            self.answered.append(prompt)
            finish = "length" if prompt == "long" else "stop"
            done = Completion(text=f"re {prompt}", usage=USAGE, finish_reason=finish, model="m")
            result = CallResult(completion=done).model_dump_json()
            self.store.calls.settle(
                "j", "sub-1", [Settlement(call_id, Role.SUB, result, Spend("m", USAGE, None))]
            )

    def ask(self, prompts: int, prefix: str = "", model: str | None = None) -> list[str | None]:
        """Ask ``count`` prompts; returns the payloads of the answers."""
        asked = [(Message(role="user", content=f"{prefix}{number}"),) for number in range(prompts)]
        return [answer.text for answer in self.fan_out.query(asked, model)]

    def ask_aside(self, prompts: int, prefix: str) -> threading.Thread:
        """Ask ``count`` prompts in another thread, which is about to wait for room when this returns."""

        def ask() -> None:
            with suppress(Cancelled):
                self.ask(prompts, prefix, model=prefix)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: prefix in _Accounts.reserved)
        return asking

    def answer_until(self, over: Callable[[], bool]) -> None:
        """Answer the sent calls in order, one task after another."""
        for at in count():
            wait_until(lambda at=at: over() or len(self.sent) > at)  # type: ignore[misc]
            if over():
                return
            self.answer(self.sent[at])


@pytest.fixture
def bench(store: Store, redis_client: redis.Redis, tmp_path: Path) -> Iterator[Bench]:
    """A fan-out of a job that a worker holds."""
    made = Bench(store, redis_client, tmp_path)
    yield made
    made.fan_out.close()


def test_answers_come_in_the_order_asked(bench: Bench) -> None:
    """There are far more prompts than the window holds, and they are answered in any order."""
    assert bench.ask(5 * WINDOW + 3) == [f"re {number}" for number in range(5 * WINDOW + 3)]
    assert max(map(len, bench.sent)) > 1
    (event,) = bench.events
    assert isinstance(event, SubCallsAnswered)
    assert (event.calls, event.failed, event.from_store) == (5 * WINDOW + 3, 0, 0)


def test_the_event_names_every_call_in_the_order_of_the_prompts(bench: Bench) -> None:
    bench.ask(2 * WINDOW)
    bench.ask(1)  # a prompt that was asked before is another call
    ids = [
        call_id
        for event in bench.events
        if isinstance(event, SubCallsAnswered)
        for call_id in unpack_ids(event.call_ids)
    ]
    requests = bench.store.connection.client.hmget(keys.job("j", "requests"), ids)
    prompts = [CallRequest.model_validate_json(packed or "").messages[0].content for packed in requests]
    assert prompts == [*map(str, range(2 * WINDOW)), "0"]
    assert ids[-1].endswith("#2")


def test_33_an_answer_that_was_cut_off_says_so(bench: Bench) -> None:
    asked = [(Message(role="user", content=text),) for text in ("short", "long")]
    assert [answer.truncated for answer in bench.fan_out.query(asked, None)] == [False, True]


def test_no_prompts_have_no_answers(bench: Bench) -> None:
    """Nothing is sent for them either."""
    assert (bench.ask(0), bench.sent, bench.events) == ([], [], [])


def test_calls_that_do_not_fit_into_a_limit_fail_alone(
    store: Store, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """The others are answered, and the limit is reported once."""
    bench = Bench(store, redis_client, tmp_path, max_sub_calls=WINDOW)
    asked = [(Message(role="user", content=str(number)),) for number in range(2 * WINDOW)]
    answers = bench.fan_out.query(asked, None)
    assert [answer.text for answer in answers[:WINDOW]] == [f"re {number}" for number in range(WINDOW)]
    failures = {answer.failure for answer in answers[WINDOW:]}
    said = f"not made: limit max_sub_calls reached: {WINDOW} of {WINDOW} used"
    assert failures == {CallFailure(kind=FailureKind.LIMIT, message=said)}
    assert bench.fan_out.take_limits() == (ReachedLimit("max_sub_calls", WINDOW, WINDOW),)
    assert bench.fan_out.take_limits() == ()
    assert store.jobs.costs("j").failed_calls == 0
    bench.fan_out.close()


def ask_ahead(bench: Bench, *numbers: int) -> list[str | None]:
    """Ask these prompts ahead; the texts of the answers, ``limit`` for a refused call, None if not made."""
    asked = [(Message(role="user", content=str(number)),) for number in numbers]
    answers = bench.fan_out.query_ahead(asked, None)
    return [
        None if answer is None else answer.failure.kind if answer.failure else answer.text
        for answer in answers
    ]


def test_of_calls_ahead_those_without_room_are_left_out_until_they_are_asked_for(
    store: Store, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """No limit is reported for them; the first one is asked for, so it is refused for good."""
    bench = Bench(store, redis_client, tmp_path, max_sub_calls=3)
    assert ask_ahead(bench, 0, 1, 2, 3, 4) == ["re 0", "re 1", "re 2", None, None]
    assert (bench.fan_out.take_limits(), bench.fan_out.asked) == ((), 3)
    assert ask_ahead(bench, 3, 4) == [FailureKind.LIMIT, None]
    assert bench.fan_out.take_limits() == (ReachedLimit("max_sub_calls", 3, 3),)
    assert store.jobs.costs("j").failed_calls == 0
    bench.fan_out.close()


def test_a_loop_that_fits_into_a_budget_one_by_one_fits_when_it_goes_ahead(
    store: Store, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """Each call reserves far more than it uses, and the budget holds three reservations."""
    request = CallRequest(role=Role.SUB, model="m", messages=(Message(role="user", content="0"),))
    tokens, _ = _Accounts(
        prices=Prices(None), endpoints=dict.fromkeys(Role, (Endpoint("http://x"),)), resolve=lambda *_: "m"
    ).reserve(request)
    bench = Bench(store, redis_client, tmp_path, max_tokens=3 * tokens + 20)
    numbers, answers = list(range(10)), list[str | None]()
    while len(answers) < len(numbers):
        got = ask_ahead(bench, *numbers[len(answers) :])
        answers += [text for text in got if text is not None]
    assert answers == [f"re {number}" for number in numbers]
    assert bench.fan_out.take_limits() == ()
    assert [number for chunk in bench.sent for number in chunk] == list(
        dict.fromkeys(number for chunk in bench.sent for number in chunk)
    )
    bench.fan_out.close()


def test_calls_ahead_and_one_by_one_have_the_same_ids(bench: Bench) -> None:
    """So a job that ran one way replays the other way, from the store alone."""
    asked = [0, 1, 0, 2, 0]
    ahead = ask_ahead(bench, *asked)
    sent, ids = [call_id for chunk in bench.sent for call_id in chunk], list[str]()
    bench.sent.clear()
    bench.fan_out.rewind()
    for number, text in zip(asked, ahead, strict=True):
        (answer,) = bench.fan_out.query([(Message(role="user", content=str(number)),)], None)
        assert answer.text == text
        ids.append(answer.call_id)
    assert ids == sent
    assert bench.sent == []
    bench.fan_out.rewind()
    assert ask_ahead(bench, *asked) == ahead
    assert bench.sent == []


def test_a_model_without_a_price_ends_the_query(
    store: Store, redis_client: redis.Redis, tmp_path: Path
) -> None:
    bench = Bench(store, redis_client, tmp_path, max_nanousd=10**9)
    with pytest.raises(UnknownPrice):
        bench.ask(1)
    bench.fan_out.close()


def test_no_more_than_the_window_is_out(bench: Bench) -> None:
    """The next piece is sent when the window has room for it."""
    bench.answers_at_once = False
    answers: list[list[str | None]] = []
    asking = threading.Thread(target=lambda: answers.append(bench.ask(WINDOW + 1)))
    asking.start()
    wait_until(lambda: sum(map(len, bench.sent)) == WINDOW)
    bench.answers_at_once = True
    for chunk in list(bench.sent):
        bench.answer(chunk)
    asking.join()
    assert answers == [[f"re {number}" for number in range(WINDOW + 1)]]


def test_of_two_large_ones_the_first_to_come_goes_out_first(bench: Bench) -> None:
    """So the parts of one batch end one after another, and further parts follow without a gap."""
    bench.answers_at_once = False
    asking = [bench.ask_aside(3 * WINDOW, prefix) for prefix in ("one-", "two-")]
    bench.answer_until(lambda: len(bench.answered) == 6 * WINDOW)
    for thread in asking:
        thread.join()
    assert all(prompt.startswith("one-") for prompt in bench.answered[: 3 * WINDOW])


def test_a_single_call_does_not_wait_for_a_large_batch(bench: Bench) -> None:
    bench.answers_at_once = False
    large = bench.ask_aside(20 * WINDOW, "large-")
    wait_until(lambda: sum(map(len, bench.sent)) == WINDOW)
    single = bench.ask_aside(1, "single-")
    bench.answer_until(lambda: "single-0" in bench.answered)
    assert len(bench.answered) < 10 * WINDOW
    bench.fan_out.abort(Cancelled("j"))
    for thread in (large, single):
        thread.join()


def test_what_was_answered_before_is_not_sent_again(bench: Bench) -> None:
    """A root that runs the same cell again gets answers from the store; only new calls are sent."""
    before = bench.ask(20)
    bench.sent.clear()
    bench.fan_out.rewind()
    assert bench.ask(21)[:20] == before
    assert sum(map(len, bench.sent)) == 1
    assert bench.store.jobs.costs("j").cache_hits == 20


def test_a_lost_call_is_sent_again_for_the_cell_that_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fan_out, "RECHECK_S", 0.3)
    monkeypatch.setattr(fan_out, "UNCLAIMED_MS", 0)
    monkeypatch.setattr(fan_out, "_READ_BLOCK_MS", 1)
    bench.answers_at_once = False
    prompts = [(Message(role="user", content="one"),)]
    asking = threading.Thread(
        target=bench.fan_out.query, args=(prompts, None), kwargs={"turn": 3, "traceparent": "00-x"}
    )
    asking.start()
    wait_until(lambda: len(bench.sent) > 1)
    assert set(bench.sent_for) == {(3, "00-x")}
    assert len({tuple(chunk) for chunk in bench.sent}) == 1
    bench.answer(bench.sent[0])
    asking.join()


def test_an_abort_ends_the_waiting(bench: Bench) -> None:
    """It ends the current query and every later one."""
    bench.answers_at_once = False
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            bench.ask(3)
        except Cancelled as error:
            raised.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: bench.sent)
    bench.fan_out.abort(Cancelled("j"))
    asking.join()
    assert len(raised) == 1
    with pytest.raises(Cancelled):
        bench.ask(1)


def test_whoever_asked_in_a_repl_that_is_lost_waits_no_longer(bench: Bench) -> None:
    """Those that wait for answers, and those that wait for room; what asks later is answered."""
    bench.answers_at_once = False
    dropped: list[str] = []

    def ask(prefix: str) -> None:
        try:
            bench.ask(WINDOW, prefix)
        except ReplLost:
            dropped.append(prefix)

    asking = [threading.Thread(target=ask, args=(prefix,)) for prefix in "abc"]
    for thread in asking:
        thread.start()
    wait_until(lambda: len(bench.fan_out._waiting) == len(asking))
    bench.fan_out.drop_waiting()
    for thread in asking:
        thread.join(20)
    assert sorted(dropped) == ["a", "b", "c"]
    bench.answers_at_once = True
    assert bench.ask(1, "later ") == ["re later 0"]
