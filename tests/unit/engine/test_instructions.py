"""A job's instructions are in its prompt, after what all jobs share."""

from pathlib import Path

import pytest

from rlm_dist.cli.options import _text_or_file
from rlm_dist.client.options import read_options
from rlm_dist.engine.prompts import opening
from rlm_dist.errors import InputError
from tests.support.fake_repl import spec

TEXT = "Answer in {German}. {0} %s"


@pytest.mark.parametrize("family", ["coder", "frugal", "small"])
def test_they_stand_after_the_part_that_all_jobs_share(family: str) -> None:
    plain, told = (opening(spec(prompts=family, instructions=text)) for text in ("", TEXT))
    shared = "".join(message.content for message in plain[:-1])
    all_told = "".join(message.content for message in told)
    assert all_told.startswith(shared.rstrip())
    assert all_told.count(TEXT) == 1
    assert [message.role for message in told] == [message.role for message in plain]
    assert told[-1].content.endswith(plain[-1].content)


def test_a_job_without_them_is_stored_as_before() -> None:
    assert not {"instructions", "compaction"} & spec().model_dump().keys()
    assert spec(instructions="x").model_dump()["instructions"] == "x"


def test_they_are_bounded_and_an_error_does_not_show_them() -> None:
    assert read_options({"instructions": "x" * 20_000}).instructions == "x" * 20_000
    with pytest.raises(InputError) as caught:
        read_options({"instructions": "secret" * 4000})
    assert "instructions" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_command_line_takes_a_text_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "hints.txt").write_text(TEXT)
    assert _text_or_file("words") == "words"
    assert _text_or_file(f"@{tmp_path}/hints.txt") == TEXT
    with pytest.raises(InputError, match="--instructions: /nowhere: No such file"):
        _text_or_file("@/nowhere")
