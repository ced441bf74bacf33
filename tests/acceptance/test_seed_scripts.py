"""Scripts written for the seed run as they are, but for the line that the document says to change."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rlm_dist.schema import Message
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.environment import PROJECT, clean_environment

pytestmark = pytest.mark.acceptance

SEEDS_IMPORT = "from rlm.rlm_repl import RLM_REPL"

NEEDLE = f"""
import random

{SEEDS_IMPORT}


def haystack(lines, needle):
    words = ["blah", "random", "text", "data", "content", "information", "sample"]
    hay = [" ".join(random.choices(words, k=random.randint(3, 8))) for _ in range(lines)]
    hay[random.randint(lines * 2 // 5, lines * 3 // 5)] = f"The magic number is {{needle}}"
    return "\\n".join(hay)


def main():
    needle = str(random.randint(1_000_000, 9_999_999))
    context = haystack(10_000, needle)
    rlm = RLM_REPL(model="gpt-5", recursive_model="gpt-5-nano", enable_logging=True, max_iterations=10)
    result = rlm.completion(context=context, query="I'm looking for a magic number. What is it?")
    print(f"Result: {{result}}. Expected: {{needle}}")


if __name__ == "__main__":
    main()
"""

CHECKS = f"""
{SEEDS_IMPORT}

total = 0.0
rlm = RLM_REPL(model="local.gguf", recursive_model="local.gguf", max_iterations=10, max_output_length=500000)
result = rlm.completion(context="hay\\nThe magic number is 7284615\\nhay", query="What is the magic number?")
assert result == "7284615", result
assert rlm.repl_env is not None, "the REPL environment should be there"
assert "context" in rlm.repl_env.locals, "the context should be in the REPL"
assert "llm_query" in rlm.repl_env.globals
assert "FINAL_VAR" in rlm.repl_env.globals
assert len(rlm.messages) > 2, "there should be several turns"
assert "7284615" not in rlm.messages[1]["content"]
costs = rlm.cost_summary()
total += costs["total_cost"]
print(f"Total cost: ${{costs['total_cost']:.4f}}", costs.get("sub_llm_calls", 0), costs["unpriced"])

chat = [{{"role": "user", "content": "hay"}}, {{"role": "assistant", "content": "The magic number is 11"}}]
print(rlm.completion(chat, "What is the magic number?"), rlm.repl_env.locals["context"])
rlm.reset()
print(rlm.messages, rlm.cost_summary()["root_llm_calls"])

rlm = RLM_REPL(max_iterations=1)
print(rlm.completion("The magic number is 5", "What is the magic number?"), rlm.model, rlm.max_iterations)
"""

TURNS = (
    "```repl\nprint(type(context), len(context))\n```",
    """```repl
text = context if isinstance(context, str) else "\\n".join(context)
line = next(line for line in text.splitlines() if "magic number" in line)
magic = line.rpartition(" ")[2]
print(llm_query(f"Is this a number? {magic}"))
```""",
    "FINAL_VAR(magic)",
)


def root_model(messages: Sequence[Message]) -> str:
    """Look at the context, search it, and hand in a variable."""
    return TURNS[sum(message.role == "assistant" for message in messages)]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the seed's users set: an endpoint and its key."""
    models = ("local.gguf", "gpt-5", "gpt-5-nano")
    with SimulatedEndpoint(root=root_model, models=models, key="sk-seed") as endpoint:
        yield {
            **clean_environment(),
            "RLM_API_URL": endpoint.url,
            "OPENAI_API_KEY": "sk-seed",
            "RLM_HOME": str(tmp_path / "home"),
        }


def run(script: str, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script of the seed's, with the import line of the document."""
    document = (PROJECT / "docs" / "seed.md").read_text()
    (import_line,) = re.findall(r"^\+(from .*)$", document, re.M)
    assert f"-{SEEDS_IMPORT}\n" in document
    (folder / "main.py").write_text(script.replace(SEEDS_IMPORT, import_line))
    return subprocess.run(
        [sys.executable, "main.py"],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip


def test_the_seeds_main_script_finds_the_needle(environment: dict[str, str], tmp_path: Path) -> None:
    done = run(NEEDLE, environment, tmp_path)
    assert done.returncode == 0, done.stderr
    result, expected = re.fullmatch(r"Result: (\d+)\. Expected: (\d+)\n", done.stdout).groups()  # type: ignore[union-attr]  # fails as it should
    assert result == expected
    assert "turn 1: the root model replied" in done.stderr
    assert expected not in done.stderr
    assert not os.path.exists(tmp_path / "home" / "redis" / "server.json")


def test_the_checks_of_the_seed_hold(environment: dict[str, str], tmp_path: Path) -> None:
    done = run(CHECKS, environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Total cost: $0.0000 1 True",
        "11 ['hay', 'The magic number is 11']",
        "[] 0",
        "None auto 1",
    ]
    assert done.stderr == ""
