"""The program of the family ``small``: records are read into ``rows``, and their fields are shown."""

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from rlm_dist.bench.quality.labelled import TREC_LABELS
from rlm_dist.bench.quality.oolong import make_oolong
from rlm_dist.bench.quality.records import make_counts
from rlm_dist.engine.prompts.peek import PEEK
from rlm_dist.schema import CellResult
from tests.support.fake_repl import FakeRepl
from tests.support.labelled_sets import trec_like

LOG = 'Mon 08:00 shop=York item="red ink" price=4\nTue 09:00 shop=Leeds item="paper" price=11'
CSV = "name,joined,points\nAda,2024-02-01,4.5\nJon,2023-12-30,2"
TABS = "name\tpoints\nAda\t007\nJon\tx"
LINES = '{"name": "Ada", "points": 4}\n\n{"name": "Jon", "points": 2}'
BARS = "All posts of a forum.\n\nDate: May 02, 2024 | Text: Is it: good?\nDate: Jun 03, 2024 | Text: Yes"


def peeked(context: object, **names: Any) -> tuple[FakeRepl, CellResult]:
    repl = FakeRepl(context, **names)
    result = repl.run(PEEK, 0)
    assert result.error is None
    return repl, result


@pytest.mark.parametrize(
    ("text", "rows", "shown"),
    [
        (
            LOG,
            [
                {"start": "Mon 08:00", "shop": "York", "item": "red ink", "price": 4},
                {"start": "Tue 09:00", "shop": "Leeds", "item": "paper", "price": 11},
            ],
            "- shop: 'Leeds', 'York'",
        ),
        (
            CSV,
            [
                {"name": "Ada", "joined": date(2024, 2, 1), "points": 4.5},
                {"name": "Jon", "joined": date(2023, 12, 30), "points": 2.0},
            ],
            "- joined: days from date(2023, 12, 30) to date(2024, 2, 1)",
        ),
        (TABS, [{"name": "Ada", "points": "007"}, {"name": "Jon", "points": "x"}], "- points: '007', 'x'"),
        (
            "shop,zip,open\nYork,007,nan\nLeeds,12,1_0",
            [{"shop": "York", "zip": "007", "open": "nan"}, {"shop": "Leeds", "zip": "12", "open": "1_0"}],
            "- zip: '007', '12'",
        ),
        (LINES, [{"name": "Ada", "points": 4}, {"name": "Jon", "points": 2}], "- points: 2, 4"),
        (
            BARS,
            [
                {"Date": date(2024, 5, 2), "Text": "Is it: good?"},
                {"Date": date(2024, 6, 3), "Text": "Yes"},
            ],
            "- Text: 'Is it: good?', 'Yes'",
        ),
    ],
)
def test_records_are_read_and_their_fields_are_shown(text: str, rows: object, shown: str) -> None:
    repl, result = peeked(text)
    assert repl.space["rows"] == rows
    assert shown in result.output.head.splitlines()
    assert "`rows` has its 2 records" in result.output.head
    assert text.splitlines()[0] in result.output.head


@pytest.mark.parametrize(
    "text",
    [
        "",
        "One line.",
        "It rained, and it was cold.\nNobody came.",
        "a=1 b=2\nno fields here",
        "{not json\n{nor",
        "name,points\nAda,4\nJon,2,late",
    ],
)
def test_a_text_without_records_shows_its_beginning(text: str) -> None:
    repl, result = peeked(text)
    assert repl.space["rows"] == []
    assert result.output.head.startswith(f"{text.count(chr(10)) + 1} lines. The first ones:")
    assert all(line in result.output.head for line in text.splitlines()[:4])


@pytest.mark.parametrize("context", [["first", "second"], {"a": 1, "b": 2}, [], {}])
def test_other_contexts_show_their_first_items(context: list[str] | dict[str, int]) -> None:
    _, result = peeked(context)
    assert result.output.head.startswith("The first items:\n")
    assert all(repr(item) in result.output.head for item in context)


def test_many_values_are_shown_as_a_range_or_by_one() -> None:
    lines = [json.dumps({"n": n, "id": f"x{n}"}) for n in range(40)]
    _, result = peeked("\n".join(lines))
    assert "- n: numbers such as 0, from 0 to 39" in result.output.head
    assert "- id: texts such as 'x0'" in result.output.head


