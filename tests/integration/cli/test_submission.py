"""``submit``: what it refuses before it enqueues anything, and what it says if it is long or cut short."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.cli import submission
from rlm_dist.client.batch_file import BatchFile
from rlm_dist.client.batch_item import BatchItem
from rlm_dist.store import Store, connect
from tests.support.command_line import Cli


@pytest.fixture
def cli(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    monkeypatch.setenv("RLM_REDIS_URL", redis_url)
    monkeypatch.setenv("RLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RLM_API_URL", "http://127.0.0.1:1/v1")
    return Cli(capsys)


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    with connect(redis_url, client_name="test") as client:
        yield Store(client, retention_s=3600)


def batch(folder: Path, *lines: dict[str, object]) -> Path:
    path = folder / "batch.jsonl"
    rows = [{"id": f"q{n}", "query": "?", "context": "text"} | line for n, line in enumerate(lines)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("limit", ["--max-usd", "--batch-max-usd"])
def test_a_limit_on_money_with_an_unknown_price_is_refused_at_once(
    cli: Cli, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    path = batch(tmp_path, {})
    arguments: list[str | Path] = ["submit", path, "--model", "mine", "--sub-model", "known", limit, "1"]
    prices = tmp_path / "prices.json"
    prices.write_text('{"known": {"input": 1, "output": 1}}')
    monkeypatch.setenv("RLM_PRICES", str(prices))
    done = cli(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "the price of model 'mine' is not known" in done.err
    assert "RLM_PRICES" in done.err
    assert "'known'" not in done.err
    assert store.batches.newest(1) == []
    assert "warning: the price of model 'mine' is not known" in cli(*arguments, "--dry-run").err
    prices.write_text('{"*": {"input": 1, "output": 1}}')
    assert cli(*arguments).code == 0


def test_the_models_and_limits_of_the_lines_count(cli: Cli, tmp_path: Path) -> None:
    free: dict[str, object] = {"model": "free", "sub_model": "free"}
    assert cli("submit", batch(tmp_path, free)).code == 0
    limited: dict[str, object] = {"model": "auto", "max_usd": 1, "sub_model": "a", "sub_models": ["b", "a"]}
    done = cli("submit", batch(tmp_path, limited, free))
    assert done.code == 2
    assert [name in done.err for name in ("'a'", "'b'", "'auto'", "'free'")] == [True, True, False, False]
    many: list[dict[str, object]] = [{"max_usd": 1, "model": f"m{n}"} for n in range(30)]
    assert "… and 20 more models" in cli("submit", batch(tmp_path, *many)).err


def test_prices_of_a_provider_are_known(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_API_URL", "https://api.openai.com/v1")
    path = batch(tmp_path, {"model": "gpt-5", "sub_model": "gpt-5-mini"})
    assert cli("submit", path, "--max-usd", "1").code == 0
    assert (
        "in the tier 'nonsense'"
        in cli(
            "submit",
            batch(tmp_path, {"model": "gpt-5", "extra_body": {"service_tier": "nonsense"}}),
            "--max-usd",
            "1",
        ).err
    )


def test_a_cancelled_batch_is_not_submitted_again_in_silence(cli: Cli, tmp_path: Path) -> None:
    path = batch(tmp_path, {}, {})
    assert cli("submit", path, "--batch-id", "b1").code == 0
    assert cli("cancel", "b1").code == 0
    done = cli("submit", path, "--batch-id", "b1")
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("error: batch b1 was cancelled: rlm-dist retry b1 runs its jobs again\n")
    assert cli("retry", "b1").code == 0
    assert cli("submit", path, "--batch-id", "b1").code == 0


def test_ctrl_c_says_what_is_submitted_and_how_to_complete_or_cancel_it(
    cli: Cli, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = batch(tmp_path, *[{}] * 900)
    read = BatchFile.items

    def interrupted(jobs: BatchFile) -> Iterator[BatchItem]:
        for number, item in enumerate(read(jobs)):
            if number == 700:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(BatchFile, "items", interrupted)
    done = cli("submit", path, "--json")
    (record,) = store.batches.newest(1)
    stored = sum(record.counts.values())
    assert done.code == 4
    assert done.document == {"batch_id": record.id, "jobs": stored, "total": 900, "interrupted": True}
    assert 0 < stored <= 600
    assert f"interrupted: {stored} of 900 jobs are submitted, to batch {record.id}\n" in done.err
    assert f"to submit the others: the same command with --batch-id {record.id}\n" in done.err
    assert f"to cancel it: rlm-dist cancel {record.id}\n" in done.err
    monkeypatch.setattr(BatchFile, "items", read)
    assert cli("submit", path, "--batch-id", record.id).out == f"{record.id}\n"
    assert sum(store.batches.get(record.id).counts.values()) == 900


def test_a_batch_that_was_cancelled_half_submitted_says_how_the_others_are_submitted(
    cli: Cli, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = batch(tmp_path, *[{}] * 900)
    read = BatchFile.items

    def cancelled(jobs: BatchFile) -> Iterator[BatchItem]:
        for number, item in enumerate(read(jobs)):
            if number == 700:
                store.batches.cancel("b1")
            yield item

    monkeypatch.setattr(BatchFile, "items", cancelled)
    done = cli("submit", path, "--batch-id", "b1")
    assert (done.code, done.out) == (2, "")
    assert "batch b1 was cancelled: rlm-dist retry b1 runs its jobs again" in done.err


def test_a_long_submission_shows_its_progress(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = batch(tmp_path, *[{}] * 900)
    assert "are stored" not in cli("submit", path, "--batch-id", "b1").err
    for name in ("_QUIET_S", "_LINE_S", "_LOOK_S"):
        monkeypatch.setattr(submission, name, 0.0)
    lines = [
        line for line in cli("submit", path, "--batch-id", "b2").err.splitlines() if "are stored" in line
    ]
    assert lines[0] == "submitting batch b2: 0 of 900 jobs are stored"
    assert lines[-1].split(": ")[1] in {f"{n} of 900 jobs are stored" for n in (200, 400, 600, 800)}
