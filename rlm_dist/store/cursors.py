"""Cursors: values that say where the next page of a list begins, as one word that callers hand back."""

import base64
import json

from rlm_dist.errors import InputError


def write_cursor(value: object) -> str:
    """A JSON value as a cursor."""
    data = json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_cursor(text: str) -> object:
    """The JSON value of a cursor; its shape is for the caller to check.

    Raises:
        InputError: if the text is no cursor.
    """
    try:
        return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        raise bad_cursor() from None


def bad_cursor() -> InputError:
    """The error for a cursor that no earlier page gave."""
    return InputError(("cursor: is not one that an earlier page gave",))
