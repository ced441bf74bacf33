"""The tools of a job in the REPL: each is a function that sends a frame and awaits the host's reply.

Safe for many threads at once. The host checks the arguments; only their size and that they are JSON is
checked here.
"""

import inspect
import itertools
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

from .frames import MAX_TOOL_BYTES, encoded

_ERRORS = {"TypeError": TypeError, "ValueError": ValueError}


class ToolError(RuntimeError):
    """A tool failed; the text says how."""


ToolError.__module__ = "__main__"  # so that it is shown by its bare name


class _TextOnly:
    """Stands for an annotation or a default value, of which there is only the text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class _AwaitedResult:
    def __init__(self) -> None:
        self.done = threading.Event()
        self.message: dict[str, Any] = {}


class ToolFunctions:
    """The functions for tools that the REPL offers.

    Each spec is ``{"name", "doc", "parameters": [[name, kind, annotation, default], ...], "returns"}``, with
    the kinds of ``inspect.Parameter`` as numbers, and texts or null for the rest.
    """

    def __init__(self, send: Callable[[dict[str, object]], None], specs: Sequence[dict[str, Any]]) -> None:
        self._send = send
        self._ids = itertools.count(1)
        self._open: dict[int, _AwaitedResult] = {}
        self.names: dict[str, Any] = {spec["name"]: self._function(spec) for spec in specs}
        if specs:
            self.names["ToolError"] = ToolError

    def reply(self, message: dict[str, Any]) -> None:
        """Pass a reply frame to the thread that waits for it."""
        reply = self._open.get(message["id"])
        if reply is not None:
            reply.message = message
            reply.done.set()

    def _function(self, spec: dict[str, Any]) -> Callable[..., Any]:
        name = spec["name"]

        def tool(*args: Any, **kwargs: Any) -> Any:
            return self._call(name, args, kwargs)

        tool.__name__ = tool.__qualname__ = name
        tool.__module__ = "__main__"
        tool.__doc__ = spec["doc"]
        tool.__signature__ = signature_of(spec)  # type: ignore[attr-defined]  # inspect and help read it
        return tool

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call_id, reply = next(self._ids), _AwaitedResult()
        arguments = _arguments(name, args, kwargs)
        self._open[call_id] = reply
        try:
            self._send({"op": "tool", "id": call_id, "name": name, "arguments": arguments})
            reply.done.wait()
        finally:
            self._open.pop(call_id, None)
        failure = reply.message.get("failure")
        if failure is not None:
            raise _ERRORS.get(failure["type"], ToolError)(failure["message"])
        return json.loads(reply.message["result"])


def signature_of(spec: dict[str, Any]) -> inspect.Signature:
    """The signature that a spec describes; annotations and defaults only show their texts."""
    parameters = [
        inspect.Parameter(
            name,
            inspect._ParameterKind(kind),
            annotation=inspect.Parameter.empty if annotation is None else _TextOnly(annotation),
            default=inspect.Parameter.empty if default is None else _TextOnly(default),
        )
        for name, kind, annotation, default in spec["parameters"]
    ]
    returns = inspect.Signature.empty if spec["returns"] is None else _TextOnly(spec["returns"])
    return inspect.Signature(parameters, return_annotation=returns)


def _arguments(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    try:
        data = encoded({"args": args, "kwargs": kwargs})
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the arguments of {name} must be JSON values: {error}") from None
    if len(data) > MAX_TOOL_BYTES:
        raise ValueError(
            f"the arguments of {name} have {len(data):,} bytes, and at most {MAX_TOOL_BYTES:,} can be sent"
        )
    return data.decode()
