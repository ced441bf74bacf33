"""The journal of a job: run a step, or return what an earlier run of that step wrote down.

An entry is one JSON object with ``"v": 1`` and a type ``"t"``:

``{"v":1,"t":"reply","turn":0,"completion":{…}}``
    a root model's reply, as ``schema.Completion``
``{"v":1,"t":"cell","turn":0,"block":0,"code":"<sha256>","output":["head","tail",omitted],"error":null,
"final":[text,value,by]|null,"partial":null,"state_lost":false,"calls":0,"failed_calls":0,"truncated_calls":0,
"seconds":0.1,"began_ns":1}``
    what a code block did, as ``schema.CellResult``, and the Unix time at which it began; earlier versions
    did not write ``began_ns`` and ``truncated_calls``. ``"limits":[[kind,used,limit,needed]]`` if it met any,
    ``"unused_calls":1`` if there are any
``{"v":1,"t":"hint","turn":0,"text":"…"|null,"last":[kind,used,limit,needed]|null}``
    the sentence on the budget that the model got after a turn, so that a replayed chat is the same, and the
    limit that made the next turn the last one (absent if there was none)
``{"v":1,"t":"verdict","turn":0,"answer":"<sha256>","by":"judge","reason":"…"}``
    what became of an answer that was reviewed, by the hash of its value; ``by`` is empty if it was accepted
``{"v":1,"t":"prompts","turn":0,"texts":{…}}``
    the prompt family of a file with which the job began, as ``PromptTexts``
``{"v":1,"t":"window","turn":0,"tokens":200000}``
    the root model's window, as far as it was known when the job began
``{"v":1,"t":"compacted","turn":9,"block":0,"step":0,"turns":6,"window":200000,"summary":"…"}``
    how the chat was cut before the model was asked in a turn, see ``compaction``; ``summary`` if there is one

``{"v":1,"t":"tools","turn":0,"text":"…"}``
    the description of the job's tools with which the job began; absent if it has none
``{"v":1,"t":"session","turn":0,"text":"…"}``
    what the first message of a session's later query says of the earlier ones. In each job of a session, the
    entry of a cell also has its ``source``, since later jobs of the session run it again

A partial answer is cut to ``PARTIAL_BYTES``. The REPL reports it only if it changed.

Entries of a sample after the first have its number, ``"sample":1``.

A later entry for the same step replaces an earlier one. An entry that cannot be read, or that has another
version, is ignored: its step is run again.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import ValidationError

from rlm_dist.engine.prompts.families import PromptTexts
from rlm_dist.schema import CellResult, Clipped, Completion, FinalValue, ReachedLimit

_VERSION = 1
PARTIAL_BYTES = 2**20
_MARK_BYTES = 100
_Key = tuple[str, int, int]


class CellRun(NamedTuple):
    """A cell that ran: ``shown`` is the result that the chat keeps, ``actual`` what the REPL did this time.

    ``began_ns`` is the Unix time at which it first ran.
    """

    shown: CellResult
    actual: CellResult
    began_ns: int
    replayed: bool
    diverged: bool


class BudgetHint(NamedTuple):
    """What a budget says after a turn: a sentence to the model, and the limit if only one turn is left."""

    text: str | None = None
    last: ReachedLimit | None = None


class RecordedCell(NamedTuple):
    """A cell of an earlier query: where its code stood, when it first ran (Unix), and what it did."""

    turn: int
    block: int
    code: str
    began_ns: int
    result: CellResult

    def same(self, actual: CellResult, *, with_output: bool) -> bool:
        """Whether it did the same again; its output counts only if it was cut in the same way."""
        shown = replace(actual, partial=None)
        return _same(self.result, shown if with_output else replace(shown, output=self.result.output))


class Journal:
    """The recorded steps of one sample of a job; a step that is not recorded is run and appended.

    If ``keeps_code``, the code of each cell is written down, too.
    """

    def __init__(
        self,
        entries: Iterable[str],
        append: Callable[[str], None],
        sample: int = 0,
        *,
        keeps_code: bool = False,
    ) -> None:
        self._append = append
        self._keeps_code = keeps_code
        self._sample: dict[str, object] = {"sample": sample} if sample else {}
        self._entries: dict[_Key, dict[str, Any]] = {}
        for text in entries:
            entry = _read(text)
            if entry is not None and entry.get("sample", 0) == sample:
                self._entries[entry["t"], entry["turn"], entry.get("block", 0)] = entry

    def reply(self, turn: int, ask: Callable[[], Completion]) -> tuple[Completion, bool]:
        """The reply of a turn, and whether the journal had it; if not, the model is asked."""
        entry = self._entries.get(("reply", turn, 0))
        if entry is not None:
            try:
                return Completion.model_validate(entry["completion"]), True
            except (KeyError, ValidationError):
                pass
        completion = ask()
        self._write("reply", turn, completion=completion.model_dump(mode="json"))
        return completion, False

    def has_reply(self, turn: int) -> bool:
        """Whether an earlier run of the job wrote down a reply of this turn."""
        return ("reply", turn, 0) in self._entries

    def cell(self, turn: int, block: int, code: str, run: Callable[[int], CellResult]) -> CellRun:
        """Run a cell; if the journal has it, the chat keeps the journaled result.

        ``run`` gets the time at which the cell first ran. A cell that ended the REPL the first time is not
        run again: it would only end it again.
        """
        digest = _digest(code)
        entry = self._entries.get(("cell", turn, block), {})
        journaled = self._cell(entry, digest)
        began_ns = time.time_ns()
        if journaled is not None:
            began_ns = entry.get("began_ns", began_ns)
            actual = journaled if journaled.state_lost else _bounded(run(began_ns))
            return CellRun(journaled, actual, began_ns, True, not _same(journaled, actual))
        actual = _bounded(run(began_ns))
        source = {"source": code} if self._keeps_code else {}
        self._write("cell", turn, block=block, code=digest, **_pack(actual), began_ns=began_ns, **source)
        return CellRun(actual, actual, began_ns, False, False)

    def has_cell(self, turn: int, block: int) -> bool:
        """Whether an earlier run of the job wrote down this cell."""
        return ("cell", turn, block) in self._entries

    def hint(self, turn: int, ask: Callable[[], BudgetHint]) -> BudgetHint:
        """The hint on the budget after a turn, the same in every run of the job."""
        entry = self._entries.get(("hint", turn, 0))
        if entry is not None and isinstance(entry.get("text"), str | None):
            last = entry.get("last")
            return BudgetHint(entry.get("text"), ReachedLimit(*last) if last else None)
        hint = ask()
        self._write("hint", turn, text=hint.text, **({"last": hint.last} if hint.last else {}))
        return hint

    def verdict(self, turn: int, answer: str, ask: Callable[[], tuple[str, str]]) -> tuple[str, str]:
        """What refused the answer of a turn, and why, the same in every run; ``answer`` is its hash."""
        entry = self._entries.get(("verdict", turn, 0), {})
        by, reason = entry.get("by"), entry.get("reason")
        if entry.get("answer") == answer and isinstance(by, str) and isinstance(reason, str):
            return by, reason
        by, reason = ask()
        self._write("verdict", turn, answer=answer, by=by, reason=reason)
        return by, reason

    def prompts(self, texts: PromptTexts | None) -> PromptTexts | None:
        """The family of a file with which the job began; a resumed job goes on with it."""
        entry = self._entries.get(("prompts", 0, 0))
        if entry is not None:
            try:
                return PromptTexts.model_validate(entry["texts"])
            except (KeyError, ValidationError):
                pass
        if texts is not None:
            self._write("prompts", 0, texts=texts.model_dump(mode="json"))
        return texts

    def window(self, tokens: int | None) -> int | None:
        """The root model's window that the job began with."""
        entry = self._entries.get(("window", 0, 0))
        if entry is not None and _is_count(entry.get("tokens")):
            return int(entry["tokens"])
        if tokens is not None:
            self._write("window", 0, tokens=tokens)
        return tokens

    def compactions(self, turn: int) -> list[dict[str, Any]]:
        """How the chat was cut before the model was asked in a turn, in order."""
        entries: list[dict[str, Any]] = []
        while (entry := self._entries.get(("compacted", turn, len(entries)))) is not None:
            if not all(_is_count(entry.get(name)) for name in ("step", "turns", "window")):
                break
            entries.append(entry)
        return entries

    def compacted(self, turn: int, number: int, fields: dict[str, Any]) -> None:
        """Write down a compaction; ``number`` counts those of a turn from 0."""
        self._write("compacted", turn, block=number, **fields)

    def tools(self, text: str) -> str:
        """The description of the job's tools, the same in every run of the job, whatever a worker has now."""
        stored = self._entries.get(("tools", 0, 0), {}).get("text")
        if isinstance(stored, str):
            return stored
        if text:
            self._write("tools", 0, text=text)
        return text

    def session(self, tell: Callable[[], str]) -> str:
        """What the chat says of the earlier queries of a session, the same in every run of the job."""
        text = self._entries.get(("session", 0, 0), {}).get("text")
        if not isinstance(text, str):
            text = tell()
            self._write("session", 0, text=text)
        return text

    def cells(self) -> list[RecordedCell]:
        """The cells whose variables later queries of the session find, in the order in which they ran.

        Raises:
            ValueError: if the code of one is missing.
        """
        cells: list[RecordedCell] = []
        for (kind, turn, block), entry in sorted(self._entries.items()):
            result = self._cell(entry, entry.get("code", "")) if kind == "cell" else None
            if kind != "cell" or (result is not None and result.state_lost):
                continue
            if result is None or _digest(entry.get("source") or "") != entry["code"]:
                raise ValueError(f"turn {turn}, block {block + 1}: its code is missing")
            cells.append(RecordedCell(turn, block, entry["source"], entry["began_ns"], result))
        return cells

    def _cell(self, entry: dict[str, Any], digest: str) -> CellResult | None:
        if entry.get("code") != digest:
            return None
        try:
            return _bounded(_unpack(entry))
        except (KeyError, TypeError, ValueError):
            return None

    def _write(self, kind: str, turn: int, **fields: object) -> None:
        entry = {"v": _VERSION, "t": kind, "turn": turn, **fields, **self._sample}
        self._append(json.dumps(entry, separators=(",", ":")))


