"""The simulated endpoint with a root model that says what the query dictates.

``python -m rlm_dist.bench.endpoint LATENCY_S`` prints its address as one JSON line and serves until its
standard input closes. A query with a code block is answered by that block, any other by the usual scripts.
"""

import json
import os
import re
import sys
from collections.abc import Sequence

from rlm_dist.models import Message
from rlm_dist.simulated import SimulatedEndpoint, scripts
from rlm_dist.simulated.server import Latency

_BLOCK = re.compile(r"```repl\n(?:# dictated\n).*?```", re.S)


def query(code: str) -> str:
    """The query to which the root model replies with this code; it is to end the job."""
    return f"Run this:\n```repl\n# dictated\n{code}\n```"


def reply(messages: Sequence[Message]) -> str:
    """What the root model says."""
    dictated = _BLOCK.search(scripts.query_text(messages))
    return dictated[0] if dictated else scripts.reply(messages)


def main(latency_s: float) -> None:
    """Serve; every answer takes ``latency_s``."""
    with SimulatedEndpoint(root=reply, latency=Latency(latency_s)) as endpoint:
        sys.stdout.write(json.dumps({"url": endpoint.url, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(float(sys.argv[1]))
