"""The main job through real worker processes, a real Redis server and real HTTP."""

import json
import queue
import signal
from collections import Counter
from collections.abc import Sequence

import pytest
from pydantic import JsonValue

from rlm_dist import Job
from rlm_dist.schema import JobState, Message, Role
from rlm_dist.schema.events import MessageAdded
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import Bench, MakeBench
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

RESULT_S = 150.0
NEEDLE = "The magic number for copper-fox is 7654321.\n"
FILLER = "The grass is green and the sky over the hills is wide and blue today.\n"


def haystack(size_bytes: int) -> str:
    """A text of about ``size_bytes`` with one needle in its last third."""
    lines = size_bytes // len(FILLER)
    return FILLER * (2 * lines // 3) + NEEDLE + FILLER * (lines // 3)


def same_as_served(bench: Bench, endpoint: SimulatedEndpoint, job_ids: Sequence[str]) -> bool:
    """Whether the ledgers of all jobs add up to the endpoint's count."""
    costs = [bench.client.job(job_id).cost() for job_id in job_ids]
    served = endpoint.served
    return (
        sum(cost.root_llm_calls + cost.sub_llm_calls for cost in costs) == served.answered
        and sum(cost.root_input_tokens + cost.sub_input_tokens for cost in costs) == served.usage.input_tokens
        and sum(cost.root_cached_tokens + cost.sub_cached_tokens for cost in costs)
        == served.usage.cached_tokens
        and sum(cost.root_output_tokens + cost.sub_output_tokens for cost in costs)
        == served.usage.output_tokens
    )


def test_a_needle_in_50_mb_is_found_and_paid_for_once(make_bench: MakeBench) -> None:
    """One query over 50 MB is answered, and the ledger equals what the endpoint served."""
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        job = bench.client.submit(haystack(50_000_000), "What is the magic number for copper-fox?")
        result = job.result(RESULT_S)
        assert (result.state, result.answer) == (JobState.SUCCEEDED, "7654321")
        assert same_as_served(bench, endpoint, [job.id])
        assert result.costs.sub_llm_calls >= 1


def test_1000_sub_calls_are_shared_by_two_sub_workers(make_bench: MakeBench) -> None:
    """A fan-out of 1,000 prompts comes back in order, and both workers take part."""
    with SimulatedEndpoint(faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        for _ in range(2):
            bench.start(Role.SUB, concurrency=24)
        bench.wait_ready()
        lines = [f"{word} is number {n}?" for n in range(500) for word in ("Who", "Where")]
        job = bench.client.submit("\n".join(lines), "Label the first 1000 lines.")
        # Nothing is answered until more calls are in flight than one worker could hold.
        wait_until(lambda: endpoint.served.in_flight > 24, timeout_s=60)
        endpoint.release()
        result = job.result(RESULT_S)
        assert result.answer_json == {"human being": 500, "location": 500}
        assert result.costs.sub_llm_calls == 1000
        assert same_as_served(bench, endpoint, [job.id])


def test_each_role_has_parameters_of_its_own(make_bench: MakeBench) -> None:
    """A job's parameters for one role reach the endpoint with every call of that role and no other."""
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=4)
        bench.wait_ready()
        job = bench.client.submit(
            "Who is number 1?\nWhere is number 2?", "Label the first 2 lines.",
            temperature=0.5, max_output_tokens=900, sub_reasoning_effort="low", sub_extra_body={"top_p": 0.1},
        )  # fmt: skip
        assert job.result(RESULT_S).answer_json == {"human being": 1, "location": 1}
        served = endpoint.served
        assert served.by_parameters == {
            'root {"max_tokens": 900, "temperature": 0.5}': served.by_role["root"],
            'sub {"reasoning_effort": "low", "top_p": 0.1}': 2,
        }


def test_50_jobs_at_once_each_get_their_own_answer(make_bench: MakeBench) -> None:
    """Fifty jobs over fifty contexts share the workers without mixing."""
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=4)
        bench.start(Role.SUB, concurrency=32)
        bench.wait_ready()
        items = [
            {
                "id": f"q{n}",
                "query": f"What is the magic number for fox-{n}?",
                "context": f"{FILLER * 50}The magic number for fox-{n} is {n * 1001}.\n{FILLER * 50}",
            }
            for n in range(50)
        ]
        batch = bench.client.submit_batch(items)
        results = list(batch.results())
        assert {result.custom_id: result.answer for result in results} == {
            f"q{n}": str(n * 1001) for n in range(50)
        }
        assert Counter(result.state for result in results) == {JobState.SUCCEEDED: 50}
        assert same_as_served(bench, endpoint, [result.id for result in results])
        total = batch.cost()
        assert total.root_llm_calls + total.sub_llm_calls == endpoint.served.answered


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_sub_worker_may_go_in_between(make_bench: MakeBench, how: signal.Signals) -> None:
    """One of two sub workers is stopped or killed while both hold calls: every call is answered."""
    with SimulatedEndpoint(faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        leaving, _ = [bench.start(Role.SUB, concurrency=8) for _ in range(2)]
        bench.wait_ready()
        lines = "\n".join(f"Who is number {n}?" for n in range(100))
        job = bench.client.submit(lines, "Label the first 100 lines.")
        wait_until(lambda: endpoint.served.in_flight > 8, timeout_s=60)
        if how is signal.SIGKILL:
            leaving.kill()
            endpoint.release()
        else:
            leaving.process.send_signal(how)
            endpoint.release()
            leaving.process.wait(60)
        result = job.result(RESULT_S)
        assert result.answer_json == {"human being": 100}
        if how is signal.SIGTERM:
            assert same_as_served(bench, endpoint, [job.id])
            assert endpoint.served.by_role["sub"] == 100
        else:
            assert endpoint.served.by_role["sub"] - 100 <= 8  # at most the calls in flight at the kill


FAULTS = [
    Fault(kind="status", status=500, role=Role.SUB, probability=0.1, seed=1),
    Fault(kind="status", status=429, headers={"Retry-After": "0.2"}, role=Role.SUB, probability=0.1, seed=2),
    Fault(kind="html", role=Role.SUB, probability=0.05, seed=3),
    Fault(kind="empty_choices", role=Role.SUB, probability=0.1, seed=4),
    Fault(kind="null_content", role=Role.SUB, probability=0.05, seed=5),
    Fault(kind="disconnect", role=Role.SUB, probability=0.05, seed=6),
    Fault(kind="status", status=400, role=Role.SUB, contains="number 7?", seed=7),
]


def test_a_failing_endpoint_is_paid_exactly_what_it_served(make_bench: MakeBench) -> None:
    """Through 429, 500, HTML, empty choices and cut connections, the ledger equals the endpoint's count."""
    with SimulatedEndpoint(faults=FAULTS) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=16)
        bench.wait_ready()
        lines = "\n".join(f"Who is number {n}?" for n in range(200))
        job = bench.client.submit(lines, "Label the first 200 lines.")
        result = job.result(RESULT_S)
        assert result.state is JobState.SUCCEEDED
        # The line that is always refused with a 400, and the replies that are no answers.
        assert result.costs.failed_calls > 1
        assert len(endpoint.served.faults) == 5
        assert same_as_served(bench, endpoint, [job.id])


