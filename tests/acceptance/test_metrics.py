"""Metrics of a live cluster: real workers and Flower, scraped over HTTP, beside what the ledger says."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from rlm_dist.schema import JobState, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import WAIT_S, Bench, open_bench, submit
from tests.support.command_line import command, next_line
from tests.support.redis_servers import RedisServer
from tests.support.scrapes import OF_PROMETHEUS, Scrape, expressions, metrics_in, scrape
from tests.support.waiting import wait_until
from tests.support.worker_processes import metrics_url

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

LINES = "\n".join(f"Who is number {n}? xylophone" for n in range(4))
QUERY = "Label the first 4 lines."
ON = {"RLM_METRICS_PORT": "0"}
MONEY = {"input": 2, "output": 3}


class Watched(NamedTuple):
    """A cluster that has run some jobs, and the last scrapes of it."""

    bench: Bench
    job_ids: dict[str, str]
    root: Scrape
    sub: Scrape
    flower: Scrape

    def costs(self, field: str) -> int:
        """The sum over the jobs of a field of their costs."""
        jobs = self.bench.client.store.jobs
        return sum(int(getattr(jobs.costs(job_id), field)) for job_id in self.job_ids.values())


@pytest.fixture(scope="module")
def watched(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Three jobs that end in three ways, at an endpoint that refuses the first sub-call twice."""
    folder = tmp_path_factory.mktemp("metrics")
    prices = folder / "prices.json"
    prices.write_text(json.dumps({"simulated-root": MONEY, "simulated-sub": MONEY}))
    with SimulatedEndpoint() as endpoint:
        bench = open_bench(redis_server, endpoint.url, folder / "bench")
        try:
            root, sub = (
                bench.start(role, concurrency=2, RLM_PRICES=str(prices), **ON)
                for role in (Role.ROOT, Role.SUB)
            )
            bench.wait_ready()
            endpoint.faults = (
                Fault(kind="status", status=429, headers={"retry-after": "0"}, role=Role.SUB, on=(0, 1)),
                Fault(kind="status", status=400, role=Role.ROOT, contains="in bad"),
            )
            job_ids = {
                name: submit(bench.client, name, f"{LINES} in {name}?", QUERY, **options)
                for name, options in {"good": {}, "bad": {}, "spent": {"max_iterations": 1}}.items()
            }
            for job_id in job_ids.values():
                bench.client.job(job_id).result(WAIT_S)
            # The processes of the pool write their numbers every two seconds.
            wait_until(lambda: scrape(metrics_url(root)).total("rlm_jobs_ended_total") == 3)
            with command("flower", "--port", "0", "--json", **bench.env) as flower:
                url: str = json.loads(next_line(flower))["url"]
                wait_until(
                    lambda: scrape(url).value("rlm_slots", role="root", depth="0") == 2
                )  # announced every 3 s
                scrapes = [scrape(metrics_url(root)), scrape(metrics_url(sub)), scrape(url)]
            yield Watched(bench, job_ids, *scrapes)
        finally:
            bench.close()


def test_what_workers_count_is_what_the_ledger_says(watched: Watched) -> None:
    for role, found in ((Role.ROOT, watched.root), (Role.SUB, watched.sub)):
        tokens = watched.costs(f"{role}_llm_tokens")
        assert tokens > 0
        assert found.total("rlm_tokens_total", role=role.value) == tokens
        assert found.total("rlm_calls_total", role=role.value, outcome="ok") == watched.costs(
            f"{role}_llm_calls"
        )
        cost = sum(
            getattr(watched.bench.client.store.jobs.costs(job_id), f"{role}_llm_cost") or 0.0
            for job_id in watched.job_ids.values()
        )
        assert found.total("rlm_cost_usd_total", role=role.value) == pytest.approx(cost) != 0
        assert found.total("rlm_unpriced_calls_total") == 0
        model = {"role": role.value, "model": "simulated-root"}  # the endpoint's first, for both
        assert found.value("rlm_answer_tokens_count", **model) == watched.costs(f"{role}_llm_calls")
    assert watched.sub.total("rlm_rate_limited_total") == watched.costs("rate_limited") == 2
    assert watched.sub.total("rlm_call_retries_total", kind="rate") == 2


def test_jobs_are_counted_as_they_end(watched: Watched) -> None:
    ended = {
        state.value: watched.root.value("rlm_jobs_ended_total", state=state.value)
        for state in JobState
        if state.final
    }
    assert ended == {"succeeded": 1, "failed": 1, "exhausted": 1, "cancelled": 0}
    assert watched.root.value("rlm_jobs_started_total") == 3
    assert watched.root.value("rlm_job_recoveries_total") == 0
    assert watched.root.value("rlm_budget_stops_total", kind="max_iterations") == 1
    assert watched.root.total("rlm_turns_total") == watched.costs("root_llm_calls")
    assert watched.root.total("rlm_sandbox_info", asked="auto", minimum="seccomp") == 1
    assert watched.flower.value("rlm_batch_jobs", state="failed") == 1
    assert watched.flower.value("rlm_batches", state="completed") == 3
    assert watched.flower.value("rlm_slots", role="root", depth="0") == 2
    assert watched.flower.total("rlm_endpoint_refused_last_minute") >= 1


def test_every_metric_of_the_dashboard_and_the_rules_is_in_a_scrape(watched: Watched) -> None:
    names = watched.root.names() | watched.sub.names() | watched.flower.names() | OF_PROMETHEUS
    for expression in expressions():
        used = metrics_in(expression)
        assert used, expression
        assert used <= names, expression


@pytest.mark.debian
@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)
@pytest.mark.parametrize("of", ["root", "sub", "flower"])
def test_promtool_finds_nothing_wrong_with_a_scrape(watched: Watched, of: str) -> None:
    text = getattr(watched, of).text
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_id_and_no_text_of_a_user_is_in_a_scrape(watched: Watched) -> None:
    secrets = [*watched.job_ids, *watched.job_ids.values(), "xylophone", "Who is", "Label the"]
    for found in (watched.root, watched.sub):
        assert not [secret for secret in secrets if secret in found.label_values()]
        assert not [secret for secret in secrets[3:] if secret in found.text]
    ours = "".join(line for line in watched.flower.text.splitlines() if line.startswith("rlm_"))
    assert not [secret for secret in secrets[3:] if secret in ours]
