"""The tree of errors in the docstring of ``rlm_dist.errors`` shows the classes that exist."""

import inspect
import re

from rlm_dist import errors


def drawn_tree() -> dict[str, str]:
    """Return the parent of each class in the drawing, in which a child is indented by 4 more."""
    parents: list[str] = []
    tree: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.fullmatch(r"(?P<indent>    [│ ]*(?:[├└]── )?)(?P<name>[A-Z]\w+)(?: .*)?", line):
            depth = len(found["indent"]) // 4 - 1
            tree[found["name"]] = parents[depth - 1] if depth else ""
            parents[depth:] = [found["name"]]
    return tree


def defined_tree() -> dict[str, str]:
    """Return the parent of each error class that the module defines."""
    return {
        name: "" if kind is errors.RLMError else kind.__bases__[0].__name__
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, Exception)
    }


def test_the_drawn_tree_equals_the_classes() -> None:
    assert len(drawn_tree()) > 10
    assert drawn_tree() == defined_tree()
