"""``llm_query(schema=)`` over a real REPL, Redis, sub worker and HTTP: tries, budgets, and a second run."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.errors import Superseded
from rlm_dist.llm import LLM
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.root_worker.repl import JobRepl
from rlm_dist.root_worker.typed_calls import Chat, typed_answers
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.schema import Answer, CellResult, Message, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from rlm_dist.store import Store
from rlm_dist.sub_worker.calls import SubCalls
from rlm_dist.worker.accounts import Accounts
from tests.support.sandboxes import LIMITS, forks, write_context
from tests.support.store_values import running_job

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
ASK = f"llm_query('count', schema={SCHEMA})"


class Rig:
    """A job's REPL whose sub-calls a sub worker makes at an endpoint."""

    def __init__(
        self, stack: ExitStack, store: Store, client: redis.Redis, home: Path, endpoint: SimulatedEndpoint
    ) -> None:
        self.store = store
        self.endpoint = endpoint
        self._stack = stack
        self._home = home
        blobs = open_blobs("redis", home=home, client=client, retention_s=1000)
        self._payloads = Payloads(store=store, blobs=blobs)
        endpoints = dict.fromkeys(Role, (Endpoint(endpoint.url, model="simulated-sub"),))
        self._accounts = Accounts(
            prices=Prices(None), endpoints=endpoints, resolve=lambda _, name: "simulated-sub"
        )
        llm = LLM(endpoints, call_timeout_s=20)
        stack.callback(llm.close)
        self._calls = stack.enter_context(
            closing(
                SubCalls(
                    calls=store.calls, payloads=self._payloads, llm=llm, accounts=self._accounts,
                    owner="sub-1", slots=8, wants_more=lambda: None,
                )
            )
        )  # fmt: skip
        self._pool = stack.enter_context(ThreadPoolExecutor(8))

    def fan_out(self) -> FanOut:
        """The fan-out of a further run of the job."""
        made = FanOut(
            spec=self.store.jobs.get("j").spec.model_copy(update={"sub_model": "simulated-sub"}),
            epoch=1, store=self.store, payloads=self._payloads, accounts=self._accounts, send=self._send,
            queue_is_empty=lambda: True, emit=lambda _: None,
        )  # fmt: skip
        self._stack.callback(made.close)
        return made

    def _send(self, job_id: str, turn: int, chunks: Sequence[Sequence[str]], traceparent: str | None) -> None:
        for chunk in chunks:
            self._pool.submit(self._calls.run, job_id, chunk)

    def run(self, code: str) -> CellResult:
        """Run a block in a new REPL of the job."""
        context = write_context(self._home / "context", "str", ["hello"])
        repl = JobRepl(
            self.fan_out(),
            lambda query, typed_query: Sandbox(
                context_path=context, query=query, typed_query=typed_query, limits=LIMITS, start=forks()
            ),
            lambda _: None,
        )
        with closing(repl.sandbox) as sandbox:
            sandbox.start()
            return repl.run(code, 0, 1)

    def paid(self) -> tuple[int, int]:
        """The sub-calls in the ledger, and those that the endpoint answered; their tokens must agree."""
        costs, served = self.store.jobs.costs("j"), self.endpoint.served
        assert costs.sub_llm_tokens == served.usage.total
        return costs.sub_llm_calls, served.answered


Respond = Callable[[Sequence[Message]], str]
MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig(store: Store, redis_client: redis.Redis, tmp_path: Path) -> Iterator[MakeRig]:
    """Make a rig over an endpoint whose sub model answers by a function; other arguments are limits."""
    with ExitStack() as stack:

        def make(sub: Respond, *, schemas: bool = True, faults: Sequence[Fault] = (), **limits: Any) -> Rig:
            running_job(store, **limits)
            endpoint = SimulatedEndpoint(sub=sub, schemas=schemas, faults=faults)
            return Rig(stack, store, redis_client, tmp_path, stack.enter_context(endpoint))

        yield make


def in_turn(*replies: str) -> Respond:
    """A model whose n-th reply in a chat is the n-th of these."""
    return lambda messages: replies[sum(message.role == "assistant" for message in messages)]


def output(cell: CellResult) -> str:
    """What a block printed, which must have succeeded."""
    assert cell.error is None, cell.error
    return cell.output.head


@pytest.mark.parametrize(
    "reply", ['{"n": 3}', '```json\n{"n": 3}\n```', ' <think>hm {"n": 9}</think>{"n": 3}\n']
)
def test_a_value_that_conforms_at_once_is_returned(make_rig: MakeRig, reply: str) -> None:
    rig = make_rig(in_turn(reply))
    cell = rig.run(f"print({ASK}['n'] + 1)")
    assert output(cell) == "4\n"
    assert (cell.calls, cell.failed_calls) == (1, 0)
    assert rig.paid() == (1, 1)
    assert ["response_format" in key for key in rig.endpoint.served.by_parameters] == [True]


