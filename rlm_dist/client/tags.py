"""Tags: names with values by which people filter batches and single jobs, and split costs."""

import re
from collections.abc import Iterable, Mapping

from rlm_dist.errors import InputError

MOST_TAGS = 16
_MOST_VALUE_CHARS = 200
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,63}")


def check_tags(tags: object) -> dict[str, str]:
    """The tags, if they are good ones.

    Raises:
        ValueError: saying what is wrong; it shows no value.
    """
    if not isinstance(tags, Mapping):
        raise ValueError("must be an object")
    if len(tags) > MOST_TAGS:
        raise ValueError(f"must be at most {MOST_TAGS}")
    for name, value in tags.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError("a name must be up to 64 letters, digits, '_', '.', '-' and '/'")
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= _MOST_VALUE_CHARS:
            raise ValueError(
                f"the value of {name} must be text of 1 to {_MOST_VALUE_CHARS} printable characters"
            )
    return dict(tags)


def read_tags(tags: object) -> dict[str, str]:
    """The tags, if they are good ones.

    Raises:
        InputError: saying what is wrong.
    """
    try:
        return check_tags(tags)
    except ValueError as error:
        raise InputError((f"tags: {error}",)) from None


def parse_tags(texts: Iterable[str]) -> dict[str, str]:
    """Tags written as ``name=value``.

    Raises:
        InputError: if a text has no '=', a name comes twice, or a name or value is bad.
    """
    tags: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(("--tag: must be NAME=VALUE",))
        if name in tags:
            raise InputError((f"--tag: {name!r} is given twice",))
        tags[name] = value
    return read_tags(tags)
