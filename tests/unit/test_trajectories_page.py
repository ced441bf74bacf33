"""The page on trajectories: its tables are the schema, and its program reads what is exported."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from rlm_dist.cli.output import json_line
from rlm_dist.operations.training_lines import Form, Only
from rlm_dist.schema import Costs, Message, Outcome, Usage
from rlm_dist.schema.trajectories import (
    CallEnd,
    JobTrajectory,
    TrajectoryCall,
    TrajectoryCell,
    TrajectoryTool,
    TrajectoryTurn,
    TurnProblem,
)
from tests.support.environment import PROJECT
from tests.support.fake_repl import spec

PAGE = (PROJECT / "docs" / "trajectories.md").read_text()
TABLES: dict[str, type[BaseModel]] = {
    "line": JobTrajectory,
    "turn": TrajectoryTurn,
    "cell": TrajectoryCell,
    "sub-call": TrajectoryCall,
    "tool's call": TrajectoryTool,
}


def first_cells(head: str) -> list[str]:
    """The names in the first column of the table with this head."""
    table = PAGE.split(f"| {head} |")[1].split("\n\n")[0]
    return [
        name for cell in re.findall(r"^\| (.*?) \|", table, re.M) for name in re.findall("`([^`]+)`", cell)
    ]


@pytest.mark.parametrize("name", TABLES)
def test_each_table_has_each_field_and_no_other(name: str) -> None:
    names = first_cells(f"field of a {name}")
    assert sorted(names) == sorted(TABLES[name].model_fields)


def test_the_words_of_the_tables_are_those_of_the_code() -> None:
    assert set(first_cells("`problem`")) == set(get_args(TurnProblem))
    assert set(first_cells("`--format`")) == set(get_args(Form))
    assert all(f"--only {only}`" in PAGE for only in get_args(Only))
    assert all(f"`{end}`" in PAGE for end in get_args(CallEnd))


def test_the_program_reads_what_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = tuple(
        Message.model_validate({"role": role, "content": f"{role} \u2028"})
        for role in ("system", "user", "assistant", "user", "assistant", "user", "assistant")
    )

    def turn(number: int, **fields: Any) -> TrajectoryTurn:
        said = {"turn": number, "reply": 2 * number + 2, "model": "m", "usage": Usage(), "seconds": 1}
        return TrajectoryTurn.model_validate({**said, "finish_reason": "stop", **fields})

    values = {
        "job_id": "j", "custom_id": "q", "batch_id": "b", "samples": 2, "model": "m", "sub_model": "s",
        "prompts": "coder", "query": "q", "context": spec().context, "messages": chat, "score": 1,
        "turns": (turn(0), turn(1, problem="code_error"), turn(2, sent=chat[:2])),
        "outcome": Outcome(state="succeeded"), "costs": Costs(), "models": (),
    }  # fmt: skip
    made = [
        JobTrajectory.model_validate({**values, "sample": sample, "won": won})
        for sample, won in enumerate([True, False])
    ]
    (tmp_path / "everything.jsonl").write_bytes(b"".join(json_line(one) + b"\n" for one in made))
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    space: dict[str, Any] = {}
    exec(compile(program, "docs/trajectories.md", "exec"), space)  # noqa: S102
    dumped = [message.model_dump() for message in chat]
    assert space["pairs"] == [(dumped[:2], dumped[2]), (dumped[:2], dumped[6])]