REPLIES: list[tuple[str, dict[str, JsonValue]]] = [
    ("refuse", {"message": {"content": None, "refusal": "I cannot help with that."}}),
    ("filter", {"message": {"content": "half"}, "finish_reason": "content_filter"}),
    ("ponder", {"message": {"content": "<think>so"}, "finish_reason": "length"}),
    ("muse", {"message": {"content": "<think>FINAL(no)</think>whole"}}),
    ("list", {"message": {"content": [{"type": "text", "text": "pa"}, {"type": "text", "text": "rts"}]}}),
    ("write", {"message": {"content": "half of"}, "finish_reason": "length"}),
]
ASK_ALL = (
    "prompts = ['refuse', 'filter', 'ponder', 'muse', 'list', 'write']\n"
    "found = [[a if a.ok else None, a.ok, a.truncated] for a in llm_query_batched(prompts)]\n"
    "try:\n    llm_query('refuse again')\nexcept LLMQueryError as error:\n    print(error)"
)


def test_32_to_35_what_the_code_gets_of_each_kind_of_reply(make_bench: MakeBench) -> None:
    """The root model's first reply is a native tool call; what is no answer fails, and is paid for once."""
    call: JsonValue = {"function": {"name": "python", "arguments": json.dumps({"code": ASK_ALL})}}
    first: dict[str, JsonValue] = {"message": {"content": None, "tool_calls": [call]}}
    faults = [
        Fault(kind="choice", role=Role.ROOT, on=(0,), choice=first),
        *(Fault(kind="choice", role=Role.SUB, contains=word, choice=choice) for word, choice in REPLIES),
    ]
    with SimulatedEndpoint(root=lambda _: "FINAL_VAR(found)", faults=faults) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        job = bench.client.submit("x", "Ask.", sub_model="simulated-sub")
        result = job.result(RESULT_S)
        assert result.answer_json == [
            *[[None, False, False]] * 3,
            ["whole", True, False],
            ["parts", True, False],
            ["half of", True, True],
        ]
        costs = result.costs
        assert (costs.failed_calls, costs.truncated_calls, costs.sub_llm_calls) == (4, 1, 7)
        assert same_as_served(bench, endpoint, [job.id])
        shown = "\n".join(event.text for event in job.events() if isinstance(event, MessageAdded))
        assert "no_answer: the model refused: I cannot help with that." in shown
        assert "[4 of 7 sub-calls failed." in shown
        assert "[1 of 7 answers was cut off at the output limit; its .truncated is True]" in shown


