"""The ledgers of any tree of jobs are sums: each is what its own calls and those below it cost."""

from collections import Counter, defaultdict
from typing import NamedTuple

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_dist.schema import JobState, Outcome, Role
from rlm_dist.store import Settlement, Spend, Store
from tests.support.store_values import LEASE_MS, finish_job, opens, running_job, settlement, spec, start_job

JOBS, CALLS = 6, 4
ACTIONS = ("open", "claim", "lose", "settle", "again", "abort", "fail", "give back", "keep", "root", "end")
steps = st.tuples(
    st.sampled_from(ACTIONS), st.integers(0, JOBS - 1), st.integers(0, CALLS - 1), st.integers(0, 50)
)


class Plan(NamedTuple):
    """The parent of each job but the first, and what happens."""

    parents: list[int]
    steps: list[tuple[str, int, int, int]]


plans = st.builds(
    Plan,
    st.tuples(*(st.integers(0, n) for n in range(JOBS - 1))).map(list),
    st.lists(steps, max_size=60),
)


class Tree:
    """A running tree of jobs, and what was paid for each job by our own count."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self.store = store
        self.parents = plan.parents
        self.paid: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self.settled: dict[tuple[int, str], Settlement] = {}
        store.batches.create("b", "digest", 1, max_nanousd=150)
        self.epochs = [running_job(store, "j0", batch_id="b", max_tokens=300)]
        for number, parent in enumerate(plan.parents, 1):
            fields = {"parent_id": f"j{parent}", "depth": 1}
            child = spec(f"j{number}").model_copy(update=fields)
            store.children.open(f"j{parent}", self.epochs[parent], [child])
            self.epochs.append(start_job(store, f"j{number}", f"root-{number}", LEASE_MS) or 0)
        store.batches.seal("b")

    def pay(self, job: int, one: Settlement) -> None:
        """Settle, and count what it costs."""
        self.store.calls.settle(f"j{job}", "sub-1", [one])
        self.settled[job, one.call_id] = one
        for spend in [*([one.spend] if one.spend else []), *one.wasted]:
            self.paid[job] += Counter(
                spent_nanousd=spend.nanousd or 0, spent_tokens=spend.usage.total, calls=1
            )

    def live(self, job: int) -> bool:
        """Whether the job has not ended."""
        return not self.store.jobs.get(f"j{job}").state.final

    def below(self, job: int) -> list[int]:
        """The job and all that are below it."""
        children = [n for n, parent in enumerate(self.parents, 1) if parent == job]
        return [job, *(lower for child in children for lower in self.below(child))]

    def do(self, action: str, job: int, call: int, amount: int) -> None:
        """One step; what a job that has ended may not do is left out."""
        calls, name, call_id = self.store.calls, f"j{job}", f"c{call}"
        usage = settlement(call_id).spend
        assert usage
        spend = Spend("m", usage.usage, amount)
        if action == "claim":
            calls.claim(name, [call_id], "sub-1", LEASE_MS)
        elif action == "lose":
            calls.claim(name, [call_id], "dead", 0)
            calls.lost(name, [call_id], LEASE_MS)
        elif action == "settle":
            self.pay(job, settlement(call_id, nanousd=amount))
        elif action == "again" and (job, call_id) in self.settled:
            calls.settle(name, "sub-1", [self.settled[job, call_id]])
        elif action == "abort":
            self.pay(job, Settlement(call_id, Role.SUB, "", None, [spend]))
        elif action == "fail":
            self.pay(job, Settlement(call_id, Role.SUB, "failure", None))
        elif action == "give back":
            calls.settle(name, "sub-1", [Settlement(call_id, Role.SUB, "", None, returned="")])
        elif self.live(job):
            self.do_live(action, job, call_id, amount)

    def do_live(self, action: str, job: int, call_id: str, amount: int) -> None:
        """One step of a job that has not ended."""
        calls, name, epoch = self.store.calls, f"j{job}", self.epochs[job]
        if action == "open":
            calls.open(name, epoch, opens(call_id, nanousd=amount, tokens=amount))
            calls.reserve_more(name, call_id, "sub-1", 2 * amount)
        elif action == "keep":
            calls.keep(name, epoch, tokens=amount, nanousd=amount, partly=True)
        elif action == "root":
            calls.open(name, epoch, opens(f"r{call_id}", nanousd=amount, tokens=amount, role=Role.ROOT))
        elif action == "end" and amount > 40:
            finish_job(self.store, name, epoch, Outcome(state=JobState.FAILED))


def sums(client: redis.Redis, key: str) -> Counter[str]:
    """The fields of a ledger that the test counts itself, or that must be gone."""
    fields = {str(field): int(value) for field, value in client.hgetall(key).items()}
    fields["calls"] = fields.get("line:sub:calls:m", 0)
    names = [*("spent_nanousd", "spent_tokens", "calls", "in_flight", "pending_calls")]
    names += [f"{kind}_{unit}" for kind in ("reserved", "kept") for unit in ("nanousd", "tokens")]
    return Counter({name: fields[name] for name in names if fields.get(name)})


def assert_sums(tree: Tree, client: redis.Redis) -> None:
    """Each ledger has what was paid for its job and those below it, the batch's all, and nothing else."""
    for job in range(JOBS):
        paid = sum((tree.paid[lower] for lower in tree.below(job)), Counter[str]())
        assert sums(client, f"rlm:job:j{job}:ledger") == +paid, job
    assert sums(client, "rlm:batch:b:ledger") == sums(client, "rlm:job:j0:ledger")


@given(plans)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_ledger_is_the_sum_of_its_tree_whatever_happens(
    store: Store, redis_client: redis.Redis, redis_admin: redis.Redis, plan: Plan
) -> None:
    redis_admin.flushall()
    tree = Tree(store, plan)
    for step in plan.steps:
        tree.do(*step)
        assert store.audits.job("j0").differences == []
    finish_job(store, "j0", tree.epochs[0], Outcome(state=JobState.SUCCEEDED))
    assert all(not tree.live(job) for job in range(JOBS))
    for job in range(JOBS):
        for call in range(CALLS):  # what was in flight reports at last
            tree.pay(job, settlement(f"c{call}"))
            store.calls.settle(f"j{job}", "root", [Settlement(f"rc{call}", Role.ROOT, "failure", None)])
    assert_sums(tree, redis_client)
    assert store.audits.batch("b", store.batches.get("b").state).differences == []
    assert not redis_client.exists("rlm:leases", "rlm:queued")
