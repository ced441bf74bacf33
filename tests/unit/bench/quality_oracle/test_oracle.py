"""The oracle: its root model solves each kind of question by code; its sub model errs as often as was set."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.bench.quality.code_questions import make_code_questions
from rlm_dist.bench.quality.items import TaskItem
from rlm_dist.bench.quality.multihop import make_multihop
from rlm_dist.bench.quality.needles import make_needles
from rlm_dist.bench.quality.oolong import all_questions, make_oolong
from rlm_dist.bench.quality.pairs import make_pairs
from rlm_dist.bench.quality.scorers import score
from rlm_dist.bench.quality.windows import make_window
from rlm_dist.bench.quality_oracle.plans import plan_of
from rlm_dist.bench.quality_oracle.sub import READS_TOKENS, OracleSub, known_labels
from tests.support.labelled_sets import trec_like, two_labels
from tests.support.oracle_runs import OracleRun, asked

SETS = {each.name: each for each in (trec_like(), two_labels())}
SUB = OracleSub(labels=known_labels(SETS.values()))
MODULE = """\
import decimal
class Engine{n}:
    def start_engine{n}(self):
        return self.check_pressure{n}()
    def check_pressure{n}(self):
        return decimal.Decimal({n})
class Turbine{n}(Engine{n}):
    pass
