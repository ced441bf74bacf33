"""How an answer is handed in: ``FINAL``, ``FINAL_VAR`` and the dict ``answer``.

The first answer of a block counts. None is not an answer.
"""

import ast
import json
import types
from collections.abc import Container, Mapping
from typing import Any

from .frames import MAX_JSON_CHARS, MAX_NAMES, MAX_PARTIAL_BYTES, MAX_TEXT_BYTES, clean, encoded

_MAX_UTF8 = 4  # bytes of a character
_MARK_BYTES = 100
_NO_DATA = (
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, types.CoroutineType),
    *(types.MethodDescriptorType, type),
)

Final = dict[str, str | None]
DELETED = object()  # in place of a value of ``answer``


class AnswerGiven(BaseException):
    """Ends the block once an answer is handed in; no ``except Exception`` catches it."""


class NotAVariable(LookupError):
    """A name or path does not lead to a value; the text says at which step it fails."""


class _Untouched(str):
    """The content of ``answer`` as long as nothing was stored there; behaves like an empty str."""


def fresh() -> dict[str, Any]:
    """The initial value of ``answer``."""
    return {"content": _Untouched(), "ready": False}


def final(value: object, by: str) -> Final:
    """An answer as it is sent to the host: its text, and JSON if it is not a str.

    Raises:
        ValueError: the value is None, no data (a function, a generator), or too large.
    """
    if value is None or isinstance(value, _Untouched):
        raise ValueError(f"{by}: None is not an answer; hand in a value")
    if isinstance(value, _NO_DATA) or hasattr(type(value), "__next__"):
        kind = type(value).__name__
        raise ValueError(f"{by}: this is a {kind} and not a value; call it, or hand in list(...) of it")
    text = str(value)
    size = len(encoded(text))
    if size > MAX_TEXT_BYTES:
        raise ValueError(f"{by}: the answer has {size:,} bytes, and at most {MAX_TEXT_BYTES:,} are taken")
    return {"text": text, "json": None if isinstance(value, str) else _json(value), "by": by}


def _json(value: object) -> str | None:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return text if len(text) <= MAX_JSON_CHARS else None


class AnswerBox:
    """The dict ``answer``: read after each block, and restored for the next one.

    A variable ``answer`` of the model's own is ``rebound`` and left alone, as long as it exists.
    """

    def __init__(self) -> None:
        self.current = fresh()
        self.rebound = False

    def look(self, value: object) -> tuple[Final | None, str | None]:
        """Read ``answer`` as the block left it; return the final answer and the partial text, each or None.

        A dict with "content" or "ready" replaces the REPL's own. The text of any other value that the model
        bound to the name is the partial text. After DELETED the dict is back.

        Raises:
            ValueError: "ready" is set but the content cannot be an answer; "ready" is then reset.
        """
        if value is not self.current and value is not DELETED:
            self.rebound = not (isinstance(value, dict) and ("content" in value or "ready" in value))
            if isinstance(value, dict) and not self.rebound:
                self.current = fresh() | value
        else:
            self.rebound = False
        for name, default in fresh().items():
            self.current.setdefault(name, default)
        if self.rebound and value is not None:
            return None, _partial(value)
        content, ready = self.current["content"], self.current["ready"]
        empty = content is None or isinstance(content, _Untouched)
        if not ready:
            return None, None if empty else _partial(content)
        self.current["ready"] = False
        if empty:
            raise ValueError('answer["ready"] is set, but answer["content"] holds nothing: set it first')
        return final(content, "answer"), _partial(content)


def _partial(content: object) -> str | None:
    text = clean(str(content))
    if len(text) <= MAX_PARTIAL_BYTES // _MAX_UTF8:
        return text or None
    data = text.encode()
    if len(data) > MAX_PARTIAL_BYTES:
        head = data[: MAX_PARTIAL_BYTES - _MARK_BYTES].decode(errors="ignore")
        return f"{head}\n[... {len(text) - len(head):,} characters left out ...]"
    return text


def live(namespace: Mapping[str, object], own: Container[str]) -> dict[str, object]:
    """The variables that the model created, without modules and private names; at most 100 of them."""
    variables = {
        name: value
        for name, value in list(namespace.items())
        if isinstance(name, str)
        and not name.startswith("_")
        and name not in own
        and not isinstance(value, types.ModuleType)
    }
    return dict(list(variables.items())[:MAX_NAMES])


def follow(path: str, namespace: Mapping[str, Any]) -> Any:
    """The value that a variable or a simple path (``d['k']``, ``a.b[0]``) leads to.

    Raises:
        NotAVariable: ``path`` is not a path, its name is unknown, or one of its steps fails.
    """
    text = path.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`":
        text = text[1:-1].strip()
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise NotAVariable(f"{path!r:.200} is not the name of a variable") from None
    return _step(tree, namespace)


def is_path(text: str) -> bool:
    """Whether ``text`` has the form of a variable or a simple path."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return isinstance(node, ast.Name)


def _step(node: ast.expr, namespace: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        if node.id not in namespace:
            raise NotAVariable(f"there is no variable {node.id!r}")
        return namespace[node.id]
    if isinstance(node, ast.Attribute):
        owner = _step(node.value, namespace)
        try:
            return getattr(owner, node.attr)
        except AttributeError as error:
            raise NotAVariable(str(error)) from None
    if isinstance(node, ast.Subscript):
        owner, key = _step(node.value, namespace), _constant(node.slice)
        try:
            return owner[key]
        except (LookupError, TypeError) as error:
            raise NotAVariable(f"{ast.unparse(node)}: {type(error).__name__}: {error}") from None
    raise NotAVariable(f"{ast.unparse(node)!r:.200} is not the name of a variable")


def _constant(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise NotAVariable(f"{ast.unparse(node)!r:.200} is not a plain key or index") from None
