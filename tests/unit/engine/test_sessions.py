"""What a session adds to the journal and to the chat."""

import json

import pytest

from rlm_dist.engine import prompts
from rlm_dist.engine.journal import Journal
from rlm_dist.engine.prompts.sessions import SHOWN_CHARS, EarlierQuery, earlier_queries
from rlm_dist.schema import (
    AddedContext,
    CellResult,
    Clipped,
    ContextInfo,
    ContextRef,
    JobSpec,
    JobState,
    SessionPlace,
)
from tests.support.fake_repl import spec


def journal(written: list[str], *, keeps_code: bool = True) -> Journal:
    return Journal(list(written), written.append, keeps_code=keeps_code)


def ran(text: str, *, state_lost: bool = False) -> CellResult:
    return CellResult(output=Clipped(text), state_lost=state_lost)


def test_the_cells_of_a_session_are_kept_with_their_code() -> None:
    written: list[str] = []
    steps = journal(written)
    steps.cell(0, 0, "a = 1", lambda began_ns: ran("one"))
    steps.cell(0, 1, "lose()", lambda began_ns: ran("", state_lost=True))
    steps.cell(1, 0, "b = 2", lambda began_ns: ran("two"))
    cells = journal(written).cells()
    assert [(cell.turn, cell.block, cell.code) for cell in cells] == [(0, 0, "a = 1"), (1, 0, "b = 2")]
    assert cells[0].same(ran("one"), with_output=True)
    assert not cells[0].same(ran("other"), with_output=True)
    assert cells[0].same(ran("other"), with_output=False)


def test_a_job_of_no_session_keeps_no_code() -> None:
    written: list[str] = []
    journal(written, keeps_code=False).cell(0, 0, "a = 1", lambda began_ns: ran("one"))
    assert "source" not in json.loads(written[0])
    with pytest.raises(ValueError, match="turn 0, block 1: its code is missing"):
        journal(written).cells()


def test_what_the_chat_is_told_is_the_same_in_every_run() -> None:
    written: list[str] = []
    assert journal(written).session(lambda: "first") == "first"
    assert journal(written).session(lambda: "second") == "first"


def test_long_queries_and_answers_are_cut_and_old_ones_left_out() -> None:
    queries = [EarlierQuery(f"Query text {n}?", JobState.SUCCEEDED, "x" * 5000) for n in range(12)]
    text = earlier_queries([*queries, EarlierQuery("Last?", JobState.FAILED, None)], ["a: int"])
    assert "The first 3 of them are not shown here." in text
    assert "Query text 2?" not in text
    assert "Query 4:\nQuery text 3?" in text
    assert f"[… {5000 - SHOWN_CHARS:,} characters left out …]" in text
    assert "(it ended without an answer: failed; what its blocks did is still there)" in text
    assert text.endswith("Variables that they left:\na: int")
    assert earlier_queries([], []) == ""


def test_the_opening_keeps_the_system_prompt_and_ends_with_the_query() -> None:
    added = ContextRef(sha256="1" * 64, size_bytes=1, info=ContextInfo(kind="str", chars=5, items=1))
    place = SessionPlace(id="s", position=1, added=(AddedContext(name="{a}.txt", context=added),))
    job = spec("What {now}?", session=place)
    system, first = prompts.opening(job, session="EARLIER")
    assert system == prompts.opening(spec())[0]
    assert first.content == (
        "`context` is a str of 9 characters.\n\n"
        "`context_1` was added as '{a}.txt'. `context_1` is a str of 5 characters.\n\n"
        "EARLIER\n\nQuestion:\nWhat {now}?\n\n" + prompts.SESSION_GO
    )


def test_a_spec_without_a_session_is_stored_as_before() -> None:
    assert "session" not in spec().model_dump()
    again = spec(session=SessionPlace(id="s", position=0)).model_dump()
    assert again["session"] == {"id": "s", "position": 0}
    assert JobSpec.model_validate(again).session == SessionPlace(id="s", position=0)
