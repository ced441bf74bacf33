"""``dspy.RLM`` with DSPy's ``LocalInterpreter``.

Its default interpreter runs in Deno and loads code from the internet at its first start; this one needs
nothing more.
"""

import os
import sys
from typing import Any

import dspy
from dspy.primitives.local_interpreter import LocalInterpreter

from rlm_dist.bench.peers.asking import ROOT_MODEL, SUB_MODEL, measure, query_for
from rlm_dist.bench.peers.at_once import ask_at_once

_HAND_IN = "SUBMIT(result)"


def main(url: str, calls: int, in_flight: int, queries: int = 0) -> None:
    """Measure; its code runs in a process below this one, its calls in threads of this one.

    With ``queries``, let these be measured.
    """
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"  # otherwise it downloads prices
    root, sub = (
        dspy.LM(f"openai/{model}", api_base=url, api_key="none", cache=False, num_retries=0)
        for model in (ROOT_MODEL, SUB_MODEL)
    )
    dspy.configure(lm=root)
    kind = _raised(in_flight) if in_flight else dspy.RLM
    peer = kind(
        "context, query -> answer", max_llm_calls=calls, sub_lm=sub, interpreter_factory=LocalInterpreter
    )

    def ask(context: str, query: str) -> str:
        return str(peer(context=context, query=query).answer)

    if queries:
        ask_at_once(ask, queries, _HAND_IN)
    else:
        measure(lambda context: ask(context, query_for(_HAND_IN)), calls)


def _raised(in_flight: int) -> Any:
    """``dspy.RLM`` with more threads for its calls, for which it has no option."""

    class Raised(dspy.RLM):  # type: ignore[misc]  # its types are not checked
        def _make_llm_tools(self, budget: Any = None, max_workers: int = in_flight) -> Any:
            return super()._make_llm_tools(budget, max_workers)

    return Raised


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
