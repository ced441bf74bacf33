"""What ``from rlm_dist import …`` offers, pinned."""

import pydoc
import subprocess
import sys

import pytest

import rlm_dist
from rlm_dist import errors

NAMES = [
    "RLM",
    "RLM_REPL",
    "AsyncBatch",
    "AsyncClient",
    "AsyncJob",
    "AsyncSession",
    "Batch",
    "BatchRecord",
    "BatchState",
    "BlobError",
    "CallError",
    "Cancelled",
    "Client",
    "ClientClosed",
    "Costs",
    "InputError",
    "Job",
    "JobFailed",
    "JobRecord",
    "JobState",
    "LimitExceeded",
    "NotFound",
    "RLMError",
    "Result",
    "Session",
    "Settings",
    "SettingsError",
    "UnknownPrice",
    "Unreachable",
]

INTERNAL = {
    "AnswerCheckFailed", "ModelNotAllowed", "NoAnswer", "Parked", "ReplLost", "ReplayDiverged",
    "SandboxError", "Superseded", "ToolNotAllowed",
}  # fmt: skip  # they never reach a caller of the API


def test_the_public_names_are_these() -> None:
    assert rlm_dist.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_public_name_is_there(name: str) -> None:
    assert getattr(rlm_dist, name).__name__ == name


def test_every_name_is_listed() -> None:
    assert set(NAMES) <= set(dir(rlm_dist))


def test_every_error_that_a_caller_can_meet_is_exported() -> None:
    all_errors = {
        name for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.RLMError)
    }  # fmt: skip
    assert all_errors - INTERNAL <= set(rlm_dist.__all__)


def test_help_shows_the_api() -> None:
    text = pydoc.plain(pydoc.render_doc(rlm_dist))
    for name in rlm_dist.__all__:
        assert f"class {name}(" in text or f"{name} = class" in text, name


def test_another_name_is_not_there() -> None:
    with pytest.raises(AttributeError, match="rlm_dist"):
        _ = rlm_dist.runtime_of_another_kind


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("rlm_dist", ["celery", "redis", "pydantic", "openai"]),
        (
            "rlm_dist.client.client",
            [
                *("openai", "celery.app", "kombu.messaging"),
                *("rlm_dist.worker.process", "rlm_dist.sandbox", "rlm_dist.llm", "rlm_dist.engine.loop"),
            ],
        ),
    ],
)
def test_an_import_loads_no_more_than_it_needs(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
