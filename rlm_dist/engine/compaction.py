"""Keeps a chat within the root model's window: older turns are cut once the chat nears it.

Of an older turn stay the code and the head of the output; the whole is in the REPL's ``history``. The
messages before the first reply and the last turns stay as they are, and roles alternate. Each compaction is
journaled before the model is asked, as a rule and its parameters; so a resumed job sends the same chats.

Lengths are in characters, windows in tokens. How many tokens a character has is learned from the last reply.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rlm_dist.engine.journal import Journal
from rlm_dist.engine.parsing import parse
from rlm_dist.errors import CallError, FailureKind
from rlm_dist.schema import CHARS_PER_TOKEN, Completion, JobSpec, Message, Usage
from rlm_dist.schema.events import Emit, Marked

START_AT = 0.85  # of the room for the chat
_CUT_TO = 0.5
_USUAL_OUTPUT_TOKENS = 1024
_MAX_SUMMARY_CHARS = 8000
_MAX_SUMMARISED_CHARS = 60_000
# As ``llm.failures`` words it.
_PROMPT_TOKENS = re.compile(r"the prompt has (\d{1,9}) tokens")
_WINDOW_TOKENS = re.compile(r"the model's window (?:is|of) (\d{1,9})")
_EMPTY_REPLY = "(reply without code)"
_SUMMARISE = (
    "Below are the earlier turns of somebody who works on a question in a Python REPL: the code and what it "
    "printed. Summarise them in at most 400 words: what was tried, what was found (with the numbers, names "
    "and quotes), which variables hold what, and what is left to do. Add nothing of your own.\n\n"
)


class _Step(NamedTuple):
    """How much of a chat stays: the last turns whole, and the heads of older outputs and code.

    ``code_chars`` is None for all, ``last_chars`` is the bound of the last output if that is cut too. With
    ``drop`` the older turns are left out.
    """

    whole: int
    head_chars: int
    code_chars: int | None = None
    drop: bool = False
    last_chars: int | None = None


_LADDER = (
    _Step(3, 300),
    _Step(2, 300),
    _Step(1, 300, 4000),
    _Step(1, 100, 400),
    _Step(1, 0, 0, drop=True),
    _Step(0, 0, 4000, drop=True, last_chars=4000),
    _Step(0, 0, 500, drop=True, last_chars=500),
)
_SUMMARY_STEP = 4


def _no_summary(_: str, /) -> str | None:
    return None


@dataclass(frozen=True)
class RootWindow:
    """The root model's window: ``tokens`` returns its tokens, None if unknown.

    ``learned`` takes the tokens that an endpoint's error names. ``summarise`` asks the sub model, and
    returns None if that fails.
    """

    tokens: Callable[[], int | None] = lambda: None
    learned: Callable[[int], None] = lambda _: None
    summarise: Callable[[str], str | None] = _no_summary


class _Cut(NamedTuple):
    """A shorter form of a chat's beginning: ``messages`` stand for its first ``length``."""

    step: int
    turns: int
    messages: tuple[Message, ...]
    length: int
    summary: str | None = None


