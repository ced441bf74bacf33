"""Single native lines of a batch, and lines of OpenAI's output format; its input: ``test_openai_line.py``."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from rlm_dist.client.batch_item import read_item
from rlm_dist.client.openai_batch import openai_line
from rlm_dist.client.options import JobOptions, read_options
from rlm_dist.contexts.named_files import ContextFile, FileRules
from rlm_dist.errors import InputError
from rlm_dist.schema import Costs, ErrorInfo, JobLimits, JobState, Result, Timing

BASE = Path("/base")


def native(**fields: object) -> dict[str, Any]:
    return {"id": "q1", "query": "How many?", "context": "text"} | fields


def problems_of(line: object) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        read_item(line, BASE)
    return caught.value.problems


@pytest.mark.parametrize("context", ["text", ["a", "b"], {"a": "b"}, [{"any": 1}], 0, False])
def test_a_native_line_carries_any_json_context(context: object) -> None:
    item = read_item(native(context=context), BASE)
    assert (item.custom_id, item.query, item.value, item.form) == ("q1", "How many?", context, "native")


@pytest.mark.parametrize(("given", "name"), [(7, "7"), (-1, "-1"), (2**70, str(2**70)), ("7", "7")])
def test_a_whole_number_is_taken_as_a_name(given: object, name: str) -> None:
    assert read_item(native(id=given), BASE).custom_id == name
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
    assert read_item({"custom_id": given, "body": body}, BASE).custom_id == name


def test_a_native_line_carries_models_limits_and_metadata() -> None:
    given = {"max_iterations": 3, "max_usd": 0.1, "max_sub_calls": 0, "max_seconds": 2, "max_depth": 0}
    item = read_item(native(model="m", sub_model="s", metadata={"a": [1]}, max_tokens=5, **given), BASE)
    assert (item.options.model, item.options.sub_model, item.metadata) == ("m", "s", {"a": [1]})
    assert item.options.limits() == JobLimits(
        max_iterations=3, max_nanousd=100_000_000, max_tokens=5, max_sub_calls=0, max_seconds=2, max_depth=0
    )


@pytest.mark.parametrize(
    ("name", "path"),
    [("a.txt", "/base/a.txt"), ("../a", "/base/../a"), ("/abs", "/abs"), ("s3://b/k", "s3://b/k")],
)
def test_a_context_file_is_relative_to_the_batch_file(name: str, path: str) -> None:
    line = native(context_file=name)
    del line["context"]
    file = read_item(line, BASE).context_file
    assert file == ContextFile(path, FileRules((BASE,)))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ([], "is not a JSON object"),
        ({"query": "q", "context": "c"}, "id: is missing"),
        ({"id": "a", "context": "c"}, "query: is missing"),
        ({"id": "a", "query": "q"}, "the line: context or context_file is missing"),
        ({"id": "a", "query": "q", "context": None}, "the line: context or context_file is missing"),
        (native(context_file="f"), "the line: context and context_file cannot both be given"),
        (native(id=7.0), "id: must be text or a whole number"),
        (native(id=True), "id: must be text or a whole number"),
        (native(id=None), "id: must be text or a whole number"),
        (native(id=""), "id: string should have at least 1 character"),
        (native(query=" \n"), "query: is empty"),
        (native(max_itertions=3), "max_itertions: is not known; did you mean max_iterations?"),
        (native(max_iterations=0), "max_iterations: input should be greater than or equal to 1"),
        (native(max_iterations=True), "max_iterations: input should be a valid integer"),
        (
            native(max_iterations=10**30),
            "max_iterations: input should be less than or equal to 9007199254740992",
        ),
        (native(max_usd=-1), "max_usd: input should be greater than or equal to 0"),
        (native(max_usd=1e300), "max_usd: input should be less than or equal to 1000000000"),
        (native(max_usd="much"), "max_usd: input should be a valid decimal"),
        (native(max_seconds=float("inf")), "max_seconds: input should be a finite number"),
        (native(metadata=[]), "metadata: input should be a valid dictionary"),
        (native(model=""), "model: string should have at least 1 character"),
    ],
)
def test_a_bad_native_line_names_its_field(line: object, problem: str) -> None:
    assert problems_of(line) == (problem,)


def test_all_bad_fields_of_a_line_are_listed() -> None:
    assert len(problems_of({"id": 1.5, "query": 2, "colour": "red", "context": "c"})) == 3


def test_no_problem_shows_a_text() -> None:
    """The report of a bad line must not carry its context or query into logs."""
    assert "secret" not in str(problems_of(native(id=1.5, query=["secret"], metadata="secret")))


def test_options_that_are_not_given_come_from_the_defaults() -> None:
    line = read_options({"max_usd": "0.5", "model": "m"})
    merged = line.over(JobOptions(model="other", max_depth=0))
    assert merged == JobOptions(model="m", max_usd=Decimal("0.5"), max_depth=0)


def test_a_budget_is_never_rounded_up() -> None:
    assert read_options({"max_usd": 0.0000000019}).limits().max_nanousd == 1


def test_unknown_options_are_all_listed() -> None:
    with pytest.raises(InputError) as caught:
        read_options({"max_money": 1, "max_usd": 1, "colour": "red"})
    assert caught.value.problems == ("max_money: is not known", "colour: is not known")


def result(state: JobState, **fields: object) -> Result:
    known: dict[str, Any] = {
        "answer": None,
        "answer_json": None,
        "partial_answer": None,
        "error": None,
        "iterations": 2,
        "isolation": "landlock",
        "costs": Costs(root_input_tokens=10, root_cached_tokens=4, sub_input_tokens=100, sub_output_tokens=7),
        "timing": Timing(),
    }
    return Result(id="j1", custom_id="r1", batch_id="b", state=state, **(known | fields))


def test_an_answer_goes_out_as_a_chat_completion() -> None:
    line = openai_line(result(JobState.SUCCEEDED, answer="42"), "gpt", created_s=5)
    assert (line["custom_id"], line["error"]) == ("r1", None)
    response = line["response"]
    assert isinstance(response, dict)
    assert response["status_code"] == 200
    completion = ChatCompletion.model_validate(response["body"], strict=True)
    assert completion.choices[0].message.content == "42"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (110, 7)
    assert completion.usage.total_tokens == 117


def test_a_job_without_an_answer_goes_out_as_an_error() -> None:
    failed = result(JobState.FAILED, error=ErrorInfo(type="auth", message="bad key"))
    line = openai_line(failed, "gpt", created_s=5)
    assert (line["response"], line["error"]) == (None, {"code": "failed", "message": "bad key"})
    line = openai_line(result(JobState.EXHAUSTED), "gpt", created_s=5)
    assert line["error"] == {"code": "exhausted", "message": "the job ended as exhausted"}


def test_a_job_may_name_as_many_models_as_a_ledger_tells_apart() -> None:
    line = {"id": "a", "query": "q", "context": "c", "sub_models": [f"m{n}" for n in range(30)]}
    assert len(read_item(line, Path()).options.sub_models or ()) == 30
    with pytest.raises(InputError, match="sub_models: "):
        read_item({**line, "sub_models": [f"m{n}" for n in range(31)]}, Path())