"""


def tree(folder: Path) -> Path:
    for number in range(6):
        text = MODULE.format(n=number).replace("decimal", ("decimal", "fractions", "statistics")[number % 3])
        (folder / f"part{number}.py").write_text(text)
    return folder


def items_of(task: str, folder: Path) -> Iterator[TaskItem]:
    match task:
        case "needles":
            yield from make_needles(tokens=2000, count=3, seed=1)
            yield from make_needles(tokens=2000, count=3, seed=1, essays="A first. Second one! Third?")
        case "oolong" | "labelled":
            shown = task == "labelled"
            yield from make_oolong(SETS["trec_coarse"], tokens=16_384, windows=2, seed=3, gold_labels=shown)
            yield from make_oolong(SETS["mails"], tokens=4096, windows=1, seed=3, gold_labels=shown)
        case "pairs":
            yield from make_pairs(SETS["trec_coarse"], tokens=8192, seed=2)
        case "multi-hop":
            yield from make_multihop(questions=9, seed=1, documents=40, document_tokens=100)
        case _:
            yield from make_code_questions(tokens=4000, count=12, seed=1, folder=tree(folder))


TASKS = ("needles", "oolong", "labelled", "pairs", "multi-hop", "code")


@pytest.mark.parametrize("task", TASKS)
def test_without_errors_the_code_gets_each_answer_right(task: str, tmp_path: Path) -> None:
    """The code runs in the REPL, from the query as the engine shows it."""
    for item in items_of(task, tmp_path):
        run = OracleRun(item, SUB)
        assert score(run.answer, item) == 1.0, (item.query, run.answer, item.expected[:3])
        assert run.outcome.iterations <= 3
        assert (task == "labelled") <= (not run.prompts), "labels that stand there are not asked for"


@pytest.mark.parametrize("task", TASKS)
def test_the_whole_text_in_one_prompt_is_read_as_well_while_it_is_short(task: str, tmp_path: Path) -> None:
    items = [item for item in items_of(task, tmp_path)]
    for item in items:
        text = item.context if isinstance(item.context, str) else "\n\n".join(item.context)
        if len(text) < READS_TOKENS * 3:
            assert score(asked(SUB, f"{text}\n\n{item.query}"), item) == 1.0, item.query


@pytest.mark.parametrize("task", ["needles", "oolong", "multi-hop"])
def test_notes_over_parts_keep_what_the_question_needs_as_far_as_there_is_room(
    task: str, tmp_path: Path
) -> None:
    """The prompts are those of the method ``summary``."""
    items = [item for item in items_of(task, tmp_path) if item.tokens <= READS_TOKENS / 2][:6]
    for room, right in ((60_000, 1.0), (10, 0.0)):
        scores = []
        for item in items:
            text = item.context if isinstance(item.context, str) else "\n\n".join(item.context)
            notes = "(none)"
            middle = text.index("\n", len(text) // 2) if "\n" in text else text.index("magic") - 200
            for part in (text[: max(0, middle)], text[max(0, middle) :]):
                prompt = (
                    f"This will be asked about the whole of it:\n{item.query}\n\nNotes on the parts before:\n"
                    f"{notes}\n\nPart 1 of 2:\n{part}\n\nRewrite the notes, in at most {room} characters."
                )
                notes = asked(SUB, prompt)
            question = f"Notes on a long text:\n{notes}\n\nAnswer from these notes.\n{item.query}"
            scores.append(score(asked(SUB, question), item))
        assert (sum(scores) / len(scores) == 1.0) if right else (sum(scores) / len(scores) < 0.7), scores


def test_each_question_that_oolong_can_ask_has_a_plan() -> None:
    for seed in range(5):
        window = make_window(SETS["trec_coarse"], length=16_384, seed=seed)
        assert all(plan_of(question.text) for question in all_questions(window))


@pytest.mark.parametrize("prompts", ["coder", "frugal", "small"])
def test_the_query_is_found_in_each_family_of_prompts(prompts: str) -> None:
    (item,) = make_needles(tokens=2000, count=1, seed=7)
    assert OracleRun(item, SUB, prompts=prompts).answer == item.expected[0]


def test_a_question_of_no_task_is_answered_by_the_usual_script_and_rules() -> None:
    (needle,) = make_needles(tokens=200, count=1, seed=7)
    run = OracleRun(needle.model_copy(update={"query": "How many lines contain 'lamp'?"}), SUB)
    assert run.answer == str(str(needle.context).count("lamp"))
    assert "words, starting" in asked(SUB, "Say something.")


def test_the_root_model_writes_no_label_of_a_line_and_no_answer() -> None:
    """Two windows with the same question get the same code, whose answers differ."""
    items = [
        next(
            item
            for item in make_oolong(SETS["trec_coarse"], tokens=8192, windows=1, seed=seed, questions=200)
            if "how many lines have the label 'entity'" in item.query and item.meta["kind"] == "count_label"
        )
        for seed in range(2, 5)
    ]
    runs = [OracleRun(item, SUB) for item in items]
    assert len({tuple(run.repl.ran) for run in runs}) == 1
    assert len({run.answer for run in runs}) > 1


def test_lines_that_a_reply_leaves_out_are_asked_again() -> None:
    item = next(make_oolong(SETS["trec_coarse"], tokens=16_384, windows=1, seed=3, questions=1))
    asks = 0

    def forgetful(prompts: list[str]) -> list[str]:
        nonlocal asks
        asks += 1
        replies = [asked(SUB, prompt) for prompt in prompts]
        return replies if asks > 1 else ["\n".join(reply.split("\n")[::2]) for reply in replies]

    assert score(OracleRun(item, SUB, forgetful).answer, item) == 1.0
    assert asks == 2


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_labels_are_wrong_at_the_set_rate_and_the_same_each_time(rate: float) -> None:
    rows = SETS["trec_coarse"].rows
    labels = SETS["trec_coarse"].labels
    sub = OracleSub(labels=SUB.labels, error_rate=rate)
    given = [sub.label(row.text, labels, rate) for row in rows]
    wrong = sum(label != row.label for label, row in zip(given, rows, strict=True)) / len(rows)
    assert set(given) <= set(labels)
    assert abs(wrong - rate) < 0.06
    assert given == [sub.label(row.text, labels, rate) for row in rows]
    other = OracleSub(labels=SUB.labels, error_rate=rate, seed=1)
    assert given != [other.label(row.text, labels, rate) for row in rows]


@pytest.mark.parametrize("task", ["needles", "multi-hop", "code", "pairs"])
def test_errors_cost_score(task: str, tmp_path: Path) -> None:
    items = list(items_of(task, tmp_path))
    for rate, least, most in ((1.0, 0.0, 0.3), (0.3, 0.1, 0.99)):
        sub = OracleSub(labels=SUB.labels, error_rate=rate, seed=1)
        mean = sum(score(OracleRun(item, sub).answer, item) for item in items) / len(items)
        assert least <= mean <= most, rate


def test_long_prompts_are_read_worse() -> None:
    """Up to the length that is read well, the error is the rate that was set."""
    sub = OracleSub(error_rate=0.1)
    assert sub.error(100) == sub.error(READS_TOKENS) == pytest.approx(0.1)
    assert sub.error(4 * READS_TOKENS) == pytest.approx(1 - 0.9 / 2)
    items = [
        item
        for seed in range(4)
        for item in make_oolong(SETS["trec_coarse"], tokens=131_072, windows=1, seed=seed)
        if item.meta["answer_type"] == "NUMERIC"
    ]
    mean = sum(score(asked(SUB, f"{item.context}\n\n{item.query}"), item) for item in items) / len(items)
    assert 0 < mean < 0.5
