"""The engine's list of the REPL's names equals what a live REPL offers."""

from pathlib import Path

from rlm_dist.sandbox.host import Sandbox
from rlm_dist.schema import REPL_NAMES
from tests.support.sandboxes import LIMITS, echo, forks, write_context


def test_a_live_repl_has_the_names_that_the_engine_knows(tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "str", ["text"])
    with Sandbox(context_path=context, query=echo, limits=LIMITS, start=forks()) as repl:
        repl.run("1")
        shown = repl.run("print(sorted(name for name in globals() if not name.startswith('__')))")
    offered = set(eval(shown.output.head))  # noqa: S307  # printed by our own line
    assert offered >= REPL_NAMES
    assert {name for name in offered if not name.startswith("context_")} - REPL_NAMES <= {"context_names"}