@pytest.mark.parametrize(
    "wrong", ['{"n": "x"}', 'It is {"n": 3}.', '{"n": NaN}', "none", "```\n{}\n```\n```\n{}\n```"]
)
def test_the_model_is_told_what_is_wrong_and_asked_again(make_rig: MakeRig, wrong: str) -> None:
    chats: list[Sequence[Message]] = []

    def sub(messages: Sequence[Message]) -> str:
        chats.append(messages)
        return wrong if len(messages) == 1 else '{"n": 3}'

    rig = make_rig(sub)
    cell = rig.run(f"print({ASK})")
    assert output(cell) == "{'n': 3}\n"
    assert (cell.calls, cell.failed_calls) == (1, 0)
    assert rig.paid() == (2, 2)
    assert [message.role for message in chats[1]] == ["user", "assistant", "user"]
    assert chats[1][1].content == wrong
    assert "does not conform" in chats[1][2].content


def test_after_three_tries_the_call_fails_and_no_wrong_value_is_returned(make_rig: MakeRig) -> None:
    rig = make_rig(in_turn("1", "2", "3", "4"))
    cell = rig.run(ASK)
    assert "LLMQueryError: no_answer: after 3 tries the answer does not conform: the value: 3" in (
        cell.error or ""
    )
    assert (cell.calls, cell.failed_calls) == (1, 1)
    assert rig.paid() == (3, 3)


def test_in_a_batch_only_what_missed_is_asked_again(make_rig: MakeRig) -> None:
    def sub(messages: Sequence[Message]) -> str:
        if "never" in messages[0].content:
            return "no"
        return "soon" if "late" in messages[0].content and len(messages) == 1 else '"x"'

    rig = make_rig(sub)
    cell = rig.run(
        "values = llm_query_batched(['now', 'never', 'late'], schema={'type': 'string'})\n"
        "print([value.ok for value in values], values[0], values[2], type(values[1]).__name__)"
    )
    assert output(cell) == "[True, False, True] x x Failed\n"
    assert (cell.calls, cell.failed_calls) == (3, 1)
    assert rig.paid() == (6, 6)


def test_an_endpoint_without_the_mode_is_asked_without_it(make_rig: MakeRig) -> None:
    rig = make_rig(in_turn('{"n": 3}'), schemas=False)
    assert output(rig.run(f"print([{ASK} for _ in range(3)])")) == "[{'n': 3}, {'n': 3}, {'n': 3}]\n"
    assert rig.paid() == (3, 3)
    assert rig.endpoint.served.faults == {"no_schemas": 1}


def test_a_budget_that_is_reached_between_tries_holds(make_rig: MakeRig) -> None:
    rig = make_rig(in_turn("1", '{"n": 3}'), max_sub_calls=1)
    cell = rig.run(ASK)
    assert "LLMQueryError: limit: not made: limit max_sub_calls reached" in (cell.error or "")
    assert [limit.kind for limit in cell.limits] == ["max_sub_calls"]
    assert rig.paid() == (1, 1)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"finish_reason": "length"}, "no_answer: the answer was cut off at the output limit"),
        ({"message": {"refusal": "I will not"}}, "no_answer: the model refused"),
    ],
)
def test_a_cut_or_refused_reply_fails_at_once(
    make_rig: MakeRig, choice: dict[str, object], said: str
) -> None:
    rig = make_rig(
        in_turn("1", '{"n": 3}'), faults=[Fault.model_validate({"kind": "choice", "choice": choice})]
    )
    assert said in (rig.run(ASK).error or "")
    assert rig.endpoint.served.answered == 1


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("{'type': 'strin'}", "ValueError: schema: not a JSON Schema"),
        ("{'$ref': 'file:///etc/passwd'}", "ValueError: schema: refers to"),
        ("{'pattern': '(?=a)'}", "ValueError: schema: the pattern"),
        ("'string'", "TypeError: schema must be a dict"),
        ("{'enum': [{1, 2}]}", "ValueError: schema is not JSON"),
        ("{'enum': ['x' * 70_000]}", "ValueError: schema has 70,0"),
        (
            "__import__('functools').reduce(lambda s, _: {'items': s}, range(60), {})",
            "ValueError: schema: it is nested",
        ),
    ],
)
def test_a_bad_schema_is_refused_where_it_was_given(make_rig: MakeRig, schema: str, said: str) -> None:
    rig = make_rig(in_turn("1"))
    cell = rig.run(f"llm_query_batched(['a', 'b'], schema={schema})")
    assert said in (cell.error or "")
    assert (cell.calls, cell.failed_calls) == (0, 0)
    assert rig.endpoint.served.requests == 0


@pytest.mark.parametrize("lost_after", [1, 2])
def test_a_run_after_a_lost_one_pays_for_no_try_again(make_rig: MakeRig, lost_after: int) -> None:
    rig = make_rig(in_turn("1", "2", '{"n": 3}'))
    prompts: Sequence[Chat] = [(Message(role="user", content=text),) for text in ("a", "b")]
    lost = rig.fan_out()
    rounds: list[int] = []

    def ask(chats: Sequence[Chat]) -> list[Answer]:
        if len(rounds) == lost_after:
            raise Superseded("j", 1)
        rounds.append(len(chats))
        return lost.query(chats, None, schema=SCHEMA)

    with suppress(Superseded):
        typed_answers(ask, prompts, SCHEMA)
    assert rig.paid() == (2 * lost_after, 2 * lost_after)
    later = rig.fan_out()
    answers = typed_answers(lambda chats: later.query(chats, None, schema=SCHEMA), prompts, SCHEMA)
    assert [answer.text for answer in answers] == ['{"n": 3}'] * 2
    assert rig.paid() == (6, 6)