def test_a_job_is_cancelled_while_its_calls_hang(make_bench: MakeBench) -> None:
    """Cancelling aborts the HTTP requests in flight and ends the job as cancelled."""
    with SimulatedEndpoint(faults=[Fault(kind="hang", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        job = bench.client.submit("Who?\nWhere?", "Label the first 8 lines.")
        wait_until(lambda: endpoint.served.in_flight == 8, timeout_s=60)
        job.cancel()
        assert job.result(30).state is JobState.CANCELLED
        wait_until(lambda: endpoint.served.aborted == 8, timeout_s=30)
        assert job.cancel() is JobState.CANCELLED


def test_a_job_that_is_cancelled_as_it_hands_in_its_answer_is_no_success(make_bench: MakeBench) -> None:
    """The worker has the last reply before it notices the cancel."""
    submitted = queue.SimpleQueue[Job]()

    def reply(messages: Sequence[Message]) -> str:
        submitted.get(timeout=60).cancel()
        return "```repl\nFINAL('late')\n```"

    with SimulatedEndpoint(root=reply) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.wait_ready()
        job = bench.client.submit("text", "Who is it?")
        submitted.put(job)
        result = job.result(RESULT_S)
        assert (result.state, result.answer) == (JobState.CANCELLED, None)
        assert same_as_served(bench, endpoint, [job.id])


def test_two_hundred_sub_calls_from_threads_of_the_cell(make_bench: MakeBench) -> None:
    """``llm_query`` from a thread pool in the REPL is concurrent through the whole system."""

    def root(messages: Sequence[Message]) -> str:
        return (
            "```repl\nfrom concurrent.futures import ThreadPoolExecutor\n"
            "with ThreadPoolExecutor(20) as pool:\n"
            "    got = list(pool.map(lambda n: llm_query(f'Label it.\\nLine: Who is {n}?'), range(200)))\n"
            "FINAL(len(got))\n```"
        )

    with SimulatedEndpoint(root=root, faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=32)
        bench.wait_ready()
        job = bench.client.submit("text", "Ask from threads.")
        wait_until(lambda: endpoint.served.in_flight == 20, timeout_s=60)
        endpoint.release()
        assert job.result(RESULT_S).answer_json == 200
