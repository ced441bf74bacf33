"""The package ``rlms``, by the authors of the paper."""

import functools
import sys

from rlm import RLM
from rlm.core import rlm
from rlm.core.lm_handler import LMHandler

from rlm_dist.bench.peers.asking import ROOT_MODEL, SUB_MODEL, measure, query_for
from rlm_dist.bench.peers.at_once import ask_at_once

_HAND_IN = 'answer["content"] = result; answer["ready"] = True'


def main(url: str, calls: int, in_flight: int, queries: int = 0) -> None:
    """Measure; its REPL and its calls run in this process. With ``queries``, let these be measured."""
    if in_flight:  # an argument of its handler, for which RLM has none
        rlm.LMHandler = functools.partial(LMHandler, batch_max_concurrent=in_flight)
    endpoint = {"base_url": url, "api_key": "none", "max_retries": 0}
    peer = RLM(
        backend="openai",
        backend_kwargs={"model_name": ROOT_MODEL, **endpoint},
        other_backends=["openai"],
        other_backend_kwargs=[{"model_name": SUB_MODEL, **endpoint}],
    )

    def ask(context: str, query: str) -> str:
        return str(peer.completion(context, root_prompt=query).response)

    if queries:
        ask_at_once(ask, queries, _HAND_IN)
    else:
        measure(lambda context: ask(context, query_for(_HAND_IN)), calls)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
