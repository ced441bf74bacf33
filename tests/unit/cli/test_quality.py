"""``bench quality``: what it refuses at once, and how its options are read."""

from pathlib import Path

import pytest

from rlm_dist.bench.quality_runs.folder import RunFolder
from rlm_dist.cli import quality
from rlm_dist.errors import InputError
from tests.support.command_line import Cli
from tests.unit.bench.quality_runs.run_values import item, record, row, run_folder

NEEDLES = "--task needles --tokens 1000"


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("RLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RLM_API_URL", "http://127.0.0.1:1/v1")
    return Cli(capsys)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--task needles --tokens 1000", "-o: name a folder"),
        ("-o {run}", "--task: name one of needles"),
        ("--task nedles --tokens 1000 -o {run}", "nedles is none of"),
        ("--task needles -o {run}", "--tokens: name at least one length"),
        ("--task needles --tokens 1k -o {run}", "--tokens: must be whole numbers"),
        ("--task needles --tokens 0 -o {run}", "--tokens: must be at least 1"),
        ("--task needles --tokens 1000 --method rml -o {run}", "rml is none of base"),
        ("--task needles --tokens 1000 --ablate prompt -o {run}", "prompt is none of prompts"),
        (f"{NEEDLES} --oracle --local -o {{run}}", "leave out --oracle or --local"),
        (f"{NEEDLES} --error-rate 0.1 -o {{run}}", "--error-rate: is that of --oracle"),
        (f"{NEEDLES} --oracle --sub-model small -o {{run}}", "--sub-model: the oracle has its own models"),
        (f"{NEEDLES} --oracle --method rlm-no-calls -o {{run}}", "--method rlm-no-calls: the oracle plays"),
        (f"{NEEDLES} --max-depth 2 -o {{run}}", "--max-depth: the method sets it"),
        ("--task oolong --tokens 1000 --oracle --data no.csv -o {run}", "no.csv: No such file"),
        ("report {run}", "holds no run"),
        ("compare {run} {run} {run}", "give one run or two"),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_no_run(
    cli: Cli, tmp_path: Path, words: str, problem: str
) -> None:
    done = cli("bench", "quality", *words.format(run=tmp_path / "run").split())
    assert done.code == 2
    assert problem in done.err
    assert not (tmp_path / "run" / "run.json").exists()


def test_an_endpoint_that_does_not_answer_is_said_and_the_run_can_go_on_later(
    cli: Cli, tmp_path: Path
) -> None:
    words = f"bench quality --task needles --tokens 500 --items 1 -o {tmp_path / 'run'}".split()
    assert cli(*words).code == 5
    assert RunFolder(tmp_path / "run").record().root.name == "auto"
    assert cli(*words).code == 5


def test_the_base_model_needs_the_endpoint_of_the_root_model(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_SUB_API_URL", "http://127.0.0.1:2/v1")
    words = ["--task", "needles", "--tokens", "500", "-o", str(tmp_path / "run")]
    done = cli("bench", "quality", *words, "--method", "rlm,base")
    assert done.code == 2
    assert "--method base: asks the root model by sub-calls" in done.err


def test_sources_are_by_task_or_for_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert quality._data(["set"], ["oolong", "pairs"]) == dict.fromkeys(
        ("oolong", "pairs"), f"{tmp_path}/set"
    )
    assert quality._data(["oolong=hf:a/b:test", "code=/src"], ["oolong"]) == {
        "oolong": "hf:a/b:test",
        "code": "/src",
    }
    assert quality._data(["a=b"], ["own"]) == {"own": f"{tmp_path}/a=b"}


def test_two_runs_are_compared_by_their_common_methods_and_one_by_its_first() -> None:
    one, two = record("rlm", "base"), record("base", "summary")
    assert quality._pairs([one, two], ()) == [("base", "base")]
    assert quality._pairs([one, two], ("rlm", "summary")) == [("rlm", "summary")]
    assert quality._pairs([one], ()) == [("rlm", "base")]
    for records, names in (
        ([one, record("auto")], ()),
        ([record("rlm")], ()),
        ([one], ("rlm", "auto")),
        ([one], ("rlm",)),
    ):
        with pytest.raises(InputError):
            quality._pairs(records, names)


def test_a_report_is_stored_and_drawn_and_runs_are_compared(cli: Cli, tmp_path: Path) -> None:
    rows = [row("a", "rlm", 1.0, cost=0.2), row("a", "base", 0.0, cost=0.1)]
    run_folder(tmp_path / "one", record("rlm", "base"), [item("a")], rows)
    run_folder(tmp_path / "two", record("rlm"), [item("a")], [row("a", "rlm", 0.5, cost=0.2)])
    shown = cli("bench", "quality", "report", tmp_path / "one")
    assert shown.code == 0
    assert "$/RIGHT" in shown.out
    for name in ("report.json", "score-oolong.svg", "cost-oolong.svg"):
        assert (tmp_path / "one" / name).stat().st_size > 0
    document = cli("bench", "quality", "compare", tmp_path / "one", tmp_path / "two", "--json").document
    assert [each["score"]["difference"]["mean"] for each in document["differences"]] == [-0.5]
    within = cli("bench", "quality", "compare", tmp_path / "one", "--method", "base,rlm")
    assert "+100.0" in within.out
