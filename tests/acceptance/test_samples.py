"""Jobs that are run several times under one id, through real worker processes, Redis and HTTP."""

import signal
from collections import Counter
from collections.abc import Sequence

import pytest

from rlm_dist.engine.votes import NO_MAJORITY
from rlm_dist.schema import JobState, Message, Role
from rlm_dist.schema.events import JobEnded, JobStarted, Marked, RootReplied
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.acceptance.test_main_job import same_as_served
from tests.support.bench import Bench, MakeBench
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

RESULT_S = 150.0


class Solvers:
    """A root model that answers a job's n-th sample with the n-th answer, after one turn with a sub-call.

    Only what it was asked first tells the samples apart, so an answer belongs to whoever asked then.
    """

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.begun = 0
        self.asked: Counter[tuple[str, ...]] = Counter()

    def root(self, messages: Sequence[Message]) -> str:
        self.asked[tuple(message.content for message in messages)] += 1
        last = messages[-1].content
        if "mine=" in last:
            answer = last.split("mine=")[1].split(";")[0]
            return f"```repl\nFINAL({answer!r})\n```"
        number, self.begun = self.begun, self.begun + 1
        mine = self.answers[number % len(self.answers)]
        return f"```repl\nx = llm_query('part of {number}')\nprint('mine={mine};')\n```"


def cluster(make_bench: MakeBench, endpoint: SimulatedEndpoint) -> Bench:
    bench = make_bench(endpoint)
    bench.start(Role.ROOT, concurrency=1)
    bench.start(Role.SUB, concurrency=8)
    bench.wait_ready()
    return bench


def test_the_answer_of_most_samples_wins_and_all_are_paid_for(make_bench: MakeBench) -> None:
    """Five samples in one slot, under one id; the trace tells them apart, and cache does not mix them."""
    solvers = Solvers("Bob", "Alice", "alice", "ALICE ", "Carol")
    with SimulatedEndpoint(root=solvers.root) as endpoint:
        bench = cluster(make_bench, endpoint)
        job = bench.client.submit("c", "Who?", samples=5, cache=True)
        result = job.result(RESULT_S)
        assert (result.state, (result.answer or "").strip().casefold()) == (JobState.SUCCEEDED, "alice")
        assert [vote.count for vote in result.votes] == [3, 1, 1]
        assert sorted(number for vote in result.votes for number in vote.samples) == [0, 1, 2, 3, 4]
        assert (result.costs.root_llm_calls, result.costs.sub_llm_calls, result.iterations) == (10, 5, 10)
        assert result.costs.cache_hits == 0
        assert same_as_served(bench, endpoint, [job.id])
        events = list(job.events())
        replies = Counter(event.sample for event in events if isinstance(event, RootReplied))
        assert replies == dict.fromkeys(range(5), 2)
        (ended,) = [event for event in events if isinstance(event, JobEnded)]
        assert ended.votes == result.votes


def test_without_a_majority_there_is_no_answer_and_a_retry_asks_all_again(make_bench: MakeBench) -> None:
    solvers = Solvers("a", "b", "c", "d", "d", "e")
    with SimulatedEndpoint(root=solvers.root) as endpoint:
        bench = cluster(make_bench, endpoint)
        batch = bench.client.submit_batch([{"id": "q", "query": "Who?", "context": "c"}], samples=3)
        (result,) = batch.results()
        assert (result.state, result.answer) == (JobState.EXHAUSTED, None)
        assert result.error is not None
        assert result.error.type == NO_MAJORITY
        assert result.partial_answer is not None
        assert all(f": {answer}" in result.partial_answer for answer in "abc")
        assert batch.retry() == 1
        result = batch.jobs()[0].result(RESULT_S)
        assert (result.state, result.answer) == (JobState.SUCCEEDED, "d")
        assert same_as_served(bench, endpoint, [result.id])


def test_a_judge_chooses_and_one_that_names_nothing_leaves_it_to_the_votes(make_bench: MakeBench) -> None:
    said = {"reply": '{"choice": 2}'}

    def sub(messages: Sequence[Message]) -> str:
        return said["reply"] if "You compare answers" in messages[0].content else "ok"

    with SimulatedEndpoint(root=Solvers("a", "b").root, sub=sub) as endpoint:
        bench = cluster(make_bench, endpoint)
        job = bench.client.submit("c", "Who?", samples=2, reduce="judge", sub_model="simulated-sub")
        result = job.result(RESULT_S)
        assert (result.state, result.answer) == (JobState.SUCCEEDED, result.votes[1].answer)
        assert result.costs.sub_llm_calls == 3
        said["reply"] = "the first one, I think"
        other = bench.client.submit("c", "Who?", samples=2, reduce="judge", sub_model="simulated-sub")
        result = other.result(RESULT_S)
        assert (result.state, result.error and result.error.type) == (JobState.EXHAUSTED, NO_MAJORITY)
        assert result.costs.sub_llm_calls == 4
        marks = [event.kind for event in other.events() if isinstance(event, Marked)]
        assert marks == ["judge_unusable"]
        assert same_as_served(bench, endpoint, [job.id, other.id])


