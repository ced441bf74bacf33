"""Syntax trees of Python source, made by one thread at a time.

CPython 3.11 counts the depth of the tree that it makes in one place for all threads. A collection of garbage
may let another thread run meanwhile; if that parses too, the count is wrong, and one of both gets SystemError
or a RecursionError for source that is not deep (CPython's gh-106905). Filters of warnings are shared too.

All functions raise what ``ast`` raises for source that is no Python: SyntaxError, ValueError, RecursionError,
MemoryError or OverflowError.
"""

import ast
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_one_thread = threading.RLock()  # a finalizer may run in the midst of a parse, in the same thread


def module_of(code: str) -> ast.Module:
    """The tree of a program."""
    with _alone():
        return ast.parse(code)


def expression_of(source: str) -> ast.expr:
    """The tree of an expression."""
    with _alone():
        return ast.parse(source, mode="eval").body


def literal_of(source: str) -> object:
    """The value of a literal, such as a string or a dict of numbers."""
    with _alone():
        value: object = ast.literal_eval(source)
    return value


@contextmanager
def _alone() -> Iterator[None]:
    """Without other threads, and without warnings: a bad escape in a model's code is not worth one."""
    with _one_thread, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
