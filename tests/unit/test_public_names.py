"""What ``from rlm_dist import …`` offers, pinned."""

import subprocess
import sys

import pytest

import rlm_dist

NAMES = [
    "RLM",
    "RLM_REPL",
    "Batch",
    "BatchState",
    "Client",
    "Costs",
    "Job",
    "JobState",
    "RLMError",
    "Result",
    "Settings",
]


def test_the_public_names_are_these() -> None:
    assert rlm_dist.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_public_name_is_there(name: str) -> None:
    assert getattr(rlm_dist, name).__name__ == name


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
