"""A lost REPL says by what it was lost."""

import os
import signal
from pathlib import Path

import pytest

from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from tests.support.sandboxes import echo, forks, process_of, write_context

DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
# The frames go over the one socket that the process has.
BABBLE = """\
import os
for fd in range(3, 64):
    try:
        os.write(fd, b"\\xff" * 64)
    except OSError:
        pass
while True: pass
"""


@pytest.fixture
def repl(tmp_path: Path) -> Sandbox:
    context = write_context(tmp_path / "context", "str", ["hello"])
    limits = SandboxLimits(code_timeout_s=0.5)
    return Sandbox(context_path=context, query=echo, limits=limits, start=forks())


@pytest.mark.parametrize(
    ("code", "lost_by"),
    [("1 + 1", None), (DEAF, "time"), (BABBLE, "protocol"), ("import os\nos._exit(3)", "ended")],
)
def test_code_ends_its_repl(repl: Sandbox, code: str, lost_by: str | None) -> None:
    with repl:
        result = repl.run(code)
        assert (result.state_lost, result.lost_by) == (lost_by is not None, lost_by)


def test_the_kernel_kills_it(repl: Sandbox) -> None:
    with repl:
        os.kill(process_of(repl), signal.SIGKILL)
        assert repl.run("1").lost_by == "memory"
