"""A run's folder: what it refuses, what it keeps, and the items of each task."""

import json
from pathlib import Path

import pytest

from rlm_dist.bench.quality_runs.folder import BatchSummary, RunFolder
from rlm_dist.bench.quality_runs.jobs import MethodJobs, batch_id_of
from rlm_dist.bench.quality_runs.methods import METHODS
from rlm_dist.bench.quality_runs.models import RootModel
from rlm_dist.bench.quality_runs.router import Router
from rlm_dist.bench.quality_runs.tasks import TaskChoice, make_items, power_of_two
from rlm_dist.errors import InputError
from tests.unit.bench.quality_runs.run_values import item, record, row, run_folder

ROOT = RootModel(name="big", window=8_000, window_from="option")
NEEDLES = TaskChoice(tasks=("needles",), tokens=(500, 1_000), items=3, seed=1)


def test_the_items_are_those_of_the_seed_at_each_length() -> None:
    items = list(make_items(NEEDLES))
    assert [each.tokens for each in items] == [500] * 3 + [1_000] * 3
    assert items == list(make_items(NEEDLES))
    assert items != list(make_items(NEEDLES.model_copy(update={"seed": 2})))


def test_documents_and_code_are_made_at_the_length(tmp_path: Path) -> None:
    choice = TaskChoice(tasks=("multihop", "code"), tokens=(20_000,), items=2)
    items = list(make_items(choice))
    assert [(each.task, each.tokens) for each in items] == [("multi-hop", 20_000)] * 2 + [
        ("code", 20_000)
    ] * 2
    assert len(items[0].context) == 20
    assert 60_000 < sum(map(len, items[0].context)) < 100_000


def test_labelled_sets_and_own_tasks_come_from_their_files(tmp_path: Path) -> None:
    rows = [f"HUM:ind Who is number {n} ?\nNUM:count How many are {n} ?" for n in range(60)]
    labels = tmp_path / "set.label"
    labels.write_text("\n".join(rows))
    own = tmp_path / "own.jsonl"
    lines = [{"context": "x" * 4 * size, "query": f"{size}?", "expected": "1"} for size in (3, 4, 5)]
    own.write_text("\n".join(map(json.dumps, lines)))
    data = {"oolong": str(labels), "own": str(own)}
    choice = TaskChoice(tasks=("oolong", "own"), data=data, tokens=(1_000,), items=30)
    items = list(make_items(choice))
    assert [each.tokens for each in items if each.task == "own"] == [4, 4, 8]
    oolong = [each for each in items if each.task == "oolong"]
    assert len({each.context for each in oolong}) == 2
    assert 25 < len(oolong) <= 30


@pytest.mark.parametrize(("tokens", "power"), [(0, 1), (1, 1), (2, 2), (3, 4), (4096, 4096), (4097, 8192)])
def test_lengths_of_own_tasks_are_grouped_by_powers_of_two(tokens: int, power: int) -> None:
    assert power_of_two(tokens) == power


@pytest.mark.parametrize(
    ("choice", "problem"),
    [
        ({"tasks": ("nedles",)}, "nedles is none of needles, counts"),
        ({"tasks": ()}, "--task: name one of"),
        ({"tasks": ("needles",), "tokens": ()}, "--tokens: name at least one length"),
        ({"tasks": ("oolong",)}, "--data oolong=PATH with a labelled set"),
        ({"tasks": ("own",)}, "--data own=PATH with a file of tasks"),
        ({"tasks": ("needles",), "data": {"code": "/x"}}, "code is no task of this run"),
        ({"tasks": ("needles",), "data": {"needles": "/none"}}, "--data /none: No such file"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(choice: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        list(make_items(TaskChoice.model_validate({"tokens": (1_000,), "items": 1, **choice})))


def test_the_same_command_takes_a_run_up_and_another_one_is_told_what_differs(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    begun = folder.begin(record("rlm", choice=NEEDLES, options={"max_usd": 1.0}))
    assert folder.begin(record("rlm", choice=NEEDLES, options={"max_usd": 1.0})) == begun
    with pytest.raises(InputError) as error:
        folder.begin(record("base", choice=NEEDLES.model_copy(update={"seed": 5}), options={}))
    text = str(error.value)
    assert 'this run has methods ["rlm"], and not ["base"]' in text
    assert "has seed 1, and not 5" in text
    assert "has max_usd 1.0, and not null" in text


def test_a_command_that_cannot_make_its_items_leaves_no_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(InputError, match="labelled set"):
        folder.begin(record("rlm", choice=TaskChoice(tasks=("oolong",), tokens=(1_000,), items=1)))
    assert folder.begin(record("rlm", choice=NEEDLES)).choice == NEEDLES


def test_two_processes_do_not_work_on_one_run(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path).held(),
        pytest.raises(InputError, match="another process"),
        RunFolder(tmp_path).held(),
    ):
        pass


def test_a_folder_without_a_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        RunFolder(tmp_path).record()


def test_a_row_that_was_cut_off_is_dropped_and_the_next_one_follows_the_whole_ones(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, record(), [item("a")], [row("a")])
    path = tmp_path / "results.jsonl"
    with path.open("ab") as file:
        file.write(row("b").model_dump_json().encode()[:40])
    assert [each.item for each in folder.rows()] == ["a"]
    with folder.adding() as add:
        add(row("c"))
    assert [each.item for each in folder.rows()] == ["a", "c"]


def test_batches_are_noted_one_by_one(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, record(), [item("a")], [])
    assert folder.batches() == {}
    for name in ("rlm", "base"):
        folder.add_batch(name, BatchSummary(batch_id=name, models=(), cost=None))
    assert list(folder.batches()) == ["rlm", "base"]


def test_the_jobs_of_a_method_are_the_same_each_time_and_differ_by_what_they_ask(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    path = folder.items_file(NEEDLES)
    jobs = MethodJobs(path, METHODS["base"], ROOT)
    assert (jobs.total, jobs.deepest) == (6, 0)
    assert jobs.digest == MethodJobs(path, METHODS["base"], ROOT).digest
    wider = ROOT.model_copy(update={"window": 9_000})
    assert jobs.digest != MethodJobs(path, METHODS["base"], wider).digest
    assert MethodJobs(path, METHODS["rlm-depth-2"], ROOT).deepest == 2
    first = next(jobs.items())
    assert first.options.sub_model == "big"
    assert first.options.program is not None
    assert "magic number" in str(first.value)


def test_auto_gives_each_item_the_options_of_its_route(tmp_path: Path) -> None:
    path = RunFolder(tmp_path).items_file(NEEDLES)
    jobs = MethodJobs(path, METHODS["auto"], ROOT, Router(threshold=500))
    programs = [each.options.program is not None for each in jobs.items()]
    assert programs == [True] * 3 + [False] * 3
    assert jobs.route(item("a", 500)) == "base"
    assert MethodJobs(path, METHODS["rlm"], ROOT, Router(threshold=500)).route(item("a", 1)) == ""


def test_what_codeact_does_not_show_is_counted() -> None:
    root = ROOT.model_copy(update={"window": 1_000})
    empty = Path("/dev/null")
    assert MethodJobs(empty, METHODS["codeact-bm25"], root).not_shown(2_500) == 500
    assert MethodJobs(empty, METHODS["codeact-bm25"], root).not_shown(2_000) == 0
    assert MethodJobs(empty, METHODS["rlm"], root).not_shown(10**6) == 0


def test_a_batch_has_a_name_that_the_store_takes() -> None:
    assert batch_id_of("q1", "rlm/prompts=small") == "q1-rlm.prompts.small"
