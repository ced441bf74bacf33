"""A query that dictates to the simulated root model what it replies.

Standard library only: each peer's process imports this, and its memory is measured.
"""

import re
import textwrap

_BLOCK = re.compile(r"^ *```repl\n *# dictated\n.*?```", re.S | re.M)


def query(code: str) -> str:
    """The query to which the root model replies with this code; it is to end the job."""
    return f"Run this:\n```repl\n# dictated\n{code}\n```"


def block(text: str) -> str | None:
    """The code block in a chat with such a query, even if a prompt shows the query indented."""
    found = _BLOCK.search(text)
    return textwrap.dedent(found[0]) if found else None
