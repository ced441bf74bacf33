"""The seed's class against a real server; the tests play the workers."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlm_dist.client.client import Client
from rlm_dist.contexts.encoding import encode
from rlm_dist.errors import Cancelled, InputError, JobFailed
from rlm_dist.rlm_repl import RLM_REPL
from rlm_dist.schema import ContextInfo, ErrorInfo, JobState, Outcome, Role
from rlm_dist.schema.events import JobStarted, MessageAdded
from rlm_dist.settings import Settings
from rlm_dist.store import connect
from rlm_dist.store.trace import TraceSink
from tests.support.played_jobs import ROOT_LIST, answered, pay, play


@pytest.fixture
def client(redis_url: str, tmp_path: Path) -> Iterator[Client]:
    with Client(Settings(redis_url=redis_url, home=tmp_path / "home")) as client:
        yield client


@pytest.fixture
def worker(client: Client) -> Iterator[Callable[[Outcome], None]]:
    """A thread that plays the next submitted job, which costs 1 USD."""
    threads = []

    def play_next(
        outcome: Outcome,
        nanousd: int | None = 1_000_000_000,
        tell: Callable[[str], None] = lambda job_id: None,
    ) -> None:
        known = {record.spec.id for record in client.store.jobs.newest(100)}

        def work() -> None:
            with connect(str(client.settings.redis_url), client_name="test") as own:
                own.blmpop(30, 1, ROOT_LIST, direction="RIGHT")
                (job_id,) = {record.spec.id for record in client.store.jobs.newest(100)} - known
                pay(client.store, job_id, Role.ROOT, nanousd)
                tell(job_id)
                play(client.store, job_id, outcome)

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield play_next
    for thread in threads:
        thread.join()


@pytest.fixture
def rlm(client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[RLM_REPL]:
    monkeypatch.setenv("RLM_REDIS_URL", str(client.settings.redis_url))
    monkeypatch.setenv("RLM_HOME", str(client.settings.home))
    with RLM_REPL(model="big", recursive_model="small", max_iterations=3) as rlm:
        yield rlm


def test_the_seeds_class_answers_and_counts(
    rlm: RLM_REPL, client: Client, worker: Callable[..., None]
) -> None:
    worker(answered("42"))
    assert rlm.completion("context", "question") == "42"
    worker(Outcome(state=JobState.EXHAUSTED, partial_answer="half"))
    assert rlm.completion(["context"]) is None
    assert rlm.cost_summary() == {
        "total_cost": 2.0,
        "root_llm_cost": 2.0,
        "sub_llm_cost": 0,
        "root_llm_tokens": 220,
        "sub_llm_tokens": 0,
        "root_llm_calls": 2,
        "sub_llm_calls": 0,
        "unpriced": False,
    }
    rlm.reset()
    assert set(rlm.cost_summary().values()) == {0}
    spec = client.store.jobs.newest(1)[0].spec
    assert (spec.model, spec.sub_model) == ("big", "small")
    assert (spec.limits.max_iterations, spec.max_output_chars) == (3, 500_000)


def test_an_unknown_price_is_zero_in_the_seeds_class_and_said_beside(
    rlm: RLM_REPL, client: Client, worker: Callable[..., None]
) -> None:
    """The seed's scripts format the sum and add to it; the product's own results keep null."""
    worker(answered("42"), nanousd=None)
    rlm.completion("context", "question")
    costs = rlm.cost_summary()
    assert f"${costs['total_cost']:.4f}" == "$0.0000"
    assert (costs["unpriced"], costs["root_llm_calls"]) == (True, 1)
    worker(answered("42"))
    rlm.completion("context", "question")
    assert (rlm.cost_summary()["total_cost"], rlm.cost_summary()["unpriced"]) == (1.0, True)
    assert {job.costs.total_cost for job in client.store.jobs.newest(2)} == {None, 1.0}


def test_the_seeds_class_tells_of_its_last_completion(
    rlm: RLM_REPL, client: Client, worker: Callable[..., None]
) -> None:
    assert (rlm.model, rlm.recursive_model, rlm.max_iterations) == ("big", "small", 3)
    assert (rlm.max_output_length, rlm.messages) == (500_000, [])
    assert (rlm.repl_env, rlm.query) == (None, None)
    rlm.model, rlm.max_iterations = "bigger", 5
    worker(Outcome(state=JobState.SUCCEEDED, answer="[1]", answer_json=[1]))
    assert rlm.completion("context", "question") == "[1]"
    spec = client.store.jobs.newest(1)[0].spec
    assert (spec.model, spec.sub_model, spec.limits.max_iterations) == ("bigger", "small", 5)
    view = rlm.repl_env
    assert view is not None
    assert view.locals == {"context": "context", "answer": {"content": [1], "ready": True}}
    assert {"llm_query", "FINAL_VAR"} <= view.globals
    worker(Outcome(state=JobState.EXHAUSTED, partial_answer="half"))
    assert rlm.completion(["a", "b"]) is None
    view = rlm.repl_env
    assert view is not None
    assert view.locals == {"context": ["a", "b"], "answer": {"content": "half", "ready": False}}
    rlm.reset()
    assert (rlm.messages, rlm.repl_env, rlm.query) == ([], None, None)


def test_a_chat_is_a_context_of_the_texts_of_its_messages(
    rlm: RLM_REPL, client: Client, worker: Callable[..., None]
) -> None:
    worker(answered("42"))
    rlm.completion([{"role": "user", "content": "one"}, {"role": "assistant", "content": None}], "question")
    spec = client.store.jobs.newest(1)[0].spec
    assert spec.context == encode(["one", ""]).ref
    worker(answered("42"))
    rlm.completion([{"name": "no message"}], "question")
    assert client.store.jobs.newest(1)[0].spec.context == encode([{"name": "no message"}]).ref


def test_the_chat_of_a_job_that_was_taken_over_is_told_once(
    rlm: RLM_REPL, client: Client, worker: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    info = ContextInfo(kind="str", chars=7, items=1)

    def tell(job_id: str) -> None:
        sink = TraceSink(client.store.journals, job_id, client._payloads, now_ms=lambda: 1)
        for epoch in (1, 2):
            sink(
                JobStarted(
                    job_id=job_id, epoch=epoch, worker="w", model="m", sub_model="s", prompts="coder",
                    isolation="none", context=info,
                )
            )  # fmt: skip
            sink(MessageAdded(turn=0, role="system", text="a secret"))
            sink(MessageAdded(turn=0, role="user", text="task"))
        sink.flush()

    rlm.enable_logging = True
    worker(answered("42"), tell=tell)
    assert rlm.completion("context", "question") == "42"
    assert rlm.messages == [{"role": "system", "content": "a secret"}, {"role": "user", "content": "task"}]
    said = capsys.readouterr()
    assert said.out == ""
    assert "on w: a context of 7 characters" in said.err
    assert "secret" not in said.err


def test_the_seeds_class_raises_where_the_job_failed(rlm: RLM_REPL, worker: Callable[..., None]) -> None:
    worker(Outcome(state=JobState.FAILED, error=ErrorInfo(type="auth", message="bad key")))
    with pytest.raises(JobFailed, match="auth: bad key"):
        rlm.completion("context", "question")
    assert rlm.cost_summary()["total_cost"] == 1.0
    worker(Outcome(state=JobState.CANCELLED))
    with pytest.raises(Cancelled):
        rlm.completion("context", "question")
    with pytest.raises(InputError):
        rlm.completion("", "question")
