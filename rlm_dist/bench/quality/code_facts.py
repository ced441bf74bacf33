"""What Python files define, call, subclass and import, read with ``ast``."""

import ast
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlm_dist.bench.quality.items import tokens_of
from rlm_dist.errors import InputError
from rlm_dist.one_line import one_line

_LEFT_OUT = frozenset({"test", "tests", "idlelib", "lib2to3", "site-packages", "__pycache__"})


@dataclass(frozen=True)
class CodeFunction:
    """A function or method: its name after that of its class, the names that it calls, its words."""

    path: str
    name: str
    calls: frozenset[str]
    words: frozenset[str]


@dataclass(frozen=True)
class CodeClass:
    """A class and the last parts of its bases' names; ``?`` for one that is made by an expression."""

    path: str
    name: str
    bases: frozenset[str]


@dataclass(frozen=True)
class CodeFile:
    """A file: its text, what it defines anywhere, the modules that it imports by name, its words."""

    path: str
    text: str
    defines: frozenset[str]
    imports: frozenset[str]
    words: frozenset[str]
    functions: tuple[CodeFunction, ...]
    classes: tuple[CodeClass, ...]


def standard_library() -> Path:
    """The folder of the running Python's own standard library."""
    return Path(sysconfig.get_path("stdlib"))


def code_files(folder: Path, tokens: int, rng: random.Random) -> list[CodeFile]:
    """Return files of the tree in a random choice, as many as ``tokens`` hold, ordered by path.

    Files that this Python cannot parse are left out, and so are tests.

    Raises:
        InputError: there is no such folder, or not a single file fits.
    """
    if not folder.is_dir():
        raise InputError((f"{one_line(str(folder))}: is not a folder",))
    paths = [
        path for path in sorted(folder.rglob("*.py")) if not _LEFT_OUT & set(path.relative_to(folder).parts)
    ]
    rng.shuffle(paths)
    chosen: list[CodeFile] = []
    for path in paths:
        shown_path = path.relative_to(folder).as_posix()
        text = _text(path)
        size = tokens_of(_shown(shown_path, text)) + 1
        if text and size <= tokens and (file := parsed_file(text, shown_path)):
            chosen.append(file)
            tokens -= size
    if not chosen:
        raise InputError((f"{one_line(str(folder))}: has no Python file that fits",))
    return sorted(chosen, key=lambda file: file.path)


def shown_file(file: CodeFile) -> str:
    """A file as it stands in a context, below its path."""
    return _shown(file.path, file.text)


def _shown(path: str, text: str) -> str:
    return f"===== {path} =====\n{text}"


def _text(path: Path) -> str:
    """The text of a file; empty if it cannot be read."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def parsed_file(text: str, shown_path: str) -> CodeFile | None:
    """A file by its text; None if this Python cannot parse it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes
            tree = ast.parse(text)
    except (ValueError, SyntaxError, RecursionError):
        return None
    functions = tuple(_functions(tree, text.split("\n"), shown_path, ""))
    classes = tuple(_classes(tree, shown_path))
    nodes = list(ast.walk(tree))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return CodeFile(
        path=shown_path,
        text=text,
        defines=frozenset(node.name for node in nodes if isinstance(node, kinds)),
        imports=frozenset(name for node in nodes for name in _imported(node)),
        words=_words(text),
        functions=functions,
        classes=classes,
    )


def _functions(node: ast.AST, lines: list[str], path: str, prefix: str) -> Iterator[CodeFunction]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            source = "\n".join(lines[child.lineno - 1 : child.end_lineno])
            calls = frozenset(name for part in ast.walk(child) if (name := _called(part)))
            yield CodeFunction(path, prefix + child.name, calls, _words(source))
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, lines, path, f"{prefix}{child.name}.")


def _classes(tree: ast.AST, path: str) -> Iterator[CodeClass]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield CodeClass(path, node.name, frozenset(map(_base_name, node.bases)))


def _base_name(node: ast.expr) -> str:
    return _last_name(node.value if isinstance(node, ast.Subscript) else node) or "?"


def _called(node: ast.AST) -> str | None:
    return _last_name(node.func) if isinstance(node, ast.Call) else None


def _last_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _imported(node: ast.AST) -> Iterator[str]:
    """The top-level names of absolute imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
        yield node.module.partition(".")[0]


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[^\W\d]\w*", text))