@pytest.mark.parametrize(("broken", "rows"), [(0, 400), (3, 397), (7, 393), (8, 0)])
def test_lines_that_are_no_records_are_few_and_counted(broken: int, rows: int) -> None:
    """A count over records of which many were not read would be wrong, and look right."""
    lines = ["{oops" if n and n <= broken else json.dumps({"n": n, "id": f"x{n}"}) for n in range(400)]
    repl, result = peeked("\n".join(lines))
    assert len(repl.space["rows"]) == rows
    assert ("other lines of the text are not in `rows`" in result.output.head) == (broken == 7)


@pytest.mark.parametrize("number", range(3))
def test_the_records_of_the_tasks_are_read_whole(number: int) -> None:
    item = list(make_counts(tokens=2**12, count=3, seed=1))[number]
    assert isinstance(item.context, str)
    repl, result = peeked(item.context)
    lines = len(item.context.splitlines()) - (item.meta["layout"] == "csv")
    assert len(repl.space["rows"]) == lines
    assert result.output.head.count("\n- ") == 8


def test_the_lines_of_a_window_are_read_and_its_labels_are_shown() -> None:
    item = next(make_oolong(trec_like(), tokens=2**13, windows=1, seed=1))
    repl, result = peeked(item.context)
    rows = repl.space["rows"]
    assert len(rows) == 188
    assert set(rows[0]) == {"Date", "User", "Instance"}
    assert isinstance(rows[0]["Date"], date)
    assert isinstance(rows[0]["User"], int)
    labels = sorted(TREC_LABELS.values())
    assert f"label(rows, 'Instance', {labels})" in result.output.head


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Posts, each about one of: hail, rain or snow.\nn=1 text=wet\nn=2 text=cold", True),
        ("Posts of these kinds: hail, rain.\nn=1 kind=rain text=wet\nn=2 kind=hail text=x", False),
        ("Posts, one a line: read them.\nn=1 text=wet\nn=2 text=cold", False),
    ],
)
def test_labels_that_no_field_holds_are_shown_with_the_line_that_sets_them(text: str, shown: bool) -> None:
    _, result = peeked(text)
    assert ("No field holds the labels" in result.output.head) == shown
    assert ("label(rows, 'text', ['hail', 'rain', 'snow'])" in result.output.head) == shown


def ask(prompts: list[str], schema: dict[str, Any]) -> list[str]:
    assert schema == {"type": "string", "enum": ["bad", "good"]}
    return ["good" if "fine" in prompt.rpartition("?")[2] else "bad" for prompt in prompts]


def test_label_asks_about_each_row() -> None:
    repl, _ = peeked("text", llm_query_batched=ask)
    rows = [{"text": "It is fine"}, {"text": "It broke"}]
    label: Callable[..., None] = repl.space["label"]
    label(rows, "text", ["good", "bad"])
    assert [row["label"] for row in rows] == ["good", "bad"]
    with pytest.raises(ValueError, match="narrow them down"):
        label([{"text": "x"}] * 1001, "text", ["good", "bad"])


def test_label_asks_nothing_twice_and_takes_no_failure_for_a_label() -> None:
    asked: list[str] = []

    def fail_once(prompts: list[str], schema: object) -> list[str]:
        failing = "?\nb" if not asked else "none"
        asked.extend(prompt.rpartition("\n")[2] for prompt in prompts)
        return ["the endpoint is away" if prompt.endswith(failing) else "good" for prompt in prompts]

    repl, _ = peeked("text", llm_query_batched=fail_once)
    rows = [{"text": text} for text in "abca"]
    label: Callable[..., None] = repl.space["label"]
    with pytest.raises(RuntimeError, match="1 of 3 texts got no label; the first: the endpoint is away"):
        label(rows, "text", ["good", "bad"])
    assert "label" not in rows[0]
    label(rows, "text", ["good", "bad"])
    label(rows, "text", ["good", "bad"])
    assert [row["label"] for row in rows] == ["good"] * 4
    assert asked == ["a", "b", "c", "b"]


def test_the_names_that_code_forgets_to_import_are_there() -> None:
    repl, _ = peeked("text")
    assert repl.run("Counter, date(2024, 1, 1), datetime.now, csv, json, re", 0).error is None
