"""The speed benchmark measures a real cluster, here with sizes too small for meaningful figures."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rlm_dist.bench import contexts, dictated, fan_out, jobs, metrics_cost, one_call
from rlm_dist.bench.beside_peers import INSTALL, PLAIN, beside_peers, missing
from rlm_dist.bench.endpoint import reply
from rlm_dist.bench.machine import cpu_s, memory_mb
from rlm_dist.bench.rows import Group, cells, percentile, ratio
from rlm_dist.schema import Message
from tests.support.environment import PROJECT


@pytest.mark.acceptance
def test_a_fan_out_beside_the_bare_client(tmp_path: Path) -> None:
    """Its rows are ratios of positive figures, and every part of the cluster is measured."""
    rate, cpu, commands = fan_out.beside_bare(tmp_path, calls=40, rounds=1)
    assert rate.parts["ours"] == pytest.approx(rate.value * rate.parts["other"])
    assert min(rate.value, cpu.value, commands.value) > 0
    assert {"root", "sub", "redis", "endpoint"} <= set(cpu.parts)


@pytest.mark.acceptance
def test_a_query_beside_a_plain_celery_group(tmp_path: Path) -> None:
    """Both answer every piece or the run fails; the row has the time, CPU time and memory of each."""
    (row,) = beside_peers(tmp_path, calls=20, rounds=1, peers=[PLAIN])
    assert row.value == pytest.approx(row.parts["ours"] / row.parts["other"])
    assert min(row.parts.values()) > 0
    for side in ("ours", "other"):
        assert row.parts[f"{side}: s to the answer"] >= 20 / row.parts[side]
        assert row.parts[f"{side}: MB"] > 100  # fails if a worker was left out


def test_the_root_model_replies_in_the_form_that_the_system_prompt_asks_for() -> None:
    """A block for most peers; fields for dspy.RLM, whose prompt shows the query indented."""
    query = Message(role="user", content=textwrap.indent(dictated.query("x = {1}"), "    "))
    block, fields = (
        reply([Message(role="system", content=f"llm_query {form}"), query])
        for form in ("", "[[ ## code ## ]]")
    )
    assert block == "```repl\n# dictated\nx = {1}\n```"
    assert "[[ ## code ## ]]\n```python\n# dictated\nx = {1}\n```\n" in fields


def test_peers_that_are_not_installed_are_named_with_the_command_that_installs_them() -> None:
    """The README shows the same command."""
    said = missing(lambda package: package == "celery")
    assert said == f"not measured, since not installed: rlms, dspy; to install, in a checkout: {INSTALL}"
    assert missing(lambda _: True) is None
    assert INSTALL in (PROJECT / "README.md").read_text()


@pytest.mark.acceptance
def test_one_call_at_a_time_and_one_job_after_another(tmp_path: Path) -> None:
    """The time of the endpoint itself is subtracted from the time of a call."""
    median, p99 = one_call.one_at_a_time(tmp_path / "calls", calls=5, rounds=1)
    assert median.parts["endpoint's own"] == p99.parts["endpoint's own"] >= 50
    assert p99.value >= median.value  # below 0 if the endpoint alone happened to be disturbed
    (gap,) = jobs.dispatching(tmp_path / "jobs", few=25, many=30)
    assert gap.value == gap.parts["ms with many"] / gap.parts["ms with few"]


@pytest.mark.acceptance
def test_metrics_on_and_off_in_turns(tmp_path: Path) -> None:
    """To count a call takes far less than a call."""
    both, alone = metrics_cost.on_and_off(tmp_path, calls=40, rounds=1)
    assert both.parts["ours"] == pytest.approx(both.value * both.parts["other"])
    assert 0 < alone.value < 0.1
    assert min(both.parts.values()) > 0


def test_a_context_and_waiting_jobs(tmp_path: Path) -> None:
    """Rows that need no worker are measured without one."""
    rows = [
        *contexts.there_and_back(tmp_path / "contexts", megabytes=[1]),
        *jobs.waiting(tmp_path / "jobs", few=2, many=3),
    ]
    assert [row.group for row in rows] == [*[Group.CONTEXTS] * 3, *[Group.GROWTH] * 2]
    assert all(row.value > 0 for row in rows)
    assert len(list(cells(rows))) == 1 + len(rows)


def test_a_ratio_is_the_median_of_those_measured_in_turns() -> None:
    """One disturbed round does not move the ratio."""
    row = ratio(Group.FAN_OUT, "what", [(2, 1), (3, 1), (100, 1)], "≥ 1")
    assert (row.value, row.parts) == (3, {"ours": 3, "other": 1})


def test_a_percentile_is_one_of_the_values() -> None:
    """Percentiles above the largest value are the largest value."""
    values = [float(number) for number in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 51, 100, 100]


def test_a_process_counts_with_those_below_it() -> None:
    """The CPU time and memory of a child count as its parent's."""
    spin = "import sys\nx = sum(range(3_000_000))\nprint(flush=True)\nsys.stdin.read()"
    before = cpu_s([os.getpid()]), memory_mb([os.getpid()])
    with subprocess.Popen(
        [sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        after = cpu_s([os.getpid()]), memory_mb([os.getpid()])
        assert cpu_s([child.pid]) > 0
        assert after[0] >= before[0] + cpu_s([child.pid]) - 0.05
        assert after[1] > memory_mb([child.pid])
        child.communicate()
