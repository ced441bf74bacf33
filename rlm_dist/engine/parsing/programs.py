"""What Python source says about itself, without running it.

Nothing here raises: source that does not parse is no program, and assigns what its lines seem to assign.
"""

import ast
import builtins
import re
import textwrap
from collections.abc import Iterator

from rlm_dist.engine.parsing.syntax import module_of
from rlm_dist.schema import REPL_NAMES

RUN_TAGS = frozenset({"repl", "python", "py", "python3", "ipython", "pycon", "py3"})
_FINALS = ("FINAL", "FINAL_VAR")
_BUILTINS = frozenset(dir(builtins))
_DOING = (
    *(ast.Assign, ast.AugAssign, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.If, ast.Try),
    *(
        ast.TryStar,
        ast.Match,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.Import,
        ast.ImportFrom,
    ),
)
_CALL_LINE = re.compile(
    r"^[ \t]*(?!FINAL)(?:[a-z_]\w*[ \t]*=[ \t]*)?(?:await[ \t]+)?[a-z_][\w.]*\(.*\)[ \t]*(?:#.*)?$"
    r"|^[ \t]*(?:import[ \t]+[\w., \t]+|from[ \t]+[\w.]+[ \t]+import\b.+)$"
    r"|^[ \t]*(?:async[ \t]+)?(?:for[ \t].{1,200}?[ \t]in|with[ \t].{1,200}?[ \t]as)[ \t].{1,200}:[ \t]*$"
    r"|^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+\w+.{0,200}:[ \t]*$",
    re.MULTILINE,
)
_ASSIGNING_LINE = re.compile(
    r"^[ \t]*([^\W\d]\w*(?:[ \t]*,[ \t]*[^\W\d]\w*)*)(?:[ \t]{0,8}:[\w.\[\], \t]{1,100})?"
    r"[ \t]{0,8}(?:[-+*/%|&^@]|//|\*\*|<<|>>)?=(?!=)"
    r"|^[ \t]*(?:async[ \t]+)?for[ \t]+(.{1,200}?)[ \t]+in[ \t]"
    r"|^[ \t]*(?:from[ \t]+[\w.]+[ \t]+)?import[ \t]+(.{1,200})$"
    r"|^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)",
    re.MULTILINE,
)
_CHANGE = re.compile(
    r"\b([^\W\d]\w*)\.(?:add|append|clear|extend|insert|pop|remove|reverse|setdefault|sort|update)\("
    r"|\b([^\W\d]\w*)\[[^\n]{0,200}\][ \t]{0,8}(?:[-+*/%|&^]|//|\*\*)?=(?!=)"
)
_NAME = re.compile(r"[^\W\d]\w*")
# A call of ``ast`` or ``re`` holds the interpreter's lock to its end, and a root worker runs many jobs: what
# is longer is no program, and expressions search a text in pieces.
MAX_PARSED_CHARS = 100_000
_PIECE_CHARS = 1 << 16


def tree_of(code: str) -> ast.Module | None:
    """The syntax tree of ``code``; None if it is no complete Python program, or a very long one."""
    if len(code) > MAX_PARSED_CHARS:
        return None
    try:
        return module_of(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def compiles(code: str) -> bool:
    """Whether ``code`` is a complete Python program."""
    return tree_of(code) is not None


def unfenced_program(text: str) -> str | None:
    """The code of a reply that as a whole is a Python program; None if the reply is prose or a text answer.

    A few words may parse as Python too. So a program has a statement that does something, and more than one
    statement, or names that only a program would use. A lone ``FINAL(...)`` is a text answer.
    """
    if len(text) > MAX_PARSED_CHARS:
        return None
    code = textwrap.dedent(text).strip("\n").rstrip()
    first, _, rest = code.partition("\n")
    if first.strip().lower() in RUN_TAGS:
        code = rest
    tree = tree_of(code)
    if tree is None:
        return None
    source = SourceText(code)
    try:
        if not any(_does_something(statement, source) for statement in tree.body):
            return None
        several = sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) > 1
        return code if several or _is_code(tree, source) else None
    except RecursionError:
        return None


def unfenced_code(prose: str) -> bool:
    """Whether lines of the prose are calls, imports, loops or definitions: code that is not in a fence."""
    return any(_CALL_LINE.search(piece) for piece in _pieces(prose))


