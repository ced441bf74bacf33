"""Child jobs on real worker processes: depth 1, 2 and 3, every slot taken by parents, deaths, and a cancel.

The model is scripted by the query: ``split N`` hands each of N parts to a child, ``leaf`` asks the sub model.
"""

import json
import random
import re
import time
from collections.abc import Iterator, Sequence

import pytest

from rlm_dist.errors import InputError
from rlm_dist.schema import JobRecord, JobState, Message, Role
from rlm_dist.schema.events import ChildrenAnswered, MessageAdded
from rlm_dist.simulated import Fault, SimulatedEndpoint
from rlm_dist.store import Store
from tests.support.bench import Bench, MakeBench
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

RESULT_S = 150.0
_TASK = re.compile(r"(?:split ([\d ]+)|leaf)(?= of the parts)")


def root(messages: Sequence[Message]) -> str:
    """The root model of all depths: ``split 2 3`` makes 2 children that each make 3."""
    tasks = [_TASK.search(m.content) for m in messages if m.role == "user"]
    (task,) = [found for found in tasks if found]
    counts = (task[1] or "").split()
    if not counts:
        code = "FINAL(llm_query(f'leaf call about {context[:40]}'))"
    else:
        rest = f"split {' '.join(counts[1:])}" if counts[1:] else "leaf"
        code = (
            f"parts = [f'{{i}} ' + str(context)[:200] for i in range({counts[0]})]\n"
            f"answers = rlm_query_batched(['{rest} of the parts'] * {counts[0]}, parts)\n"
            "FINAL(' | '.join(answers))"
        )
    return f"```repl\n{code}\n```"


def sub(messages: Sequence[Message]) -> str:
    """A sub model that answers with a word of its prompt."""
    return f"[{messages[-1].content.split(' about ')[-1]}]"


@pytest.fixture
def endpoint() -> Iterator[SimulatedEndpoint]:
    """The endpoint with the scripted models."""
    with SimulatedEndpoint(root=root, sub=sub) as simulated:
        yield simulated


def start(make_bench: MakeBench, endpoint: SimulatedEndpoint, depths: int, slots: int = 2) -> Bench:
    """A cluster with one root worker for each depth, and a sub worker."""
    bench = make_bench(endpoint)
    for depth in range(depths):
        bench.start(Role.ROOT, concurrency=slots, RLM_ROOT_DEPTH=str(depth), RLM_MAX_DEPTH=str(depths))
    bench.start(Role.SUB, concurrency=8)
    bench.wait_ready()
    wait_until(lambda: not bench.client.store.workers.missing_depths(depths))
    return bench


def tree(store: Store, job_id: str) -> list[JobRecord]:
    """A job and all that are below it."""
    rows = store.children.of(job_id)
    return [store.jobs.get(job_id)] + [record for row in rows for record in tree(store, row.id)]


def assert_paid_once(bench: Bench, endpoint: SimulatedEndpoint, job_id: str) -> None:
    """The costs of the top job are what the endpoint served, each once."""
    cost = bench.client.job(job_id).cost()
    served = endpoint.served
    assert cost.root_llm_calls + cost.sub_llm_calls == served.answered
    assert cost.root_input_tokens + cost.sub_input_tokens == served.usage.input_tokens
    assert cost.root_output_tokens + cost.sub_output_tokens == served.usage.output_tokens
    assert cost.duplicate_paid_calls == 0


def test_depth_1_makes_a_plain_call(make_bench: MakeBench, endpoint: SimulatedEndpoint) -> None:
    """Without children, ``rlm_query`` is a sub-call, and the prompt says nothing of them."""
    bench = start(make_bench, endpoint, 1)
    job = bench.client.submit("the text", "split 2 of the parts")
    assert job.result(RESULT_S).state is JobState.SUCCEEDED
    assert bench.client.store.children.count(job.id) == 0
    system = next(event.text for event in job.events() if isinstance(event, MessageAdded))
    assert "REPL of its own" not in system
    assert_paid_once(bench, endpoint, job.id)


@pytest.mark.parametrize(("depth", "query", "jobs"), [(2, "split 3", 4), (3, "split 2 3", 9)])
def test_a_tree_answers_and_is_paid_for_once(
    make_bench: MakeBench, endpoint: SimulatedEndpoint, depth: int, query: str, jobs: int
) -> None:
    """Each child has its context, its REPL and its trace, on the worker of its depth."""
    bench = start(make_bench, endpoint, depth)
    job = bench.client.submit("the text", f"{query} of the parts", max_depth=depth)
    result = job.result(RESULT_S)
    assert result.state is JobState.SUCCEEDED, result.error
    if depth == 2:
        assert result.answer == " | ".join(f"[{n} the text]" for n in range(3))
    records = tree(bench.client.store, job.id)
    assert len(records) == jobs
    assert {record.state for record in records} == {JobState.SUCCEEDED}
    assert {record.spec.depth for record in records} == set(range(depth))
    answered = [event for event in job.events() if isinstance(event, ChildrenAnswered)]
    assert [(event.children, event.failed) for event in answered] == [(int(query.split()[1]), 0)]
    assert_paid_once(bench, endpoint, job.id)


