"""The texts that the root model sees, as data: system prompts by family, the first message, the notes.

No text of the user is ever used as a format string: texts are joined, so braces in a query stay as they are.
The description of a context takes a few lines, whatever its size.
"""

from collections.abc import Sequence

from rlm_dist.engine.prompts.answer_forms import answer_form
from rlm_dist.engine.prompts.families import PromptTexts
from rlm_dist.engine.prompts.peek import PEEK
from rlm_dist.engine.prompts.shots import SHOTS
from rlm_dist.engine.prompts.texts import CHILDREN, CODER, FRUGAL, SMALL
from rlm_dist.schema import ContextInfo, JobSpec, Message

_SYSTEM = {"coder": CODER, "frugal": FRUGAL, "small": SMALL}
_SIZES_SHOWN = 5

AT_LIMIT = (
    "There are no turns left. Hand in the best answer that you have now, as FINAL(your answer), or as "
    "FINAL_VAR(name) where it is in a variable."
)
AWAITED = "Go on with a ```repl block, or hand in the answer with FINAL(...) in it."
DEFERRED = (
    "Your answer was not taken yet, because you wrote it before you saw this output. If it still holds, "
    "hand it in again; otherwise go on."
)
EMPTY = "Your reply was empty. " + AWAITED
SEEN = "What it holds:"
LOOK = "You have not seen the context yet. Write a ```repl block that looks at it."
GO_ON = "Write a ```repl block that works out the answer and ends with FINAL(answer)."
LOOK_FIRST = (
    "Your answer was not taken: no code has run yet, so you have not looked at `context`. Look at it in a "
    "```repl block first."
)
NO_ANSWER = (
    "None is not an answer, nor is a function, a module or a generator. Compute the answer in a ```repl "
    "block, or hand in another one with FINAL(...)."
)
NOTHING_FOUND = "Your reply has no code block and no answer. " + AWAITED
MISPLACED = (
    "FINAL was only mentioned. To hand in an answer call FINAL(...) in a ```repl block, or write it on a "
    "line of its own, with nothing before it. Otherwise go on with a ```repl block."
)
NONE_LEFT = "There were none from earlier blocks."
SESSION_GO = "Go on with a ```repl block: use what is there already, and look at what you have not seen yet."
SESSION_LEFT = "There were none from earlier blocks of this query. Those of the session are back."
CUT_REPLY = "Your reply was cut off at the length limit. Be shorter, and put the code into several turns."
CUT_CODE = (
    "Your last code block was cut off at the length limit and was not run. Write it again, shorter or in "
    "several turns."
)
UNCLOSED_CODE = (
    "Your last code block has no closing fence and is no whole program, so it was not run. Write it again."
)
FORMATTED = (
    "Your answer was not taken: names in braces are not filled in outside a code block. Call "
    'FINAL(f"...") inside a ```repl block.'
)
EVALUATED = (
    "FINAL(...) outside a code block was run as Python, because what is in it is an expression. To hand in a "
    'text as it stands, put it in quotes: FINAL("...").'
)
PLACEHOLDER = "Your answer was not taken: it is a placeholder. Hand in the answer itself. " + AWAITED
UNFENCED_CODE = (
    "Your reply has code outside a ```repl block. It was not run, so no answer was taken. Put all code into "
    "one ```repl block, and call FINAL(...) in it."
)


def opening(
    spec: JobSpec,
    texts: PromptTexts | None = None,
    tools: str = "",
    session: str | None = None,
    *,
    seen: str = "",
) -> tuple[Message, ...]:
    """The chat before the first reply: the system prompt, the family's examples if it has any, the task.

    ``texts`` is the family of a file, ``tools`` describes the job's tools. What is said of child jobs and
    tools, and then a job's instructions, come after what all jobs share: at the end of the system prompt. If
    examples follow that, the instructions are at the beginning of the task. ``session`` is what to tell of
    the earlier queries of a session, ``seen`` what the family's program printed.
    """
    form = answer_form(spec)
    description = _with_seen(_description(spec.context.info), seen)
    if texts is None:
        system, last = _SYSTEM[spec.prompts], task(spec.context.info, spec.query, form, seen)
        shots = SHOTS if spec.prompts == "small" else ()
        examples = [(task(shot.info, shot.query, seen=shot.seen), shot.reply) for shot in shots]
    else:
        system, last = texts.system, texts.fill(context=description, query=spec.query)
        last = f"{last.rstrip()}\n\n{form}" if form else last
        examples = [(example.user, example.assistant) for example in texts.examples]
    if session is not None:
        last = session_task(spec, session) + (f"\n\n{form}" if form else "")
    if spec.has_children:
        system = f"{system}\n{CHILDREN}"
    if tools:
        system = f"{system}\n{tools}"
    if spec.instructions and examples:
        last = f"{_instructions(spec.instructions)}\n\n{last}"
    elif spec.instructions:
        system = f"{system.rstrip()}\n\n{_instructions(spec.instructions)}"
    messages = [Message(role="system", content=system)]
    for user, assistant in examples:
        messages += (Message(role="user", content=user), Message(role="assistant", content=assistant))
    return (*messages, Message(role="user", content=last))


