"""A job's OpenTelemetry trace, from real worker processes to a real OTLP receiver."""

from collections import Counter
from collections.abc import Iterator

import pytest

from rlm_dist.otel.spans import job_span, trace_id_of
from rlm_dist.schema import Costs, Role
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import MakeBench, job_id_of, submit
from tests.support.deaths import Deaths
from tests.support.otlp_receiver import OtlpReceiver, Received, otlp_receiver

pytestmark = pytest.mark.acceptance

RESULT_S = 120.0
LINES = 40
CONTEXT = "\n".join(f"Who is zebra-{n} of the lines?" for n in range(LINES))
QUERY = f"Label the first {LINES} lines."
ANSWER = {"human being": LINES}
SECRET = "zebra-17"  # of the context, the prompts of the sub-calls and their code's output


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as running:
        yield running


def spans_of(receiver: OtlpReceiver, job_id: str) -> list[Received]:
    """The spans of a job."""
    return [span for span in receiver.spans if span.attributes["rlm.job_id"] == job_id]


def calls_of(spans: list[Received]) -> list[Received]:
    return [span for span in spans if span.attributes["openinference.span.kind"] == "LLM"]


def assert_one_tree(spans: list[Received], job_id: str) -> None:
    """All belong to the job's trace, each id is there once, and each parent is there and fits."""
    assert {span.trace for span in spans} == {f"{trace_id_of(job_id):032x}"}
    assert max(Counter(span.id for span in spans).values()) == 1
    by_id = {span.id: span for span in spans}
    roots = [span for span in spans if not span.parent]
    assert [span.id for span in roots] == [f"{job_span(job_id):016x}"]
    parents = Counter(
        (span.name.partition(" ")[0], span.attributes.get("rlm.role"), by_id[span.parent].name)
        for span in spans
        if span.parent
    )
    assert parents.keys() <= {
        ("submit", None, "invoke_agent rlm"),
        ("turn", None, "invoke_agent rlm"),
        ("chat", "root", "turn"),
        ("chat", "sub", "execute_tool python"),
        ("execute_tool", None, "turn"),
    }
    assert parents["chat", "sub", "execute_tool python"] >= LINES


def assert_sums_are_the_ledgers(spans: list[Received], costs: Costs) -> None:
    calls = calls_of(spans)

    def total(name: str) -> float:
        return sum(float(span.attributes.get(name, 0)) for span in spans)

    inputs = costs.root_input_tokens + costs.sub_input_tokens
    outputs = costs.root_output_tokens + costs.sub_output_tokens
    for named in ("gen_ai.usage.input_tokens", "llm.token_count.prompt"):
        assert total(named) == inputs
    for named in ("gen_ai.usage.output_tokens", "llm.token_count.completion"):
        assert total(named) == outputs
    assert total("llm.token_count.total") == inputs + outputs
    assert len(calls) == costs.root_llm_calls + costs.sub_llm_calls
    for named in ("rlm.cost_usd", "gen_ai.usage.cost", "llm.cost.total"):
        assert total(named) == pytest.approx(costs.total_cost, abs=1e-9)


@pytest.mark.parametrize("content", [False, True], ids=["without", "with"])
def test_a_job_over_two_workers_is_one_trace_whose_sums_are_the_ledgers(
    make_bench: MakeBench, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, content: bool
) -> None:
    """The client, the root worker and two sub workers send one trace, with texts only if asked for."""
    variables = receiver.variables | {
        "RLM_OTEL_CONTENT": str(content).lower(),
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20c2VjcmV0LWtleQ",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    for name, value in variables.items():  # for the client, which is in this process
        monkeypatch.setenv(name, value)
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        prices = bench.folder / "prices.json"
        prices.write_text('{"simulated-root": {"input": 1, "output": 2}}')
        workers = [
            bench.start(role, concurrency=8 if role is Role.SUB else 1, RLM_PRICES=str(prices), **variables)
            for role in (Role.ROOT, Role.SUB, Role.SUB)
        ]
        bench.wait_ready()
        job_id = submit(bench.client, "traced", CONTEXT, QUERY)
        result = bench.client.job(job_id).result(RESULT_S)
        assert result.answer_json == ANSWER
        assert result.costs.total_cost
        bench.client.close()
        for worker in workers:  # the last spans are sent when a worker stops
            worker.terminate()
    spans = spans_of(receiver, job_id)
    assert_one_tree(spans, job_id)
    assert [span.name for span in spans].count("submit") == 1
    assert_sums_are_the_ledgers(spans, result.costs)
    assert {span.attributes["gen_ai.response.model"] for span in calls_of(spans)} == {"simulated-root"}
    assert {request.headers["authorization"] for request in receiver.requests} == {"Basic c2VjcmV0LWtleQ"}
    assert {resource["service.name"] for resource in receiver.resources} == {"rlm-dist"}
    assert {resource["deployment.environment.name"] for resource in receiver.resources} == {"test"}
    assert (SECRET in receiver.text()) is content
    assert (QUERY in receiver.text()) is content
    for worker in workers:
        assert SECRET not in worker.text()
        assert "c2VjcmV0LWtleQ" not in worker.text()


@pytest.mark.parametrize("point", ["calls.answered", "journal.written:2", "root.settled:2"])
def test_a_root_worker_that_is_killed_leaves_one_trace_and_no_call_twice(
    make_bench: MakeBench, receiver: OtlpReceiver, point: str
) -> None:
    """Another one goes on with the trace. No span comes twice; what the dead one had not sent is missing."""
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        deaths = Deaths(bench.folder / "deaths")
        job_id = job_id_of("killed")
        deaths.plan(job_id, point)
        variables = {**receiver.variables, **deaths.environment}
        workers = [
            bench.start(role, concurrency=concurrency, **variables)
            for role, concurrency in ((Role.ROOT, 2), (Role.SUB, 8))
        ]
        bench.keep_alive(workers[0])
        bench.wait_ready()
        assert submit(bench.client, "killed", CONTEXT, QUERY) == job_id
        result = bench.client.job(job_id).result(RESULT_S)
        assert result.answer_json == ANSWER
        assert not deaths.outstanding(job_id)
        for worker in workers:
            worker.terminate()
    spans = spans_of(receiver, job_id)
    (job,) = [span for span in spans if not span.parent]
    assert job.attributes["rlm.epoch"] == 2
    assert {span.trace for span in spans} == {f"{trace_id_of(job_id):032x}"}
    assert max(Counter(span.id for span in spans).values()) == 1
    calls = calls_of(spans)
    assert max(Counter(span.attributes["rlm.call_id"] for span in calls).values()) == 1
    costs = result.costs
    roles = Counter(span.attributes["rlm.role"] for span in calls)
    assert roles["sub"] == costs.sub_llm_calls == LINES
    assert roles["root"] <= costs.root_llm_calls
    used = Counter[str]()
    for span in calls:
        used[span.attributes["rlm.role"]] += span.attributes["gen_ai.usage.input_tokens"]
    assert used["sub"] == costs.sub_input_tokens
    assert used["root"] <= costs.root_input_tokens
