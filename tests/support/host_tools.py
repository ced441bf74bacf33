"""Functions that tests offer as tools, and the tools of a job without a store behind them."""

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlm_dist.sandbox.messages import read_arguments
from rlm_dist.sandbox.tools import ToolReply
from rlm_dist.worker.tool_functions import FunctionTool, HostTool

FOLDER = "TOOL_TEST_FOLDER"
hold = threading.Event()


def lookup(key: str, limit: int = 3) -> list[str]:
    """Look a key up in the catalogue.

    This second paragraph is not shown.
    """
    return [f"{key}{n}" for n in range(limit)]


async def slowly(text: str) -> str:
    """An async tool."""
    return text.upper()


def fails(message: str) -> None:
    """Raise an error."""
    raise KeyError(message)


def waits() -> str:
    """Wait until the test lets go."""
    hold.wait(60)
    return "late"


def odd() -> object:
    """Return what is no JSON."""
    return {1, 2}


def huge(size: int) -> str:
    """Return a long text."""
    return "x" * size


def count(name: str) -> int:
    """Count a call in a file, and say how many there were."""
    path = Path(os.environ[FOLDER], name)
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(path.read_text().splitlines())


TOOLS: dict[str, HostTool] = {
    function.__name__: FunctionTool(function.__name__, function)
    for function in (lookup, slowly, fails, waits, odd, huge, count)
}


class PlainTools:
    """Tools without a journal, for tests of the sandbox alone; ``calls`` has what was called."""

    def __init__(self, tools: Mapping[str, HostTool] = TOOLS) -> None:
        self._tools = tools
        self.specs: list[dict[str, Any]] = [tool.spec for tool in tools.values()]
        self.calls: list[str] = []

    def call(self, name: str, arguments: str) -> ToolReply:
        """Call a tool at once."""
        self.calls.append(name)
        if name not in self._tools:
            return ToolReply(None, message=f"no tool {name}")
        try:
            args, kwargs = read_arguments(arguments)
            bound = self._tools[name].bind(args, kwargs)
        except (TypeError, ValueError) as error:
            return ToolReply(None, type(error).__name__, str(error))
        try:
            return ToolReply(json.dumps(self._tools[name].call(bound, 60)))
        except Exception as error:  # noqa: BLE001
            return ToolReply(None, message=f"{type(error).__name__}: {error}")


class SlowTools(PlainTools):
    """Each call sets ``running`` and waits until ``go`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.running, self.go = threading.Event(), threading.Event()

    def call(self, name: str, arguments: str) -> ToolReply:
        """Wait, then return 1."""
        self.running.set()
        self.go.wait(60)
        return ToolReply("1")