def family_program(spec: JobSpec, texts: PromptTexts | None = None) -> str:
    """The code that the family runs before the root model is asked; empty if it has none."""
    if texts is not None:
        return texts.program
    return PEEK if spec.prompts == "small" else ""


def _instructions(text: str) -> str:
    return f"Instructions of the user for this work:\n{text}"


def task(info: ContextInfo, query: str, form: str = "", seen: str = "") -> str:
    """The first user message: the context, what was seen of it, the query as written, the answer's form."""
    description = _with_seen(_description(info), seen)
    return (
        f"{description}\n\nQuestion:\n{query}\n\n"
        + (f"{form}\n\n" if form else "")
        + (GO_ON if seen else LOOK)
    )


def _with_seen(description: str, seen: str) -> str:
    return f"{description}\n\n{seen}" if seen else description


def session_task(spec: JobSpec, session: str) -> str:
    """The first user message of a query in a session."""
    added = spec.session.added if spec.session else ()
    first = spec.context.info.items if spec.context.info.several else 1
    lines = [
        f"`context_{number}` was added as {file.name!r}. "
        + _description(file.context.info, f"context_{number}").replace("\n", " ")
        for number, file in enumerate(added, first)
    ]
    parts = [_description(spec.context.info), *lines, session, f"Question:\n{spec.query}", SESSION_GO]
    return "\n\n".join(part for part in parts if part)


def only_skipped(tags: tuple[str, ...]) -> str:
    """The note on a reply that has blocks, none of which is run."""
    kinds = ", ".join(dict.fromkeys(tag[:40] for tag in tags[:5]))
    return f"Nothing was run: only blocks tagged `repl` or `python` are, and yours were: {kinds}. " + AWAITED


def unknown_tools(names: tuple[str, ...]) -> str:
    """The note on tool calls that are not understood."""
    tools = ", ".join(dict.fromkeys(name[:40] for name in names[:5]))
    return f"There are no tools here ({tools}). Write Python in a ```repl block instead."


def unknown_variable(path: str, names: tuple[str, ...]) -> str:
    """The note on ``FINAL_VAR`` with a name that does not exist."""
    variables = "The variables there are: " + ", ".join(names) if names else "There are no variables yet"
    return f"FINAL_VAR({path[:200]}): there is no such variable. {variables}. " + AWAITED


def unknown_words(text: str, unknown: Sequence[str], names: tuple[str, ...]) -> str:
    """The note on ``FINAL`` with what reads as Python, but has names that do not exist."""
    why = f"no variable is called {unknown[0][:100]}" if unknown else "it may be Python or plain words"
    variables = f" The variables there are: {', '.join(names)}." if names else ""
    return (
        f"FINAL({text[:200]}) was not taken: {why}.{variables} To hand in a value, call FINAL(...) in a "
        '```repl block; to hand in a text as it stands, put it in quotes: FINAL("...").'
    )


def repeated_error(turns: int, kind: str, left: int) -> str:
    """The note on turns that only raised the same error."""
    return (
        f"Your code has raised the same {kind} in {turns} turns in a row. Change the approach: do not send "
        f"this code again. After {left} more such {'turn' if left == 1 else 'turns'} the work ends without "
        "an answer."
    )


def turns_left(turns: int) -> str:
    """The warning before the last turns."""
    if turns == 1:
        return "This is your last turn: hand in the answer now, with FINAL(...)."
    return f"{turns} turns are left, this one included."


def last_turn(limits: Sequence[str]) -> str:
    """The note before the only turn that is left once limits are reached."""
    reasons = "; ".join(limits)
    return (
        f"Your budget is used up: {reasons}. Calls that do not fit are not made. This is your last turn: "
        "hand in the best answer from what you have, with FINAL(...)."
    )


def _description(info: ContextInfo, name: str = "context") -> str:
    if info.kind == "str":
        return f"`{name}` is a str of {info.chars:,} characters."
    if info.kind == "json":
        return f"`{name}` is a JSON value (dict, list or other) with {info.chars:,} characters of text."
    noun = "values" if info.kind == "dict" else "items"
    lines = [f"`{name}` is a {info.kind} of {info.items:,} {noun}, {info.chars:,} characters in all."]
    if info.sizes:
        sizes = ", ".join(f"{size:,}" for size in info.sizes[:_SIZES_SHOWN])
        more = ", …" if info.items > min(len(info.sizes), _SIZES_SHOWN) else ""
        lines.append(f"Characters of each: {sizes}{more}")
    if name != "context":
        return "\n".join(lines)
    if info.several and info.items:
        lines.append(f"The items are also `context_0` to `context_{info.items - 1}`.")
    if info.named:
        lines.append("`context_paths` lists their paths.")
    return "\n".join(lines)