def bounded_partial(text: str) -> str:
    """A partial answer of at most ``PARTIAL_BYTES``; one that is longer is cut, and says so."""
    if len(text) <= PARTIAL_BYTES // 4:  # a character has at most 4 bytes
        return text
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= PARTIAL_BYTES:
        return text
    head = data[: PARTIAL_BYTES - _MARK_BYTES].decode("utf-8", "ignore")
    return f"{head}\n[… cut here: the whole has {len(text):,} characters …]"


def _bounded(result: CellResult) -> CellResult:
    return result if result.partial is None else replace(result, partial=bounded_partial(result.partial))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _read(text: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or entry.get("v") != _VERSION:
        return None
    return entry if isinstance(entry.get("t"), str) and isinstance(entry.get("turn"), int) else None


def _pack(result: CellResult) -> dict[str, object]:
    return {
        "output": [result.output.head, result.output.tail, result.output.omitted],
        "error": result.error,
        "final": list(result.final) if result.final else None,
        "partial": result.partial,
        "state_lost": result.state_lost,
        "calls": result.calls,
        "failed_calls": result.failed_calls,
        "truncated_calls": result.truncated_calls,
        "seconds": result.seconds,
        **({"unused_calls": result.unused_calls} if result.unused_calls else {}),
        **({"limits": result.limits} if result.limits else {}),
    }


def _unpack(entry: dict[str, Any]) -> CellResult:
    head, tail, omitted = entry["output"]
    return CellResult(
        output=Clipped(head, tail, omitted),
        error=entry["error"],
        final=FinalValue(*entry["final"]) if entry["final"] else None,
        partial=entry["partial"],
        state_lost=entry["state_lost"],
        calls=entry["calls"],
        failed_calls=entry["failed_calls"],
        truncated_calls=entry.get("truncated_calls", 0),
        unused_calls=entry.get("unused_calls", 0),
        seconds=entry["seconds"],
        limits=tuple(ReachedLimit(*limit) for limit in entry.get("limits", ())),
    )


def _same(journaled: CellResult, actual: CellResult) -> bool:
    """Whether a cell did the same again; earlier versions also wrote down a draft that had not changed."""
    if actual.partial is not None and actual.partial != journaled.partial:
        return False
    return (journaled.output, journaled.error, journaled.final, journaled.state_lost) == (
        actual.output,
        actual.error,
        actual.final,
        actual.state_lost,
    )
