"""A user's own check of answers runs only if the worker allows it, and its errors have none of the answer."""

import threading
from typing import Any

import pytest

from rlm_dist.errors import AnswerCheckFailed, Cancelled
from rlm_dist.root_worker.validators import ValidatorRun, load_validator

HERE = f"{__name__}:refuse_odd"


def refuse_odd(answer: Any, query: str, metadata: Any) -> object:
    return "is odd" if answer % 2 else None


def run(function: Any, answer: Any = 1, timeout_s: float = 60) -> str | None:
    return ValidatorRun("a:b", function, timeout_s=timeout_s).reason(answer, "q", {"k": 1})


def test_a_listed_function_is_loaded() -> None:
    assert load_validator(HERE, ("x:y", HERE)) is refuse_odd


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("os:system", "not on this worker's list"),
        ("no_such_module:f", "cannot be imported: ModuleNotFoundError"),
        (f"{__name__}:nothing", "cannot be imported: AttributeError"),
        (f"{__name__}:HERE", "not a function"),
    ],
)
def test_what_cannot_be_used_is_an_error_that_names_it(path: str, words: str) -> None:
    with pytest.raises(AnswerCheckFailed, match=words):
        load_validator(path, () if path == "os:system" else (path,))


def test_a_reason_refuses_and_none_or_true_accepts() -> None:
    assert run(refuse_odd, 3) == "is odd"
    assert run(refuse_odd, 2) is None
    assert run(lambda *_: True) is None
    assert run(lambda answer, query, metadata: f"{answer} {query} {metadata}") == "1 q {'k': 1}"


@pytest.mark.parametrize("result", [False, "", 0, ["a"]])
def test_any_other_result_is_an_error(result: object) -> None:
    with pytest.raises(AnswerCheckFailed, match=f"returned a {type(result).__name__}"):
        run(lambda *_: result)


@pytest.mark.parametrize("error", [ValueError("the secret"), SystemExit("the secret")])
def test_what_it_raises_fails_the_job_without_its_words(error: BaseException) -> None:
    def function(*_: object) -> None:
        raise error

    with pytest.raises(AnswerCheckFailed) as caught:
        run(function)
    assert str(caught.value) == f"validator a:b: raised {type(error).__name__}"
    assert caught.value.__cause__ is None


def test_one_that_does_not_return_is_given_up() -> None:
    release = threading.Event()
    try:
        with pytest.raises(AnswerCheckFailed, match=r"longer than 0\.01 s"):
            run(lambda *_: release.wait(), timeout_s=0.01)
    finally:
        release.set()


def test_a_call_under_way_can_be_aborted() -> None:
    release, started = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        started.set()
        release.wait()

    validator = ValidatorRun("a:b", wait, timeout_s=60)

    def abort() -> None:
        started.wait()
        validator.abort(Cancelled("j"))

    aborting = threading.Thread(target=abort)
    aborting.start()
    try:
        with pytest.raises(Cancelled):
            validator.reason(1, "q", {})
    finally:
        release.set()
        aborting.join()
