"""The root loop: ask the model, run its code and show it the output, until the model hands in an answer.

No I/O: the model, the REPL, the journal, the events and the budget are passed in. Roles alternate strictly
after the system prompt. Every decision of a turn rests on journaled outcomes, so a worker that takes a job
over makes the same decisions again.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from rlm_dist.engine import prompts
from rlm_dist.engine.answer_checks import AnswerChecks, AnswersRefused, Refusal, Review
from rlm_dist.engine.blocks import MOST_BLOCKS, BlockOrder, NotRun
from rlm_dist.engine.compaction import FittedChat, RootWindow
from rlm_dist.engine.failure_hints import FAILURE_HINTS
from rlm_dist.engine.journal import BudgetHint, Journal, bounded_partial
from rlm_dist.engine.observation import BlockResult, cut, observation
from rlm_dist.engine.parsing import ParsedReply, parse
from rlm_dist.engine.parsing.expressions import expression, unmarked
from rlm_dist.engine.program import program_completion, program_replied, program_reply
from rlm_dist.engine.prompts.answer_forms import refused
from rlm_dist.engine.prompts.families import PromptTexts
from rlm_dist.engine.repeats import NOTICE_AFTER, RepeatedErrors
from rlm_dist.engine.text_answers import AnswerDecision, TextAnswers
from rlm_dist.errors import (
    AnswerCheckFailed,
    CallError,
    Cancelled,
    FailureKind,
    LimitExceeded,
    ReplayDiverged,
    SandboxError,
    SettingsError,
)
from rlm_dist.schema import (
    CellResult,
    Completion,
    ErrorInfo,
    FinalValue,
    JobSpec,
    JobState,
    Message,
    Outcome,
    ReachedLimit,
    Resolved,
)
from rlm_dist.schema.events import REPLAY_DIVERGED, CellRan, Emit, Marked, MessageAdded, RootReplied

Complete = Callable[[Sequence[Message]], Completion]
Budget = Callable[[int], BudgetHint]
BeginSession = Callable[[], tuple[str, int]]

_UNKNOWN_WINDOW = RootWindow()
_NO_FILE = "RLM_PROMPTS: the job asks for the prompts of a file, and this worker's setting names none"
_WARN_AT_TURNS_LEFT = 3
# What is shown of an output before the last turn of a job that has reached a limit; room is kept for it.
LAST_OUTPUT_CHARS = 4000
EMPTY_REPLY = "(empty reply)"  # endpoints refuse a message without content


class Repl(Protocol):
    """The REPL of one job."""

    def run(self, code: str, began_ns: int, turn: int, /) -> CellResult:
        """Run a code block of a turn; its first look at the clock shows the Unix time ``began_ns``."""

    def resolve(self, path: str, /) -> Resolved:
        """Look up a variable or a simple path."""

    def restart(self) -> None:
        """Start a fresh REPL that holds only the context."""


class _BlocksRun(NamedTuple):
    results: list[BlockResult]
    not_run: list[NotRun]
    final: FinalValue | None


def run(
    spec: JobSpec,
    *,
    complete: Complete,
    repl: Repl,
    journal: Journal,
    emit: Emit,
    budget: Budget | None,
    review: Review | None = None,
    window: RootWindow = _UNKNOWN_WINDOW,
    texts: PromptTexts | None = None,
    tools: str = "",
    begin_session: BeginSession | None = None,
) -> Outcome:
    """Run a job's root loop to its end, starting where its journal ends.

    ``budget`` is called after each turn with the number of characters of the next request, and returns what
    to tell the model; None if the job has no limits. ``review`` checks more than the form of an answer.
    ``texts`` is the worker's prompt family of a file; a job that is resumed goes on with that of its journal.
    ``tools`` describes the job's tools to the model. ``begin_session`` rebuilds what earlier queries left in
    the REPL, and returns what to tell the model of them and how many blocks it ran; None if there is nothing.

    Raises:
        Superseded: another worker now holds the job.
        RLMError: the REPL, the store or the endpoint could not be reached.
    """
    fitted, checks = FittedChat(spec, complete, journal, emit, window), AnswerChecks(spec, journal, review)
    loop = _Loop(spec, fitted, repl, journal, emit, budget, checks)
    try:
        loop.open(texts, tools, begin_session)
        return loop.run()
    except LimitExceeded as error:
        loop.recover_partial_answer()
        return loop.end_at_limit(error)
    except Cancelled as error:
        return loop.end_without_answer(JobState.CANCELLED, "Cancelled", str(error))
    except ReplayDiverged as error:
        return loop.end_without_answer(JobState.FAILED, REPLAY_DIVERGED, str(error))
    except AnswersRefused as error:
        return loop.end_without_answer(JobState.EXHAUSTED, "AnswerNotConforming", str(error))
    except AnswerCheckFailed as error:
        return loop.end_without_answer(JobState.FAILED, "AnswerCheckFailed", str(error))
    except CallError as error:
        return loop.end_by_failed_call(error)


class _Loop:
    def __init__(
        self,
        spec: JobSpec,
        fitted: FittedChat,
        repl: Repl,
        journal: Journal,
        emit: Emit,
        budget: Budget | None,
        checks: AnswerChecks,
    ) -> None:
        self._spec = spec
        self._checks = checks
        self._fitted = fitted
        self._repl = repl
        self._journal = journal
        self._emit = emit
        self._budget = budget
        self._chat: list[Message] = []
        self._turn = 0
        self._replies = 0
        # The REPL's variables can be rebuilt from these: each cell's code, and when it first ran.
        self._cells: list[tuple[str, int]] = []
        self._in_session = False
        self._earlier_cells = 0  # of a session, before those of this job in ``history``
        self._code_ran = False
        self._deferred = False
        # The limits that calls did not fit into; once there is one, the next turn is the last.
        self._limits: dict[str, ReachedLimit] = {}
        self._peek = ""  # the prompt family's program
        self._first_message: Callable[[str], Message]
        self._answers = TextAnswers(repl.resolve)
        self._repeats = RepeatedErrors()
        self._draft: str | None = None
        self._last_words: str | None = None

    def open(self, texts: PromptTexts | None, tools: str, begin_session: BeginSession | None) -> None:
        """Begin the chat."""
        session = None
        if begin_session is not None:
            session, self._earlier_cells = begin_session()
            self._in_session = True
        begun_with = self._journal.prompts(texts)
        if begun_with is None and self._spec.prompts == "file":
            raise SettingsError((_NO_FILE,))
        if begun_with is not None and begun_with != texts:
            self._mark("prompts_changed", f"the job began with those of sha256 {begun_with.sha256[:12]}")
        begun_with_tools = self._journal.tools(tools)
        if begun_with_tools != tools:
            self._mark("tools_changed", "their descriptions differ from those that the job began with")
        if not self._spec.program:
            self._peek = self._family_program(begun_with)
        opening = partial(prompts.opening, self._spec, begun_with, begun_with_tools, session)
        messages = opening()
        for message in messages if not self._peek else messages[:-1]:
            self._say(message.role, message.content)
        self._first_message = lambda seen: opening(seen=seen)[-1]

    def _family_program(self, texts: PromptTexts | None) -> str:
        """The prompt family's program, if the root model has a turn after it.

        A job that an earlier version began with a reply goes on without it.
        """
        if self._in_session or self._spec.limits.max_iterations < 2 or self._journal.has_reply(0):
            return ""
        return prompts.family_program(self._spec, texts)

    def run(self) -> Outcome:
        limit = self._spec.limits.max_iterations
        turns = limit + 1 if self._spec.ask_at_limit else limit
        for self._turn in range(turns):
            if self._repeats.exceeded and self._turn < limit:
                return self._end_by_repeated_error()
            reached = next(iter(self._limits.values()), None)
            last = reached is not None or self._turn == turns - 1
            final = self._take_turn(limit - self._turn - 1, last=last)
            if final is not None:
                return Outcome(
                    state=JobState.SUCCEEDED,
                    answer=final.text,
                    answer_json=final.value,
                    iterations=self._replies,
                    limits_reached=tuple(self._limits),
                )
            if reached is not None:
                raise LimitExceeded(*reached)
        raise LimitExceeded("max_iterations", limit, limit)

    def _end_by_repeated_error(self) -> Outcome:
        message = f"the code raised the same {self._repeats.kind} in {self._repeats.turns} turns in a row"
        return self.end_without_answer(JobState.EXHAUSTED, "RepeatedError", message)

    def recover_partial_answer(self) -> None:
        """Read the draft that a cell stopped halfway left in ``answer``."""
        with contextlib.suppress(LimitExceeded, Cancelled, SandboxError):
            content = self._answers.resolve("answer").final
            if content is not None and content.text:
                self._draft = bounded_partial(content.text)

    def end_at_limit(self, error: LimitExceeded) -> Outcome:
        """The outcome of a job that a limit ends."""
        self._limits.setdefault(error.kind, ReachedLimit(*error.args))
        return self.end_without_answer(JobState.EXHAUSTED, "LimitExceeded", str(error))

    def end_without_answer(self, state: JobState, kind: str, message: str) -> Outcome:
        """The outcome of a job that ends without an answer."""
        partial = self._draft if self._draft is not None else self._last_words
        return Outcome(
            state=state,
            partial_answer=None if partial is None else bounded_partial(partial),
            error=ErrorInfo(type=kind, message=message),
            iterations=self._replies,
            limits_reached=tuple(self._limits),
        )

    def end_by_failed_call(self, error: CallError) -> Outcome:
        """The outcome of a job whose call of the root model failed for good."""
        if error.kind is FailureKind.LIMIT:
            return self.end_without_answer(JobState.EXHAUSTED, "LimitExceeded", error.message)
        if error.kind is FailureKind.CANCELLED:
            return self.end_without_answer(JobState.CANCELLED, "Cancelled", error.message)
        message = f"{error.message.rstrip()}\n{FAILURE_HINTS[error.kind]}"
        return self.end_without_answer(JobState.FAILED, error.kind.value, message)

    def _take_turn(self, turns_left: int, *, last: bool) -> FinalValue | None:
        if self._peek and self._turn == 0:
            return self._take_peek()
        program = self._spec.program if self._turn == 0 else ""
        completion = self._begin_program(program) if program else self._ask()
        reply = program_reply(program) if program else parse(completion.text)
        self._last_words = reply.visible.strip() or self._last_words
        self._answers.note_code(reply)
        results, not_run, final = self._run_blocks(reply)
        at_limit = turns_left < 0
        decision = AnswerDecision(final) if final else self._text_answer(reply, results, at_limit=at_limit)
        final, refusal = self._checked(decision.final)
        if final is not None or last:
            return final
        results += [decision.cell] if decision.cell else []
        notes = [note for note in (decision.note, refusal, *_complaints(reply, completion)) if note]
        notes += self._repeat_notes(results)
        self._say("user", self._observation(results, not_run, notes, turns_left))
        return None

    def _take_peek(self) -> FinalValue | None:
        """Run the family's program, whose output becomes part of the first message."""
        completion = program_completion(self._peek)
        self._emit(program_replied(completion, replayed=self._journal.has_cell(0, 0)))
        results, not_run, final = self._run_blocks(program_reply(self._peek))
        answer, _ = self._checked(final)
        if answer is not None:
            return answer
        max_chars = self._spec.max_output_chars
        seen = observation(results, max_chars=max_chars, not_run=not_run, title=prompts.SEEN)
        self._say("user", self._first_message(seen).content)
        return None

    def _checked(self, answer: FinalValue | None) -> tuple[FinalValue | None, str]:
        """The answer if it is accepted, or what to tell the model; a refused one is the partial answer."""
        if answer is None or not self._checks.active:
            return answer, ""
        self._draft = bounded_partial(answer.text)
        checked = self._checks.check(answer, self._turn)
        if not isinstance(checked, Refusal):
            return checked, ""
        self._mark("answer_refused", f"by the {checked.by}")
        return None, refused(checked.by, checked.reason)

    def _repeat_notes(self, results: Sequence[BlockResult]) -> list[str]:
        """The note on errors that repeat, if they do."""
        self._repeats.add([block.result for block in results])
        turns = self._repeats.turns
        if turns < NOTICE_AFTER:
            return []
        return [prompts.repeated_error(turns, self._repeats.kind, 2 * NOTICE_AFTER - turns)]

    def _observation(
        self, results: Sequence[BlockResult], not_run: Sequence[NotRun], notes: list[str], turns_left: int
    ) -> str:
        """The message after a turn, with the notes on what is left of the job's limits."""
        max_chars = self._spec.max_output_chars
        text = observation(results, max_chars=max_chars, not_run=not_run, notes=notes)
        if self._budget and not self._limits:
            budget, chars = self._budget, self._fitted.next_chars(self._chat, text)
            hint = self._journal.hint(self._turn, lambda: budget(chars))
            notes = [*notes, hint.text] if hint.text else notes
            self._note_limits([hint.last] if hint.last else [])
        if self._limits:
            max_chars = min(max_chars, LAST_OUTPUT_CHARS)
            notes = [
                *notes,
                prompts.last_turn([str(LimitExceeded(*limit)) for limit in self._limits.values()]),
            ]
        elif turns_left == 0:
            notes = [*notes, prompts.AT_LIMIT]
        elif turns_left <= _WARN_AT_TURNS_LEFT:
            notes = [*notes, prompts.turns_left(turns_left)]
        return observation(results, max_chars=max_chars, not_run=not_run, notes=notes)

    def _note_limits(self, limits: Iterable[ReachedLimit]) -> None:
        for limit in limits:
            if limit.kind not in self._limits:
                self._limits[limit.kind] = limit
                self._mark("limit_reached", str(LimitExceeded(*limit)))

    def _ask(self) -> Completion:
        start_s = time.monotonic()
        completion, replayed = self._fitted.ask(self._turn, self._chat)
        completion = completion.model_copy(update={"text": _clean(completion.text)})
        self._replies += 1
        self._emit(
            RootReplied(
                turn=self._turn,
                model=completion.model,
                usage=completion.usage,
                finish_reason=completion.finish_reason,
                seconds=0.0 if replayed else time.monotonic() - start_s,
                replayed=replayed,
            )
        )
        self._say("assistant", completion.text if completion.text.strip() else EMPTY_REPLY)
        return completion

    def _begin_program(self, program: str) -> Completion:
        """Put the job's program into the chat, in the place of a first reply."""
        completion = program_completion(program)
        self._emit(program_replied(completion, replayed=self._journal.has_cell(0, 0)))
        self._say("assistant", completion.text)
        return completion

    def _run_blocks(self, reply: ParsedReply) -> _BlocksRun:
        """Run the blocks until one hands in an answer; one that fails may keep others from running."""
        order = BlockOrder(reply.blocks, reply.repl)
        results: list[BlockResult] = []
        not_run: list[NotRun] = []
        for index, code in enumerate(reply.blocks):
            # A job that an earlier version ran further goes on with what it did.
            within = index < MOST_BLOCKS or self._journal.has_cell(self._turn, index)
            why = order.reason_to_skip(index, within=within)
            if why:
                not_run.append(NotRun(index + 1, why))
                continue
            block = self._run_cell(index, code)
            results.append(block)
            if block.result.final is not None:
                rest = range(index + 2, len(reply.blocks) + 1)
                not_run += [NotRun(number, f"block {index + 1} handed in an answer") for number in rest]
                return _BlocksRun(results, not_run, block.result.final)
            if block.result.state_lost:
                order.stop(index)
            elif block.result.error is not None:
                order.fail(index)
        return _BlocksRun(results, not_run, None)

    def _run_cell(self, block: int, code: str) -> BlockResult:
        result, repl_result, began_ns, replayed, diverged = self._journal.cell(
            self._turn, block, code, lambda began_ns: self._repl.run(code, began_ns, self._turn)
        )
        self._code_ran = True
        self._note_limits(result.limits)
        self._draft = result.partial if result.partial is not None else self._draft
        self._emit(
            CellRan(
                turn=self._turn,
                block=block,
                code=code,
                output=_clean(cut(result.output, self._spec.max_output_chars)),
                error=result.error,
                seconds=result.seconds,
                calls=result.calls,
                failed_calls=result.failed_calls,
                truncated_calls=result.truncated_calls,
                unused_calls=result.unused_calls,
                state_lost=result.state_lost,
                replayed=replayed,
            )
        )
        if diverged:
            self._mark(REPLAY_DIVERGED, f"block {block + 1}")
            if self._spec.on_divergence == "fail":
                raise ReplayDiverged(self._turn, block)
        if not repl_result.state_lost:
            self._fitted.note_cell(self._turn, self._earlier_cells + len(self._cells))
            self._cells.append((code, began_ns))
            return BlockResult(result, number=block + 1)
        goes_on = result.final is None or self._checks.active
        return BlockResult(result, self._rebuild() if goes_on else "", block + 1)

    def _rebuild(self) -> str:
        """Restart the REPL and rebuild the variables of earlier blocks; return a note on the result."""
        self._repl.restart()
        if not self._cells:
            return prompts.SESSION_LEFT if self._in_session else prompts.NONE_LEFT
        for code, began_ns in self._cells:
            if self._repl.run(code, began_ns, self._turn).state_lost:
                self._cells = []
                self._fitted.forget_cells()
                self._repl.restart()
                self._mark("state_lost", "the earlier blocks could not be run again")
                return "They could not be rebuilt: begin again from `context`."
        self._mark("state_rebuilt", f"{len(self._cells)} earlier blocks were run again")
        return (
            "The earlier blocks were run again, so the variables from before this block are back; what this "
            "block did is not."
        )

    def _text_answer(
        self, reply: ParsedReply, results: Sequence[BlockResult], *, at_limit: bool
    ) -> AnswerDecision:
        """Accept the answer in the reply's text, if it may be accepted now."""
        answer = reply.answer
        if answer is None:
            self._deferred = False
            if at_limit and reply.plain:
                return AnswerDecision(FinalValue(reply.visible.strip(), None, "FINAL"))
            return AnswerDecision()
        if reply.cut and not at_limit:
            return AnswerDecision()
        printed = any(_has_output(block.result) for block in results)
        if not at_limit and not self._deferred and (printed or reply.unfenced):
            self._deferred = True
            return AnswerDecision(note=prompts.DEFERRED if printed else prompts.UNFENCED_CODE)
        self._deferred = False
        bare = unmarked(answer.argument)
        parsed = expression(bare) if answer.kind == "FINAL" and not answer.quoted else None
        is_code = parsed is not None and not parsed.wordlike
        if not self._code_ran and not is_code and self._spec.early_final == "refuse" and not at_limit:
            return AnswerDecision(note=prompts.LOOK_FIRST)
        decision = self._answers.accept(answer, parsed, reply, self._run_cell)
        if decision.final is not None and not self._code_ran:
            self._mark("early_final", "answered before any code ran")
        return decision

    def _say(self, role: str, text: str) -> None:
        message = Message.model_validate({"role": role, "content": _clean(text)})
        self._chat.append(message)
        self._emit(MessageAdded(turn=self._turn, role=message.role, text=message.content))

    def _mark(self, kind: str, detail: str) -> None:
        self._emit(Marked(turn=self._turn, kind=kind, detail=detail))


def _has_output(result: CellResult) -> bool:
    return bool(result.output.head.strip() or result.output.tail.strip() or result.error)


def _complaints(reply: ParsedReply, completion: Completion) -> list[str]:
    """The notes on what is wrong with the form of a reply."""
    cut_off = completion.finish_reason == "length"
    if reply.empty:
        return [prompts.CUT_REPLY if cut_off else prompts.EMPTY]
    if reply.cut:
        return [prompts.CUT_CODE if cut_off else prompts.UNCLOSED_CODE]
    if reply.unknown_tools:
        return [prompts.unknown_tools(reply.unknown_tools)]
    if reply.blocks or reply.answer is not None:
        return []
    if cut_off:
        return [prompts.CUT_REPLY]
    if reply.skipped:
        return [prompts.only_skipped(reply.skipped)]
    if reply.loose:
        return [prompts.UNFENCED_CODE]
    return [prompts.MISPLACED if reply.names_final else prompts.NOTHING_FOUND]


def _clean(text: str) -> str:
    """The text with each lone surrogate replaced, since UTF-8 cannot encode one."""
    return text.encode("utf-8", "replace").decode("utf-8")