def test_no_deadlock_if_every_slot_of_every_depth_is_taken_by_parents(
    make_bench: MakeBench, endpoint: SimulatedEndpoint
) -> None:
    """Far more parents than slots at each of three depths: all trees finish."""
    bench = start(make_bench, endpoint, 3, slots=1)
    items = [
        {"id": f"q{n}", "query": "split 3 2 of the parts", "context": f"text {n}", "max_depth": 3}
        for n in range(4)
    ]
    batch = bench.client.submit_batch(items)
    states = [result.state for result in batch.results()]
    assert states == [JobState.SUCCEEDED] * 4
    total = batch.cost()
    assert total.root_llm_calls + total.sub_llm_calls == endpoint.served.answered


@pytest.mark.parametrize("depth", [0, 1])
def test_a_killed_worker_is_replaced_and_nothing_is_paid_twice(make_bench: MakeBench, depth: int) -> None:
    """The worker of parents, or of children, is killed while the leaves are at the endpoint."""
    fault = Fault(kind="hold", role=Role.SUB)
    with SimulatedEndpoint(root=root, sub=sub, faults=[fault]) as endpoint:
        bench = start(make_bench, endpoint, 2)
        job = bench.client.submit("the text", "split 2 of the parts", max_depth=2)
        wait_until(lambda: endpoint.served.in_flight == 2, timeout_s=60)
        bench.workers[depth].kill()
        bench.start(Role.ROOT, concurrency=2, RLM_ROOT_DEPTH=str(depth), RLM_MAX_DEPTH="2")
        bench.workers[-1].wait_ready()
        killed = [record for record in tree(bench.client.store, job.id) if record.spec.depth == depth]
        wait_until(
            lambda: all(bench.client.store.jobs.get(record.spec.id).epoch == 2 for record in killed),
            timeout_s=90,
        )
        endpoint.release()
        result = job.result(RESULT_S)
        assert result.answer == "[0 the text] | [1 the text]"
        records = tree(bench.client.store, job.id)
        assert len(records) == 3
        assert {record.epoch for record in records if record.spec.depth != depth} == {1}
        assert_paid_once(bench, endpoint, job.id)


def test_a_cancel_stops_the_whole_tree(make_bench: MakeBench) -> None:
    """A job of depth 3 is cancelled while its leaves are at the endpoint."""
    fault = Fault(kind="hold", role=Role.SUB)
    with SimulatedEndpoint(root=root, sub=sub, faults=[fault]) as endpoint:
        bench = start(make_bench, endpoint, 3, slots=4)
        job = bench.client.submit("the text", "split 2 2 of the parts", max_depth=3)
        wait_until(lambda: endpoint.served.in_flight == 4, timeout_s=60)
        began = time.monotonic()
        job.cancel()
        store = bench.client.store
        wait_until(lambda: all(record.state.final for record in tree(store, job.id)), timeout_s=30)
        print(f"the tree was final after {time.monotonic() - began:.2f} s")  # noqa: T201  # for the report
        assert {record.state for record in tree(store, job.id)} == {JobState.CANCELLED}
        wait_until(lambda: endpoint.served.in_flight == 0, timeout_s=30)
        print(f"no call was in flight after {time.monotonic() - began:.2f} s")  # noqa: T201


def test_5_mb_go_to_a_child_by_reference(make_bench: MakeBench) -> None:
    """A context made in the REPL reaches the child whole, and is no part of any prompt."""

    def large(messages: Sequence[Message]) -> str:
        if any("count it" in message.content for message in messages):
            return "```repl\nFINAL(f'{len(context)} {sum(line.isdigit() for line in context)}')\n```"
        code = "lines = ['x' * 99] * 50_000 + ['7']\nFINAL(rlm_query('count it', lines))"
        return f"```repl\n{code}\n```"

    with SimulatedEndpoint(root=large, sub=sub) as endpoint:
        bench = start(make_bench, endpoint, 2)
        job = bench.client.submit("the text", "go", max_depth=2)
        assert job.result(RESULT_S).answer == "50001 1"
        (child,) = bench.client.store.children.of(job.id)
        assert bench.client.store.jobs.get(child.id).spec.context.size_bytes > 4_950_000
        assert endpoint.served.usage.input_tokens < 20_000


def test_a_depth_without_a_worker_is_refused_in_plain_words(
    make_bench: MakeBench, endpoint: SimulatedEndpoint
) -> None:
    """Nothing is enqueued, and the message says which depth and what to start."""
    bench = start(make_bench, endpoint, 2)
    said = "none is running for depth 2: start rlm-dist worker root --depth 2"
    with pytest.raises(InputError, match=said):
        bench.client.submit("the text", "leaf of the parts", max_depth=3)
    line = {"id": "a", "query": "leaf of the parts", "context": "c", "max_depth": 3}
    with pytest.raises(InputError, match=said):
        bench.client.submit_batch([line])
    assert bench.client.store.jobs.newest(10) == []


