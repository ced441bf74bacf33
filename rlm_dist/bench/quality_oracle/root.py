"""The root model of the oracle: it says what code a good model would write, and knows no answer."""

import inspect
from collections.abc import Callable, Sequence

from rlm_dist.bench.quality_oracle import fact_code, line_code
from rlm_dist.bench.quality_oracle.plans import ChoicesPlan, FactsPlan, LinesPlan, plan_of
from rlm_dist.schema import Message
from rlm_dist.simulated import scripts
from rlm_dist.simulated.scripts import Script

_IMPORTS = """\
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import combinations
from typing import Any, NamedTuple

"""
_LABELS = 're.search(r"one of these \\d+ labels: (.*)\\.$", window, re.M)[1]'
# What a function needs of the others.
_NEEDED: dict[Callable[..., object], tuple[Callable[..., object], ...]] = {
    line_code.extreme_label: (line_code.at_rank,),
    line_code.extreme_user: (line_code.at_rank,),
    line_code.user_of_label: (line_code.at_rank,),
    line_code.extreme_day: (line_code.at_rank,),
    line_code.first_month: (line_code.by_month,),
    line_code.months_more: (line_code.by_month,),
    line_code.months_top: (line_code.by_month,),
    line_code.pairs_of_both: (line_code.by_user,),
    line_code.pairs_of_roles: (line_code.by_user,),
}


def reply(messages: Sequence[Message]) -> str:
    """The root model's next reply; to a question of no known kind, that of the usual scripts."""
    return scripts.reply(messages, script_for)


def script_for(text: str) -> Script:
    """The script for the question in a text."""
    functions: tuple[Callable[..., object], ...]
    match plan_of(text):
        case LinesPlan() as plan:
            return scripts.script(_lines_work(plan))
        case FactsPlan(name, steps):
            functions = (fact_code.as_texts, fact_code.ask_fact, fact_code.follow_facts)
            call = f"follow_facts(as_texts(context), {name!r}, {list(steps)!r}, llm_query_batched)"
        case ChoicesPlan(_, _, question, choices):
            functions = (fact_code.as_texts, fact_code.files_of, fact_code.ask_choices)
            text = '"\\n".join(as_texts(context))'
            call = f"ask_choices({text}, {question!r}, {choices!r}, llm_query_batched)"
        case None:
            return scripts.pick(text)
    return scripts.script(_source(functions) + f"result = {call}\nprint(result)\n")


def _lines_work(plan: LinesPlan) -> str:
    steps = [plan.scope, plan.answer] if plan.scope else [plan.answer]
    functions = [needed for step in steps for needed in (*_NEEDED.get(step.function, ()), step.function)]
    asking = [line_code.ask_labels] if plan.labels else []
    code = [
        _source((fact_code.as_texts, line_code.DatedLine, line_code.read_lines, *asking, *functions)),
        'window = "\\n".join(as_texts(context))\n',
        "lines = read_lines(window)\n",
    ]
    if plan.scope:
        code.append(f"lines = {plan.scope.function.__name__}(lines, {_arguments(plan.scope.arguments)})\n")
    if plan.labels:
        code.append(f"lines = ask_labels(lines, {_LABELS}, llm_query_batched)\n")
    arguments = _arguments(("lines", *plan.answer.arguments)).replace("'lines'", "lines", 1)
    code.append(f"result = {plan.answer.function.__name__}({arguments})\n")
    return "".join([*code, "print(len(lines), 'lines:', result[:200])\n"])


def _arguments(values: Sequence[object]) -> str:
    return ", ".join(map(repr, values))


def _source(functions: Sequence[Callable[..., object]]) -> str:
    """The imports, and the functions as they stand in their modules."""
    return _IMPORTS + "\n".join(map(inspect.getsource, functions)) + "\n"
