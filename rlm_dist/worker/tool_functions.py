"""Functions that a worker offers to model-written code as tools: loaded by import path, called with JSON.

They run in the worker's process with all its rights: the operator vouches for each by putting it on the list.
"""

import asyncio
import builtins
import importlib
import inspect
import keyword
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from rlm_dist.errors import SettingsError
from rlm_dist.schema import REPL_NAMES

_RESERVED = {*REPL_NAMES, "ToolError", "context_paths", *dir(builtins), *keyword.kwlist}
_NUMBERED = re.compile(r"context_\d+")
_MAX_SHOWN = 200
_MOST_PROBLEMS = 5
_ANY: TypeAdapter[Any] = TypeAdapter(Any)


class HostTool(Protocol):
    """One tool; ``spec`` describes it as ``sandbox.inside.tools`` takes it."""

    @property
    def spec(self) -> dict[str, Any]: ...

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any], /) -> inspect.BoundArguments:
        """Check the arguments; raises TypeError or ValueError for the code that made the call."""

    def call(self, bound: inspect.BoundArguments, timeout_s: float, /) -> object:
        """Make the call; whatever it raises is shown to the code that made it."""


class FunctionTool:
    """A function of Python, also an async one."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._function = function
        self._signature = inspect.signature(function, eval_str=True)
        self._adapters = {
            parameter.name: _adapter(parameter.annotation)
            for parameter in self._signature.parameters.values()
        }
        returns = self._signature.return_annotation
        self.spec: dict[str, Any] = {
            "name": name,
            "doc": inspect.getdoc(function) or "",
            "parameters": [_shown(parameter) for parameter in self._signature.parameters.values()],
            "returns": None if returns is inspect.Signature.empty else _annotation(returns),
        }

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any], /) -> inspect.BoundArguments:
        """The arguments by the function's signature, converted to the types that it names."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.spec['name']}() {error}") from None
        for name, value in bound.arguments.items():
            check = self._adapters[name].validate_python
            kind = self._signature.parameters[name].kind
            try:
                if kind is inspect.Parameter.VAR_POSITIONAL:
                    bound.arguments[name] = tuple(check(item) for item in value)
                elif kind is inspect.Parameter.VAR_KEYWORD:
                    bound.arguments[name] = {key: check(item) for key, item in value.items()}
                else:
                    bound.arguments[name] = check(value)
            except ValidationError as error:
                raise ValueError(f"{self.spec['name']}() {_problems(name, error)}") from None
        return bound

    def call(self, bound: inspect.BoundArguments, timeout_s: float, /) -> object:
        """Call it; an async function runs in an event loop of its own, and is cancelled at the time limit."""
        value = self._function(*bound.args, **bound.kwargs)
        if not inspect.isawaitable(value):
            return value

        async def finish() -> object:
            return await asyncio.wait_for(value, timeout_s)

        return asyncio.run(finish())


def load_functions(paths: Iterable[str]) -> dict[str, HostTool]:
    """Import the functions of ``RLM_TOOLS``, ``[name=]package.module:function`` each, by their names.

    Raises:
        SettingsError: naming each that cannot be offered.
    """
    tools: dict[str, HostTool] = {}
    problems: list[str] = []
    for path in paths:
        name, _, target = path.rpartition("=")
        name = name or target.rpartition(":")[2].rpartition(".")[2]
        problem = "two tools have this name" if name in tools else name_problem(name)
        if problem is None:
            try:
                tools[name] = FunctionTool(name, _import(target))
            except Exception as error:  # noqa: BLE001  # the module is the user's: it may raise anything
                problem = f"cannot be offered: {type(error).__name__}: {error}"
        if problem is not None:
            problems.append(f"RLM_TOOLS: {path}: {problem}")
    if problems:
        raise SettingsError(tuple(problems))
    return tools


def name_problem(name: str) -> str | None:
    """Why a tool cannot have this name in the REPL; None if it can."""
    if not name.isidentifier() or name.startswith("_"):
        return f"{name} is not a name for a tool"
    if name in _RESERVED or _NUMBERED.fullmatch(name):
        return f"{name} is a name of the REPL or of Python; rename it: other_name=package.module:function"
    return None


def _import(target: str) -> Callable[..., Any]:
    module, _, path = target.partition(":")
    function = reduce(getattr, path.split("."), importlib.import_module(module))
    if not callable(function):
        raise TypeError("it is not a function")
    return function


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return _ANY if annotation is inspect.Parameter.empty else TypeAdapter(annotation)


def _shown(parameter: inspect.Parameter) -> list[Any]:
    empty = inspect.Parameter.empty
    annotation = None if parameter.annotation is empty else _annotation(parameter.annotation)
    default = None if parameter.default is empty else repr(parameter.default)[:_MAX_SHOWN]
    return [parameter.name, int(parameter.kind), annotation, default]


def _annotation(annotation: Any) -> str:
    return inspect.formatannotation(annotation)[:_MAX_SHOWN]


def _problems(name: str, error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_PROBLEMS]
    return "; ".join(".".join([name, *map(str, item["loc"])]) + f": {item['msg']}" for item in found)
