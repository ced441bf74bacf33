"""One question over a window of millions of tokens, on real workers of which some are killed meanwhile.

The models are the oracle's; the workers, the Redis server, the sandbox, the ledger and the recovery are real.
No run is faster than its bound: the time of all root calls, and that of all sub-calls divided by the slots.
"""

import os
import signal
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rlm_dist.bench.quality.items import TaskItem, tokens_of
from rlm_dist.bench.quality.labelled import LabelledSet
from rlm_dist.bench.quality.oolong import make_oolong
from rlm_dist.bench.quality.scorers import score
from rlm_dist.bench.quality_oracle.serving import SPEEDS, oracle_endpoint, write_prices
from rlm_dist.bench.rig import settings_of
from rlm_dist.client.client import Client
from rlm_dist.client.handles import Job
from rlm_dist.errors import InputError
from rlm_dist.local.cluster import workers
from rlm_dist.local.processes import Cluster
from rlm_dist.local.redis.server import server
from rlm_dist.schema import Costs, Role, Wire
from rlm_dist.simulated import ModelServed, SimulatedEndpoint
from rlm_dist.simulated.server import ROOT_MODEL, SUB_MODEL

SUB_WORKERS = 2
_LINES_A_CALL = 100  # of the code that the oracle writes
_KILLED = ((f"{Role.SUB}1", 1 / 3), (f"{Role.ROOT}1", 2 / 3))
_WAIT_S = 1800.0
_LOOK_S = 0.1


class ScaleRun(Wire):
    """The outcome for one question; ``window`` is OOLONG's name for its length, ``tokens`` our estimate.

    ``killed`` names workers, ``recoveries`` counts how often another process took the job over. ``costs`` is
    the ledger, ``endpoint_calls`` what the endpoint answered, and ``aborted`` what it lost with a worker
    before it had an answer. A real endpoint may charge for these, too; here they cost nothing.
    """

    window: int
    tokens: int
    lines: int
    kind: str
    error_rate: float
    expected: str
    answer: str
    score: float
    wall_s: float
    bound_s: float
    killed: tuple[str, ...]
    recoveries: int
    endpoint_calls: int
    aborted: int
    costs: Costs

    @property
    def paid_twice(self) -> int:
        """The answers that no worker lived to record, by the endpoint's count."""
        return self.endpoint_calls - self.costs.root_llm_calls - self.costs.sub_llm_calls


def measure(
    dataset: LabelledSet,
    *,
    tokens: int,
    kind: str = "count_label",
    error_rate: float = 0.0,
    seed: int = 0,
    slots: int = 64,
    kill: bool = True,
) -> ScaleRun:
    """Ask a question of this kind over one window; a sub worker and the root worker are killed meanwhile.

    Texts of the set with two labels are left out, as nobody could tell which of them is meant.

    Raises:
        InputError: the window has no question of this kind over all its lines.
    """
    dataset = unambiguous(dataset)
    item = _item(dataset, tokens, kind, seed)
    with ExitStack() as held:
        endpoint = held.enter_context(oracle_endpoint([dataset], error_rate=error_rate, seed=seed))
        home = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="rlm-bench-")))
        settings = settings_of(
            home, endpoint.url, held.enter_context(server(home)), root_slots=1, slots=slots
        ).model_copy(update={"prices": write_prices(home / "prices.json")})
        cluster = held.enter_context(workers(settings, roots=1, subs=SUB_WORKERS))
        client = held.enter_context(Client(settings))
        began = time.monotonic()
        job = client.submit(item.context, item.query)
        killed = _kill(cluster, endpoint, job, _lines(item)) if kill else ()
        result = job.result(_WAIT_S)
        wall_s = time.monotonic() - began
        record = job.record()
    result.raise_for_state()
    served = endpoint.served
    return ScaleRun(
        window=tokens,
        tokens=tokens_of(str(item.context)),
        lines=_lines(item),
        kind=kind,
        error_rate=error_rate,
        expected=item.expected[0],
        answer=str(result.answer),
        score=score(result.answer, item),
        wall_s=wall_s,
        bound_s=_bound_s(endpoint, SUB_WORKERS * slots),
        killed=killed,
        recoveries=record.epoch - 1,
        endpoint_calls=served.answered,
        aborted=served.aborted,
        costs=record.costs,
    )


