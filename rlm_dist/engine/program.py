"""A job's program: code of the user that runs as the first turn, in the place of a root model's reply.

The chat shows it as a reply, so that the root model, if it is asked afterwards, goes on from there. A prompt
family's program runs in jobs that have none; the chat shows only its output, in the first message.
"""

import re

from rlm_dist.engine.parsing import ParsedReply
from rlm_dist.schema import Completion, Usage
from rlm_dist.schema.events import RootReplied

MODEL = "program"
_FENCES = re.compile(r"`{3,}")


def program_completion(program: str) -> Completion:
    """The program in the form of a reply, which no model was asked for and which costs nothing."""
    fence = "`" * max(3, 1 + max(map(len, _FENCES.findall(program)), default=0))
    text = f"{fence}repl\n{program.rstrip()}\n{fence}"
    return Completion(text=text, usage=Usage(), finish_reason="stop", model=MODEL)


def program_replied(completion: Completion, *, replayed: bool) -> RootReplied:
    """The event of a program's turn, which is the first."""
    return RootReplied(
        turn=0,
        model=completion.model,
        usage=completion.usage,
        finish_reason=completion.finish_reason,
        seconds=0.0,
        replayed=replayed,
    )


def program_reply(program: str) -> ParsedReply:
    """The program as its only block, whatever stands in it."""
    return ParsedReply(visible="", blocks=(program,), repl=(True,))
