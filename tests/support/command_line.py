"""The command line for tests: run in this process with captured output, or as a separate process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rlm_dist.cli import main
from tests.support.environment import clean_environment

_GONE_S = 30


class Done(NamedTuple):
    """What a command returned and printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its standard output, parsed as one JSON document."""
        return json.loads(self.out)


class Cli:
    """Runs commands in this process."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def __call__(self, *arguments: str | Path) -> Done:
        self._captured.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = self._captured.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Done(code, out, err)


@contextmanager
def command(*arguments: str | Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command as a process in a separate group, with pipes; it is terminated when the context ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rlm_dist", *map(str, arguments)],
        env={**clean_environment(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=_GONE_S)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def next_line(process: subprocess.Popen[str]) -> str:
    """The next line of its standard output; fails with its errors if it has ended instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        assert process.stderr is not None
        pytest.fail(f"it ended: {process.stderr.read()}")
    return line