def test_a_budget_of_the_tree_leaves_children_and_root_room_to_answer(make_bench: MakeBench) -> None:
    """The children spend the tokens of the top job until no sub-call fits; each still has its last turn."""

    def spender(messages: Sequence[Message]) -> str:
        replies = sum(message.role == "assistant" for message in messages)
        if any("spend it all" in message.content for message in messages if message.role == "user"):
            code = "for n in range(10_000):\n    llm_query(f'{context} {n} ' + 'x' * 400)"
            return f"```repl\n{code}\n```" if not replies else "```repl\nFINAL('spent')\n```"
        code = "answers = rlm_query_batched(['spend it all'] * 2, ['a', 'b'])\nprint(answers)"
        return f"```repl\n{code}\n```" if not replies else "```repl\nFINAL(' '.join(answers))\n```"

    with SimulatedEndpoint(root=spender, sub=sub) as endpoint:
        bench = start(make_bench, endpoint, 2)
        job = bench.client.submit(
            "the text", "go", max_depth=2,
            max_tokens=40_000, max_output_tokens=300, sub_max_output_tokens=20,
        )  # fmt: skip
        result = job.result(RESULT_S)
        records = tree(bench.client.store, job.id)
        assert [record.state for record in records] == [JobState.SUCCEEDED] * 3, result.error
        assert result.answer == "spent spent"
        assert endpoint.served.usage.input_tokens + endpoint.served.usage.output_tokens <= 40_000
        assert_paid_once(bench, endpoint, job.id)


Shape = list["Shape"]


def shapes(chance: random.Random, depth: int) -> Shape:
    """A tree of at most ``depth`` levels below its top; a node without children asks the sub model."""
    if depth == 0:
        return []
    return [shapes(chance, depth - 1) for _ in range(chance.randint(0, 3))]


def planned(messages: Sequence[Message]) -> str:
    """A root model that makes the tree whose shape, as JSON, is its context."""
    code = (
        "import json\n"
        "shape = json.loads(context.partition(' ')[2])\n"
        "if not shape:\n"
        "    FINAL(llm_query(f'leaf {context}'))\n"
        "else:\n"
        "    texts = [f'{n} {json.dumps(part)}' for n, part in enumerate(shape)]\n"
        "    FINAL(' '.join(rlm_query_batched(['plan'] * len(shape), texts)))"
    )
    return f"```repl\n{code}\n```"


def assert_counts(store: Store, job_id: str, shape: Shape) -> tuple[int, int]:
    """Each job's costs are its own and those of all jobs below it; returns its root and sub-calls."""
    rows = store.children.of(job_id)
    counts = [assert_counts(store, row.id, part) for row, part in zip(rows, shape, strict=True)]
    roots, subs = 1 + sum(count[0] for count in counts), sum(count[1] for count in counts) + (not shape)
    costs = store.jobs.get(job_id).costs
    assert (costs.root_llm_calls, costs.sub_llm_calls) == (roots, subs)
    own = store.jobs.costs(job_id)
    assert own.root_input_tokens >= sum(row.costs.root_input_tokens for row in rows)
    return roots, subs


def test_random_trees_are_counted_once_at_each_level(make_bench: MakeBench) -> None:
    """The batch's ledger is what the endpoint served, and each parent's total the sum of its tree."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201  # pytest shows it if the test fails
    trees = [shapes(random.Random(seed + n), 2) for n in range(8)]
    with SimulatedEndpoint(root=planned, sub=lambda messages: "x") as endpoint:
        bench = start(make_bench, endpoint, 3)
        batch = bench.client.submit_batch(
            [
                {"id": str(n), "query": "plan", "context": f"{n} {json.dumps(shape)}", "max_depth": 3}
                for n, shape in enumerate(trees)
            ]
        )
        assert [result.state for result in batch.results()] == [JobState.SUCCEEDED] * 8
        jobs = {job.record().spec.custom_id: job.id for job in batch.jobs()}
        counts = [assert_counts(bench.client.store, jobs[str(n)], shape) for n, shape in enumerate(trees)]
        cost, served = batch.cost(), endpoint.served
        assert sum(map(sum, counts)) == cost.root_llm_calls + cost.sub_llm_calls == served.answered
        assert cost.root_input_tokens + cost.sub_input_tokens == served.usage.input_tokens
        assert cost.root_output_tokens + cost.sub_output_tokens == served.usage.output_tokens


def test_each_sample_of_a_job_has_children_of_its_own(
    make_bench: MakeBench, endpoint: SimulatedEndpoint
) -> None:
    """Three samples ask the same of two children each: none shares a child with another, and all are paid."""
    bench = start(make_bench, endpoint, 2)
    job = bench.client.submit("the text", "split 2 of the parts", max_depth=2, samples=3)
    result = job.result(RESULT_S)
    assert result.answer == "[0 the text] | [1 the text]", result.error
    assert [vote.count for vote in result.votes] == [3]
    records = tree(bench.client.store, job.id)
    assert [record.state for record in records] == [JobState.SUCCEEDED] * 7
    assert job.cost().root_llm_calls == 9
    assert_paid_once(bench, endpoint, job.id)