def assigned_names(code: str) -> frozenset[str]:
    """The names that the code assigns anywhere; of code that does not parse, those its lines seem to."""
    if not code.strip():  # as what stands around the blocks of most replies
        return frozenset()
    tree = tree_of(code)
    if tree is None:
        lines = (line for piece in _pieces(code) for line in _ASSIGNING_LINE.findall(piece))
        found = (name for line in lines for name in _NAME.findall(" ".join(line)))
        return frozenset(found)
    return frozenset(name for node in ast.walk(tree) for name in _stored(node))


def changed_names(code: str) -> frozenset[str]:
    """The names that the code assigns, or whose values it changes by a method or an index."""
    changed = (name for piece in _pieces(code) for match in _CHANGE.findall(piece) for name in match if name)
    return assigned_names(code) | frozenset(changed)


def read_names(code: str) -> frozenset[str]:
    """The names that the code reads before it assigns them; none if it does not parse."""
    tree = tree_of(code)
    if tree is None:
        return frozenset()
    reader = _Reader()
    try:
        reader.visit(tree)
    except RecursionError:
        return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return frozenset(reader.read)


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces of whole lines; of a line that is itself too long, only the head."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _PIECE_CHARS)
        end = len(text) if end < 0 else end + 1
        yield text[start : min(end, start + 2 * _PIECE_CHARS)]
        start = end


class SourceText:
    """Source beside its syntax tree: tells apart ``f(x)`` and ``word (x)``."""

    def __init__(self, code: str) -> None:
        self._data = code.encode("utf-8", "replace")
        self._starts = [0]
        for line in self._data.split(b"\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)

    def between(self, left: ast.expr, right: ast.expr) -> bytes:
        """The text from the end of one expression to the start of another."""
        return self._data[self._end(left) : self._starts[right.lineno - 1] + right.col_offset]

    def space_after(self, node: ast.expr) -> bool:
        """Whether white space follows the expression."""
        return self._data[self._end(node) : self._end(node) + 1].isspace()

    def _end(self, node: ast.expr) -> int:
        return self._starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)


def _does_something(statement: ast.stmt, source: SourceText) -> bool:
    if isinstance(statement, _DOING):
        return True
    if isinstance(statement, ast.AnnAssign):
        return statement.value is not None
    if not isinstance(statement, ast.Expr) or _called(statement.value) in _FINALS:
        return False
    if isinstance(statement.value, ast.IfExp):
        return True
    return any(
        isinstance(node, ast.Await)
        or (isinstance(node, ast.Call) and _called(node) not in _FINALS and not source.space_after(node.func))
        for node in ast.walk(statement)
    )


def _is_code(tree: ast.Module, source: SourceText) -> bool:
    """Whether a single statement uses names of the REPL, or calls something that exists without it."""
    assigns = isinstance(tree.body[0], ast.Assign)
    return any(
        isinstance(node, ast.Await)
        or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in REPL_NAMES)
        or (
            isinstance(node, ast.Call)
            and not source.space_after(node.func)
            and (assigns or _called(node) in _BUILTINS)
        )
        for node in ast.walk(tree)
    )


def _called(node: ast.expr) -> str | None:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def _stored(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)


class _Reader(ast.NodeVisitor):
    """Walks a program in the order in which it runs, and notes the names read before they are assigned.

    Parameters and the targets of comprehensions count as assigned from there on.
    """

    def __init__(self) -> None:
        self.read: set[str] = set()
        self._assigned: set[str] = set()

    def generic_visit(self, node: ast.AST) -> None:
        """Visit what the node evaluates first before what it assigns."""
        for child in sorted(ast.iter_child_nodes(node), key=lambda child: _place(node, child)):
            self.visit(child)
        self._assigned.update(_stored(node))

    def visit_Name(self, node: ast.Name) -> None:
        """Note one name."""
        if not isinstance(node.ctx, ast.Load):
            self._assigned.add(node.id)
        elif node.id not in self._assigned:
            self.read.add(node.id)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """``n += 1`` reads its target."""
        if isinstance(node.target, ast.Name) and node.target.id not in self._assigned:
            self.read.add(node.target.id)
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        """A parameter counts as assigned."""
        self._assigned.add(node.arg)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        """So does the name of a caught exception."""
        if node.name:
            self._assigned.add(node.name)
        self.generic_visit(node)


def _place(parent: ast.AST, child: ast.AST) -> int:
    if isinstance(parent, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
        return int(child is not parent.value)
    if isinstance(parent, ast.For | ast.AsyncFor | ast.comprehension):
        return 0 if child is parent.iter else 1
    return 0 if isinstance(child, ast.comprehension) else 1
