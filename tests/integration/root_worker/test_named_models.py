"""Model-written code may name the job's two models and those that the user lists, and no others."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.errors import CallError, ModelNotAllowed
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.root_worker.named_models import MOST_NAMES
from rlm_dist.root_worker.repl import JobRepl
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.schema import Message, Role, Usage
from rlm_dist.store import Store
from rlm_dist.worker.accounts import Accounts
from tests.support.played_jobs import PlayedSubWorker
from tests.support.sandboxes import LIMITS, forks, write_context
from tests.support.store_values import running_job

USAGE = Usage(input_tokens=1)
Made = Callable[..., FanOut]


def resolve(role: Role, name: str) -> str:
    """What ``auto`` means at the endpoints."""
    return f"{role}-listed" if name == "auto" else name


@pytest.fixture
def workers(store: Store) -> PlayedSubWorker:
    """A sub worker that answers each call with the name of its model."""
    return PlayedSubWorker(store, lambda model: f"by {model}")


@pytest.fixture
def fan_out(
    store: Store, redis_client: redis.Redis, tmp_path: Path, workers: PlayedSubWorker
) -> Iterator[Made]:
    """Make the fan-out of a job whose spec has these fields."""
    epoch = running_job(store)
    made: list[FanOut] = []

    def make(**fields: object) -> FanOut:
        accounts = Accounts(
            prices=Prices(None), endpoints=dict.fromkeys(Role, (Endpoint("http://x"),)), resolve=resolve
        )
        blobs = open_blobs("redis", home=tmp_path, client=redis_client, retention_s=1000)
        spec = store.jobs.get("j").spec.model_copy(update={"sub_models": (), **fields})
        made.append(
            FanOut(
                spec=spec, epoch=epoch, store=store, payloads=Payloads(store=store, blobs=blobs),
                accounts=accounts, send=workers.send, queue_is_empty=lambda: True, emit=lambda _: None,
            )
        )  # fmt: skip
        return made[-1]

    yield make
    for each in made:
        each.close()


def ask(fan_out: FanOut, model: str | None, prompt: str = "q") -> str | None:
    """The answer to one prompt."""
    (answer,) = fan_out.query([(Message(role="user", content=prompt),)], model)
    return answer.text


def test_the_jobs_own_models_and_the_listed_ones_may_be_named(fan_out: Made) -> None:
    job = fan_out(model="big", sub_model="small", sub_models=("qwen:7b", "other"))
    assert [ask(job, name) for name in (None, "big", "small", "qwen:7b", "other")] == [
        "by small", "by big", "by small", "by qwen:7b", "by other",
    ]  # fmt: skip


def test_auto_is_the_jobs_sub_model(fan_out: Made) -> None:
    assert ask(fan_out(model="big", sub_model="small"), "auto") == "by small"


def test_what_auto_stands_for_may_be_named_too(fan_out: Made) -> None:
    job = fan_out(model="auto", sub_model="auto")
    assert [ask(job, name) for name in (None, "auto", "sub-listed", "root-listed")] == [
        "by auto", "by auto", "by sub-listed", "by root-listed",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["dear", "Small", "small ", "big:latest", "big,small"])
def test_any_other_name_is_refused_and_no_call_is_opened(fan_out: Made, store: Store, name: str) -> None:
    job = fan_out(model="big", sub_model="small", sub_models=("other",))
    with pytest.raises(ModelNotAllowed, match=r"big, other, small"):
        ask(job, name)
    assert store.jobs.costs("j").sub_llm_calls == 0
    assert store.jobs.get("j").calls_in_flight == 0


def test_a_job_of_an_earlier_version_goes_on_as_it_began(fan_out: Made) -> None:
    job = fan_out(model="big", sub_model="small", sub_models=None)
    assert [ask(job, name) for name in ("dear", "auto")] == ["by dear", "by auto"]


def test_an_endpoint_that_lists_no_models_leaves_the_names_as_they_are(
    fan_out: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_role: Role, _name: str) -> str:
        raise CallError("transient", "away")

    job = fan_out(model="auto", sub_model="auto")
    monkeypatch.setattr(job._accounts, "_resolve", refuse)
    with pytest.raises(ModelNotAllowed, match="auto"):
        ask(job, "dear")


def test_the_code_gets_an_exception_and_goes_on(
    fan_out: Made, workers: PlayedSubWorker, tmp_path: Path
) -> None:
    """So do ten thousand calls at once: none is made, and none fails in silence."""
    job = fan_out(model="big", sub_model="small")
    context = write_context(tmp_path / "context", "str", ["hello"])
    repl = JobRepl(
        job,
        lambda query, typed_query: Sandbox(context_path=context, query=query, limits=LIMITS, start=forks()),
        lambda _: None,
    )
    with closing(repl.sandbox) as sandbox:
        sandbox.start()
        cell = repl.run("x = 1\nllm_query('q', model='dear')", 0, 1)
        assert "ValueError: model 'dear' cannot be used" in (cell.error or "")
        assert "big, small" in (cell.error or "")
        batch = repl.run("llm_query_batched(['q'] * 10_000, model='dear')", 0, 2)
        assert "ValueError: model 'dear' cannot be used" in (batch.error or "")
        assert (cell.calls, batch.calls, batch.failed_calls) == (0, 0, 0)
        assert workers.models == []
        assert repl.run("print(x, llm_query('q', model='big'))", 0, 3).error is None
    assert workers.models == ["big"]


@pytest.mark.parametrize("listed", [None, tuple(f"m{n}" for n in range(100))])
def test_a_job_names_only_so_many_models(
    fan_out: Made, workers: PlayedSubWorker, store: Store, listed: tuple[str, ...] | None
) -> None:
    """Those that it named before may be named again."""
    job = fan_out(model="big", sub_model="small", sub_models=listed)
    for n in range(MOST_NAMES):
        assert ask(job, f"m{n}") == f"by m{n}"
    with pytest.raises(ModelNotAllowed):
        ask(job, f"m{MOST_NAMES}")
    assert ask(job, "m0", "again") == "by m0"
    assert len(set(workers.models)) == MOST_NAMES
