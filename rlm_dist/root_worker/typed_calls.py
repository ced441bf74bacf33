"""Sub-calls whose answers conform to a JSON Schema: what does not is asked for again, in the same chat.

Each try is a sub-call of its own, with an id that follows from its chat. So tries are reserved, paid, stored
and found again as all sub-calls are, and a cell that is run again pays for none of them twice.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from rlm_dist.engine.parsing.json_values import read_json
from rlm_dist.errors import FailureKind
from rlm_dist.json_schemas import JsonSchema, problems
from rlm_dist.schema import Answer, CallFailure, Message
from rlm_dist.thoughts import without_thoughts

MAX_TRIES = 3
_MAX_QUOTED_CHARS = 20_000  # of a wrong answer, in the chat that asks again

Chat = tuple[Message, ...]
Ask = Callable[[Sequence[Chat]], list[Answer]]


def typed_answers(
    ask: Ask, prompts: Sequence[Chat], schema: JsonSchema, checks: AbstractContextManager[None] | None = None
) -> list[Answer]:
    """Ask all prompts; each answer's text is a JSON value that conforms to the schema, or it has a failure.

    A failed, refused or truncated reply is a failure at once. ``ask`` is called once for each round of tries.
    Each answer is checked inside ``checks``.
    """
    checks = checks or nullcontext()
    chats = [_with_schema(prompt, schema) for prompt in prompts]
    answers: dict[int, Answer] = {}
    open_ = list(range(len(chats)))
    for tries in range(1, MAX_TRIES + 1):
        missed: list[int] = []
        for at, answer in zip(open_, ask([chats[at] for at in open_]) if open_ else (), strict=True):
            with checks:
                answers[at], wrong = _checked(answer, schema)
            if wrong and tries < MAX_TRIES:
                missed.append(at)
                chats[at] = _again(chats[at], answer.text or "", wrong)
        open_ = missed
    return [answers[at] for at in range(len(chats))]


def _with_schema(prompt: Chat, schema: JsonSchema) -> Chat:
    """The prompt with the schema at its end: not every endpoint takes schemas or shows them to the model."""
    text = (
        "Answer with one JSON value and nothing else. It must conform to this JSON Schema:\n"
        f"{json.dumps(schema, ensure_ascii=False)}"
    )
    last = prompt[-1]
    if last.role != "user":
        return (*prompt, Message(role="user", content=text))
    return (*prompt[:-1], Message(role="user", content=f"{last.content}\n\n{text}"))


def _again(chat: Chat, reply: str, wrong: Sequence[str]) -> Chat:
    if len(reply) > _MAX_QUOTED_CHARS:
        left_out = len(reply) - _MAX_QUOTED_CHARS
        reply = f"{reply[:_MAX_QUOTED_CHARS]}\n[{left_out:,} more characters]"
    note = (
        "Your answer does not conform to the JSON Schema:\n"
        + "\n".join(f"- {line}" for line in wrong)
        + "\nAnswer again, with one JSON value that conforms and nothing else."
    )
    return (*chat, Message(role="assistant", content=reply), Message(role="user", content=note))


def _checked(answer: Answer, schema: JsonSchema) -> tuple[Answer, list[str]]:
    """The answer as a value or with its failure, and what is wrong with it if it may be asked for again."""
    if answer.failure is not None:
        return answer, []
    if answer.truncated:
        return _failed(answer, "the answer was cut off at the output limit, so it is no whole JSON value"), []
    try:
        value = read_json(without_thoughts(answer.text or ""))
    except ValueError as error:
        wrong = [f"it is not one JSON value: {error}"]
    else:
        wrong = problems(schema, value)
        if not wrong:
            return answer.model_copy(update={"text": json.dumps(value, ensure_ascii=False)}), []
    return _failed(answer, f"after {MAX_TRIES} tries the answer does not conform: {'; '.join(wrong)}"), wrong


def _failed(answer: Answer, why: str) -> Answer:
    failure = CallFailure(kind=FailureKind.NO_ANSWER, message=why)
    return answer.model_copy(update={"text": None, "truncated": False, "failure": failure})
