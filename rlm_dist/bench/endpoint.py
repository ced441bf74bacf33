"""The simulated endpoint with a root model that says what the query dictates.

``python -m rlm_dist.bench.endpoint LATENCY_S`` prints its address as one JSON line and serves until its
standard input closes. A query with a code block is answered by that block, any other by the usual scripts.
"""

import json
import os
import sys
from collections.abc import Sequence

from rlm_dist.bench.dictated import block
from rlm_dist.local.open_files import allow_open_files
from rlm_dist.schema import Message
from rlm_dist.simulated import SimulatedEndpoint, scripts
from rlm_dist.simulated.server import Latency

# dspy.RLM asks for its reply in fields, of which this is one.
_CODE_FIELD = "[[ ## code ## ]]"
_MOST_AT_ONCE = 8192
_FIELDS = "[[ ## reasoning ## ]]\nAs asked.\n\n[[ ## code ## ]]\n{}\n\n[[ ## completed ## ]]"


def reply(messages: Sequence[Message]) -> str:
    """The root model's reply, in the form that its system prompt asks for."""
    asked = "\n".join(each.content for each in messages if each.role == "user")
    dictated = block(asked)
    if dictated is None:
        return scripts.reply(messages)
    if _CODE_FIELD in messages[0].content:
        return _FIELDS.format(dictated.replace("```repl", "```python", 1))
    return dictated


def main(latency_s: float) -> None:
    """Serve; every answer takes ``latency_s``."""
    allow_open_files(_MOST_AT_ONCE)
    with SimulatedEndpoint(root=reply, latency=Latency(latency_s)) as endpoint:
        sys.stdout.write(json.dumps({"url": endpoint.url, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(float(sys.argv[1]))