def test_a_root_worker_that_is_killed_pays_for_no_sample_twice(make_bench: MakeBench) -> None:
    """Killed while all samples wait for sub-calls: another worker asks the root model nothing again."""
    solvers = Solvers("a", "b", "a")
    with SimulatedEndpoint(root=solvers.root, faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        dying = bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        job = bench.client.submit("c", "Who?", samples=3, sub_model="simulated-sub")
        wait_until(lambda: endpoint.served.in_flight == 3, timeout_s=60)
        dying.kill()
        bench.start(Role.ROOT, concurrency=1)
        endpoint.release()
        result = job.result(RESULT_S)
        assert (result.state, result.answer) == (JobState.SUCCEEDED, "a")
        assert (result.costs.root_llm_calls, result.costs.sub_llm_calls) == (6, 3)
        assert result.costs.duplicate_paid_calls == 0
        assert bench.client.store.jobs.get(job.id).recovered
        assert same_as_served(bench, endpoint, [job.id])


def test_a_sample_that_has_an_answer_is_not_run_again(make_bench: MakeBench) -> None:
    """Killed as the first answer is in the journal: the others alone are run by the next worker."""
    solvers = Solvers("a")
    with SimulatedEndpoint(root=solvers.root) as endpoint:
        bench = make_bench(endpoint)
        job = bench.client.submit("c", "Who?", samples=5)
        (bench.folder / job.id).write_text("sample.ended")  # the plan of its one death
        bench.keep_alive(bench.start(Role.ROOT, concurrency=1, RLM_CHAOS_DIE_AT=f"@{bench.folder}"))
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        result = job.result(RESULT_S)
        assert (result.state, result.answer) == (JobState.SUCCEEDED, "a")
        paid_twice = result.costs.duplicate_paid_calls  # other samples may have been on the wire
        assert result.costs.root_llm_calls + result.costs.sub_llm_calls == 15
        assert endpoint.served.answered <= 15 + paid_twice
        events = list(job.events())
        starts = [at for at, event in enumerate(events) if isinstance(event, JobStarted)]
        again = {event.sample for event in events[starts[-1] :] if isinstance(event, RootReplied)}
        assert len(starts) == 2
        assert len(again) < 5


def test_a_retry_runs_the_samples_without_an_answer_alone(make_bench: MakeBench) -> None:
    """One of three samples has an answer as the root model refuses the others."""
    refuses = [Fault(kind="status", status=400, role=Role.ROOT, contains="mine=b;")]
    solvers = Solvers("a", "b", "b", "a", "a")
    with SimulatedEndpoint(root=solvers.root, faults=refuses) as endpoint:
        bench = cluster(make_bench, endpoint)
        batch = bench.client.submit_batch([{"id": "q", "query": "Who?", "context": "c"}], samples=3)
        (result,) = batch.results()
        assert (result.state, result.answer, result.partial_answer) == (JobState.FAILED, None, "a")
        endpoint.faults = ()
        assert batch.retry() == 1
        result = batch.jobs()[0].result(RESULT_S)
        assert (result.state, result.answer) == (JobState.SUCCEEDED, "b")
        # The first turns of all are in the journal; the answer of the one is, too.
        assert [vote.count for vote in result.votes] == [2, 1]
        assert result.costs.root_llm_calls == 6
        assert same_as_served(bench, endpoint, [result.id])


def test_budgets_hold_over_all_samples(make_bench: MakeBench) -> None:
    with SimulatedEndpoint(root=Solvers("a").root) as endpoint:
        bench = cluster(make_bench, endpoint)
        job = bench.client.submit("c", "Who?", samples=6, max_sub_calls=4, sub_model="simulated-sub")
        result = job.result(RESULT_S)
        assert endpoint.served.by_role["sub"] == 4
        assert (result.costs.sub_llm_calls, result.limits_reached) == (4, ("max_sub_calls",))
        assert same_as_served(bench, endpoint, [job.id])
        tight = bench.client.submit("c", "Who?", samples=6, max_tokens=12_000)
        result = tight.result(RESULT_S)
        assert result.costs.root_llm_tokens + result.costs.sub_llm_tokens <= 12_000
        assert same_as_served(bench, endpoint, [job.id, tight.id])


def test_cancelling_ends_all_samples(make_bench: MakeBench) -> None:
    with SimulatedEndpoint(root=Solvers("a").root, faults=[Fault(kind="hold", role=Role.ROOT)]) as endpoint:
        bench = cluster(make_bench, endpoint)
        job = bench.client.submit("c", "Who?", samples=6)
        wait_until(lambda: endpoint.served.in_flight == 4, timeout_s=60)
        job.cancel()
        assert job.result(20).state is JobState.CANCELLED
        wait_until(lambda: endpoint.served.in_flight == 0, timeout_s=20)
        endpoint.release()


def test_a_worker_that_stops_parks_all_samples(make_bench: MakeBench) -> None:
    with SimulatedEndpoint(root=Solvers("a").root, faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        leaving = bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        job = bench.client.submit("c", "Who?", samples=3, sub_model="simulated-sub")
        wait_until(lambda: endpoint.served.in_flight == 3, timeout_s=60)
        leaving.process.send_signal(signal.SIGTERM)
        leaving.process.wait(60)
        bench.start(Role.ROOT, concurrency=1)
        endpoint.release()
        result = job.result(RESULT_S)
        assert (result.state, result.answer) == (JobState.SUCCEEDED, "a")
        assert result.costs.root_llm_calls == 6
        assert same_as_served(bench, endpoint, [job.id])