def rows(run: ScaleRun) -> list[list[str]]:
    """The outcome as cells of a table, its head first, which says that the models are simulated."""
    costs = run.costs
    ledger_calls = costs.root_llm_calls + costs.sub_llm_calls
    return [
        ["simulated models", "measured", "beside"],
        ["window", f"{run.tokens:,} tokens", f"{run.window:,} in OOLONG's count; {run.lines:,} lines"],
        ["score", f"{run.score:.2f}", f"{run.kind}: {run.expected}; got {run.answer}"],
        ["errors of the sub model", f"{run.error_rate:.0%} of lines", "as set"],
        ["cost", "unknown" if costs.total_cost is None else f"${costs.total_cost:.4f}", "at prices as set"],
        ["tokens of the root model", *_tokens(costs.root_input_tokens, costs.root_output_tokens)],
        ["tokens of the sub model", *_tokens(costs.sub_input_tokens, costs.sub_output_tokens)],
        ["calls", f"{ledger_calls:,}", f"{run.endpoint_calls:,} answered by the endpoint"],
        ["time", f"{run.wall_s:.1f} s", f"{run.bound_s:.1f} s bound: {run.wall_s / run.bound_s:.2f} times"],
        ["workers killed", ", ".join(run.killed) or "none", f"{run.recoveries} recoveries of the job"],
        ["calls paid twice", f"{run.paid_twice:,}", f"{costs.duplicate_paid_calls:,} at most, by the ledger"],
        ["requests that the killed workers left unanswered", f"{run.aborted:,}", "made again"],
    ]


def unambiguous(dataset: LabelledSet) -> LabelledSet:
    """The set without the texts that have more than one label."""
    labels: dict[str, set[str]] = {}
    for row in dataset.rows:
        labels.setdefault(row.text, set()).add(row.label)
    return replace(dataset, rows=tuple(row for row in dataset.rows if len(labels[row.text]) == 1))


def _tokens(given: int, made: int) -> tuple[str, str]:
    return f"{given + made:,}", f"{given:,} in, {made:,} out"


def _lines(item: TaskItem) -> int:
    return str(item.context).count("|| Instance: ")


def _item(dataset: LabelledSet, tokens: int, kind: str, seed: int) -> TaskItem:
    for item in make_oolong(dataset, tokens=tokens, windows=1, seed=seed):
        if item.meta["group"] == "counting" and item.meta["kind"] == kind:
            return item
    raise InputError((f"kind: the window has no question {kind}",))


def _kill(cluster: Cluster, endpoint: SimulatedEndpoint, job: Job, lines: int) -> tuple[str, ...]:
    """Kill each worker once that share of the sub-calls is answered; return those that were killed."""
    calls, killed = lines / _LINES_A_CALL, list[str]()
    for name, share in _KILLED:
        while _served(endpoint, SUB_MODEL).requests < share * calls:
            if job.status().final:
                return tuple(killed)
            time.sleep(_LOOK_S)
        os.killpg(cluster.pids()[name], signal.SIGKILL)
        killed.append(name)
    return tuple(killed)


def _served(endpoint: SimulatedEndpoint, model: str) -> ModelServed:
    return endpoint.served.by_model.get(model, ModelServed())


def _bound_s(endpoint: SimulatedEndpoint, slots: int) -> float:
    root, sub = _served(endpoint, ROOT_MODEL), _served(endpoint, SUB_MODEL)
    root_s = SPEEDS[Role.ROOT].time_s(root.usage, root.requests)
    return root_s + SPEEDS[Role.SUB].time_s(sub.usage, sub.requests) / slots
