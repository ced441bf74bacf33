"""What the simulated root model writes about facts in texts and about source trees; the REPL gets the source.

Standard library only.
"""

import re
from collections.abc import Callable
from typing import Any


def as_texts(context: Any) -> list[str]:
    """The texts of a context of any kind."""
    if isinstance(context, str):
        return [context]
    return [str(part) for part in (context.values() if isinstance(context, dict) else context)]


def ask_fact(texts: list[str], name: str, asked: str, ask: Callable[[list[str]], list[str]]) -> str:
    """What the sub model finds in the places that hold the name, 20 of them a prompt."""
    places = [
        text[max(0, found.start() - 300) : found.end() + 300]
        for text in texts
        for found in re.finditer(re.escape(name), text)
    ][:1000]
    pieces = ["\n...\n".join(places[start : start + 20]) for start in range(0, len(places), 20)]
    task = f"What is {asked}? Reply with the name or the number alone, or NONE if the text does not say."
    replies = ask([f"Text:\n{piece}\n\n{task}" for piece in pieces]) if pieces else []
    good = [str(reply).strip() for reply in replies if getattr(reply, "ok", True)]
    return next((reply for reply in good if reply != "NONE"), "unknown")


def follow_facts(texts: list[str], name: str, steps: list[str], ask: Callable[[list[str]], list[str]]) -> str:
    """Follow one fact after another from a name."""
    for step in steps:
        name = ask_fact(texts, name, step.format(name), ask)
    return name


def files_of(text: str) -> dict[str, str]:
    """The files of a source tree by path, each below a line with its path."""
    parts = re.split(r"^===== (.+\.py) =====\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def ask_choices(
    text: str, question: str, choices: dict[str, str], ask: Callable[[list[str]], list[str]]
) -> str:
    """The letter of the choice that the sub model says is right, after reading the file of each."""
    files = files_of(text)
    prompts = [
        f"===== {path} =====\n{files.get(path, '')}\n\n{question}\nIs it {choice}? Reply yes or no."
        for choice in choices.values()
        for path in [choice.rpartition(" in ")[2]]
    ]
    replies = [str(reply).strip().lower() for reply in ask(prompts)]
    return next((letter for letter, reply in zip(choices, replies, strict=True) if reply == "yes"), "A")
