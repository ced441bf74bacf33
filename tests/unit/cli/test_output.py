"""What the commands write: one document on stdout, everything else on stderr, and the right exit code."""

import json

import pytest

from rlm_dist.cli.output import Output, exit_code, json_line, money, report, table
from rlm_dist.errors import (
    BlobError,
    Cancelled,
    InputError,
    LimitExceeded,
    NotFound,
    RLMError,
    SettingsError,
    Unreachable,
)
from rlm_dist.schema import Costs, JobState

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError(("RLM_MODEL: empty",)), 2),
        (InputError(("line 3: query is missing",)), 2),
        (NotFound("job", "j1"), 2),
        (LimitExceeded("max_usd", 2, 1), 3),
        (Cancelled("j1"), 4),
        (Unreachable("Redis", "localhost:6379", "refused", "Start it."), 5),
        (BlobError("ab", "missing"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RLMError) else str(value),
)
def test_each_error_has_its_exit_code_and_is_told_on_stderr(
    error: RLMError, code: int, capsys: Captured
) -> None:
    assert report(error, as_json=False) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"error: {error}\n"


def test_with_json_an_error_is_a_document_too(capsys: Captured) -> None:
    report(NotFound("job", "j1"), as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": {"type": "NotFound", "message": "no such job: j1"}}
    assert err == "error: no such job: j1\n"


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (JobState.SUCCEEDED, 0),
        (JobState.FAILED, 1),
        (JobState.EXHAUSTED, 3),
        (JobState.CANCELLED, 4),
        (JobState.RUNNING, 1),
    ],
)
def test_the_end_of_a_job_has_its_exit_code(state: JobState, code: int) -> None:
    assert exit_code(state) == code


def test_a_result_is_a_document_or_lines_and_never_both(capsys: Captured) -> None:
    Output(as_json=True).result({"costs": Costs(), "state": JobState.QUEUED}, lambda: ["text"])
    document = json.loads(capsys.readouterr().out)
    assert document["state"] == "queued"
    assert document["costs"]["total_cost"] == 0.0
    Output().result({"a": 1}, lambda: ["one", "two"])
    assert capsys.readouterr().out == "one\ntwo\n"


def test_notes_go_to_stderr_and_quiet_leaves_them_out(capsys: Captured) -> None:
    Output().note("starting")
    Output(quiet=True).note("never")
    assert capsys.readouterr() == ("", "starting\n")


def test_without_a_terminal_a_panel_is_lines_that_differ(capsys: Captured) -> None:
    with Output().panel() as show:
        for text in ("1 done", "1 done", "2 done"):
            show(text)
    assert capsys.readouterr() == ("", "1 done\n2 done\n")


def test_a_panel_off_a_terminal_leaves_out_what_comes_too_soon(capsys: Captured) -> None:
    with Output().panel(every_s=3600) as show:
        for text in ("1 done", "2 done"):
            show(text)
    assert capsys.readouterr() == ("", "1 done\n")


def test_a_panel_on_a_terminal_takes_no_text_for_markup(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Output().panel() as show:
        show("[/red] [bold]text\x1b[2J")
    assert "[/red] [bold]text" in capsys.readouterr().err


HOSTILE = [
    ("red \x1b[31;1mtext\x1b[0m", "red text"),
    ("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c", "abc"),
    ("clip\x1b]52;c;aGk=\x9cboard", "clipboard"),
    ("\x9b2Jclear \x1bc\x1b(0all", "clear all"),
    ("unended \x1b]0;title", "unended "),
    ("over\rwritten\x08\x7f\x00", "overwritten"),
    ("left\u202eright\u2066", "leftright"),
    ("tab\tline\r\nnext é 漢 🦊", "tab\tline\nnext é 漢 🦊"),
]


@pytest.mark.parametrize(("text", "cleaned"), HOSTILE)
def test_no_text_rules_the_terminal(text: str, cleaned: str, capsys: Captured) -> None:
    """Whichever way a text takes to the terminal, escapes and control characters are removed."""
    Output().result({}, lambda: [text])
    Output().note(text)
    with Output().panel() as show:
        show(text)
    report(InputError((text,)), as_json=False)
    assert capsys.readouterr() == (f"{cleaned}\n", f"{cleaned}\n{cleaned}\nerror: {cleaned}\n")


@pytest.mark.parametrize("text", [text for text, _ in HOSTILE])
def test_json_holds_the_text_as_it_is_and_no_control_character(text: str) -> None:
    line = json_line({"answer": text})
    assert json.loads(line) == {"answer": text}
    assert not set(line.decode()) & {*map(chr, [*range(32), *range(127, 160)]), "\u202e", "\u2066"}


def test_a_line_of_json_is_one_line_for_every_reader() -> None:
    value = {"custom_id": "a\nb\r\x0b\x0c\x1c\x85\u2028\u2029c"}
    line = json_line(value).decode()
    assert len(line.splitlines()) == 1
    assert json.loads(line) == value


def test_a_row_of_a_table_is_one_line() -> None:
    _, row = table([("NAME", "N"), ("a\n\x1b[2Jb", "1")])
    assert row == "a\\n\\x1b[2Jb  1"


def test_json_is_utf_8_and_a_lone_surrogate_an_escape() -> None:
    line = json_line({"answer": "é\ud800"})
    assert line == '{"answer": "é\\ud800"}'.encode()
    assert json.loads(line) == {"answer": "é\ud800"}


def test_money_that_is_not_known_is_not_zero() -> None:
    assert (money(None), money(0.0), money(0.1234567)) == ("unknown", "$0.000000", "$0.123457")


def test_a_table_has_aligned_columns_and_no_trailing_blanks() -> None:
    assert list(table([("JOB", "STATE"), ("a-long-name", "ok")])) == ["JOB          STATE", "a-long-name  ok"]