class FittedChat:
    """Asks the root model with a job's chat, cut where it must be to fit into the window."""

    def __init__(
        self,
        spec: JobSpec,
        complete: Callable[[Sequence[Message]], Completion],
        journal: Journal,
        emit: Emit,
        window: RootWindow,
    ) -> None:
        self._mode = spec.compaction
        self._max_output_tokens = spec.root_parameters.max_output_tokens
        self._complete = complete
        self._journal = journal
        self._emit = emit
        self._known = window
        self._window: int | None = None
        self._tokens_a_char = 1 / CHARS_PER_TOKEN
        self._opening = 0
        self._cells: dict[int, list[int]] = {}
        self._cut = _Cut(0, 0, (), 0)

    def ask(self, turn: int, chat: Sequence[Message]) -> tuple[Completion, bool]:
        """The reply of a turn to the chat, and whether the journal had it.

        Raises:
            CallError: if the call failed; of kind ``too_long`` if even the shortest form of the chat does not
                fit.
        """
        self._opening = self._opening or len(chat)
        resumed = self._resume(turn, chat)
        completion, replayed = self._journal.reply(turn, lambda: self._ask(turn, chat, resumed))
        self._learn_rate(completion.usage, _chars(self._fitted(chat)))
        return completion, replayed

    def sent(self, turn: int, chat: Sequence[Message]) -> tuple[Message, ...]:
        """What a run of the job sent in a turn, by its journal; turns and cells are to be given in order."""
        self._opening = self._opening or len(chat)
        self._resume(turn, chat)
        return self._fitted(chat)

    def next_chars(self, chat: Sequence[Message], text: str) -> int:
        """The characters of the next request, if ``text`` is added to the chat."""
        chars = _chars(self._fitted(chat)) + len(text)
        if self._window is None or self._mode == "off":
            return chars
        most = int(START_AT * self._room(self._window) / self._tokens_a_char)
        return min(chars, max(most, _chars(chat[: self._opening]) + len(text)))

    def note_cell(self, turn: int, index: int) -> None:
        """Take note that the output of a cell of this turn is ``history[index]``."""
        self._cells.setdefault(turn, []).append(index)

    def forget_cells(self) -> None:
        """Take note that ``history`` is empty again."""
        self._cells.clear()

    def _ask(self, turn: int, chat: Sequence[Message], entries: int) -> Completion:
        if self._mode == "off":
            return self._complete(tuple(chat))
        if turn and self._window is None:  # before the first reply there is nothing to cut
            self._window = self._journal.window(self._known.tokens())
        if not entries and self._window is not None:
            room = self._room(self._window)
            if self._tokens(self._fitted(chat)) > START_AT * room and self._shorten(turn, chat, entries):
                entries += 1
        while True:
            messages = self._fitted(chat)
            try:
                return self._complete(messages)
            except CallError as error:
                if error.kind is not FailureKind.TOO_LONG:
                    raise
                self._learn_window(error.message, messages)
                if not self._shorten(turn, chat, entries):
                    raise _at_its_shortest(error, messages) from None
                entries += 1

    def _fitted(self, chat: Sequence[Message]) -> tuple[Message, ...]:
        return (*self._cut.messages, *chat[self._cut.length :])

    def _tokens(self, messages: Sequence[Message]) -> float:
        return _chars(messages) * self._tokens_a_char

    def _room(self, window: int) -> int:
        """The tokens that the chat may have, so that the reply fits too."""
        output = self._max_output_tokens or min(_USUAL_OUTPUT_TOKENS, window // 4)
        return max(window - output, window // 8)

    def _learn_rate(self, usage: Usage, chars: int) -> None:
        self._tokens_a_char = max(1 / CHARS_PER_TOKEN, usage.input_tokens / max(1, chars))

    def _learn_window(self, message: str, messages: Sequence[Message]) -> None:
        """Learn from an endpoint's error. If it names no window, what was sent is over it."""
        chars = max(1, _chars(messages))
        prompt, window = _PROMPT_TOKENS.search(message), _WINDOW_TOKENS.search(message)
        if window is None:
            self._window = max(1, round(chars * self._tokens_a_char))
            return
        self._window = int(window[1])
        self._known.learned(self._window)
        least = int(prompt[1]) if prompt else self._room(self._window)
        self._tokens_a_char = max(self._tokens_a_char, least / chars)

    def _shorten(self, turn: int, chat: Sequence[Message], entry: int) -> bool:
        """Cut the chat and write that down; False if no form of it is shorter than the present one."""
        assert self._window is not None
        before = _chars(self._fitted(chat))
        cut = self._choose(chat, before, _CUT_TO * self._room(self._window))
        if cut is None:
            return False
        said: dict[str, Any] = {"step": cut.step, "turns": cut.turns, "window": self._window}
        self._journal.compacted(turn, entry, said | ({"summary": cut.summary} if cut.summary else {}))
        self._take(turn, chat, cut, before)
        return True

    def _choose(self, chat: Sequence[Message], below: int, target_tokens: float) -> _Cut | None:
        """The longest form that leaves half of the room free, else the shortest if it is shorter."""
        shortest: _Cut | None = None
        if self._mode == "summary":
            cut = self._summarised(chat)
            if cut is not None and self._fits(chat, cut, below, target_tokens):
                return cut
        for step in range(len(_LADDER)):
            cut = self._make(chat, step)
            if self._fits(chat, cut, below, target_tokens):
                return cut
            if self._length(chat, cut) < below:
                below, shortest = self._length(chat, cut), cut
        return shortest

    def _fits(self, chat: Sequence[Message], cut: _Cut, below: int, target_tokens: float) -> bool:
        chars = self._length(chat, cut)
        return chars < below and chars * self._tokens_a_char <= target_tokens

    def _length(self, chat: Sequence[Message], cut: _Cut) -> int:
        return _chars(cut.messages) + _chars(chat[cut.length :])

    def _summarised(self, chat: Sequence[Message]) -> _Cut | None:
        turns = self._turns(chat) - _LADDER[_SUMMARY_STEP].whole
        first = self._cut.turns if self._cut.summary else 0
        if turns <= first:
            return None
        texts = [f"Summary of the turns before:\n{self._cut.summary}"] if self._cut.summary else []
        for turn in range(first, turns):
            reply, output = self._pair(chat, turn)
            texts += [reply.content, f"Output:\n{output.content}"]
        text = _middle_cut("\n\n".join(texts), _MAX_SUMMARISED_CHARS, "left out")
        summary = (self._known.summarise(_SUMMARISE + text) or "").strip()
        return self._make(chat, _SUMMARY_STEP, summary[:_MAX_SUMMARY_CHARS]) if summary else None

    def _resume(self, turn: int, chat: Sequence[Message]) -> int:
        """Cut the chat as an earlier run of the job did in this turn; return how often that was."""
        entries = self._journal.compactions(turn) if self._mode != "off" else []
        for done, entry in enumerate(entries):
            if entry["step"] >= len(_LADDER) or entry["turns"] > self._turns(chat):  # of another version
                return done
            before = _chars(self._fitted(chat))
            self._window = entry["window"]
            cut = self._make(chat, entry["step"], entry.get("summary"), entry["turns"])
            self._take(turn, chat, cut, before)
        return len(entries)

    def _take(self, turn: int, chat: Sequence[Message], cut: _Cut, before: int) -> None:
        self._cut = cut
        after = _chars(self._fitted(chat))
        how = ", summarised" if cut.summary else ""
        turns = f"turns 1-{cut.turns}" if cut.turns else "the chat"
        detail = f"{turns}: {before:,} → {after:,} characters{how}"
        self._emit(Marked(turn=turn, kind="compacted", detail=detail))

    def _turns(self, chat: Sequence[Message]) -> int:
        return (len(chat) - self._opening) // 2

    def _pair(self, chat: Sequence[Message], turn: int) -> Sequence[Message]:
        """The reply of a turn, and the message that followed it."""
        start = self._opening + 2 * turn
        return chat[start : start + 2]

    def _make(
        self, chat: Sequence[Message], number: int, summary: str | None = None, turns: int | None = None
    ) -> _Cut:
        """The form of the chat after a step of the ladder; by default its first ``turns`` are as it says."""
        step = _LADDER[number]
        if turns is None:
            turns = max(0, self._turns(chat) - step.whole)
        messages = list(chat[: self._opening])
        last = turns - 1 if step.last_chars is not None else turns
        if step.drop and last > 0:
            messages += self._left_out(last, summary)
        for turn in range(max(0, last) if step.drop else 0, turns):
            reply, output = self._pair(chat, turn)
            messages.append(Message(role="assistant", content=self._code(turn, reply.content, step)))
            text = output.content
            if turn == turns - 1 and step.last_chars is not None:
                text = _middle_cut(text, step.last_chars, f"left out; {self._whole([turn])}")
            else:
                text = _head(text, step.head_chars, self._whole([turn]))
            messages.append(Message(role="user", content=text))
        return _Cut(number, turns, tuple(messages), self._opening + 2 * turns, summary)

    def _left_out(self, turns: int, summary: str | None) -> tuple[Message, Message]:
        """The pair of messages that stands for the first turns."""
        text = (
            f"[Turns 1 to {turns} are left out of this chat, as it nears the length limit. Your variables "
            f"are still there, and {self._whole(range(turns))}.]"
        )
        if summary:
            text += f"\n\nA summary of them:\n{summary}"
        return Message(role="assistant", content=_EMPTY_REPLY), Message(role="user", content=text)

    def _code(self, turn: int, text: str, step: _Step) -> str:
        """The code of a reply; the head of its words if it has none."""
        whole = self._whole([turn])
        blocks = parse(text).blocks
        if not blocks:
            return _head(text, step.head_chars, "left out") or _EMPTY_REPLY
        if step.code_chars is not None:
            blocks = tuple(_head(code, step.code_chars, whole, "# ") for code in blocks)
        return "\n\n".join(f"```repl\n{code.rstrip()}\n```" for code in blocks)

    def _whole(self, turns: Sequence[int]) -> str:
        """Where the whole of these turns is, as part of a sentence."""
        cells = [cell for turn in turns for cell in self._cells.get(turn, ())]
        if not cells:
            return "the whole is gone"
        if len(cells) == 1:
            return f"the whole is in `history[{cells[0]}]`"
        return f"the whole is in `history[{cells[0]}]` to `history[{cells[-1]}]`"


def _chars(messages: Sequence[Message]) -> int:
    return sum(len(message.content) for message in messages)


def _head(text: str, chars: int, whole: str, mark: str = "") -> str:
    """The first characters of a text, and how long it is; the text itself if that is no longer."""
    note = f"{mark}[… {len(text):,} characters; {whole}]"
    if len(text) <= chars + len(note) + 1:
        return text
    return f"{text[:chars].rstrip()}\n{note}".lstrip("\n")


def _middle_cut(text: str, chars: int, why: str) -> str:
    """Head and tail of a text, with at most ``chars`` characters of its own."""
    if len(text) <= chars:
        return text
    tail = chars // 2
    left_out = len(text) - chars
    return f"{text[: chars - tail]}\n[… {left_out:,} characters {why} …]\n{text[len(text) - tail :]}"


def _at_its_shortest(error: CallError, messages: Sequence[Message]) -> CallError:
    chars = f"{_chars(messages):,}"
    message = f"{error.message.rstrip()}; its older turns are cut, and the chat still has {chars} characters"
    return CallError(error.kind, message)
