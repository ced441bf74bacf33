"""The checks of a job's answers that take more than the answer: its context, a user's function, a model.

The cheapest is made first, and the first that refuses an answer decides.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from rlm_dist.contexts.stored_texts import read_texts
from rlm_dist.engine.answer_checks import Refusal
from rlm_dist.engine.parsing.json_values import read_json
from rlm_dist.errors import RLMError
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.root_worker.judge import judge
from rlm_dist.root_worker.quotes import missing, quotes_at
from rlm_dist.root_worker.validators import ValidatorRun, load_validator
from rlm_dist.schema import Answer, JobSpec, Message

_SHOWN_QUOTES = 3
_SHOWN_CHARS = 200


class AnswerReview:
    """The checks of one run of one job."""

    def __init__(self, spec: JobSpec, fan_out: FanOut, context_path: Path, validators: Sequence[str]) -> None:
        """``validators`` are the import paths that this worker allows.

        Raises:
            AnswerCheckFailed: if the job's validator cannot be used here.
        """
        self._spec = spec
        self._fan_out = fan_out
        self._context_path = context_path
        path = spec.validator
        self._validator = None if path is None else ValidatorRun(path, load_validator(path, validators))
        self._error: RLMError | None = None

    def __call__(self, answer: JsonValue, turn: int) -> Refusal | None:
        """Why an answer, handed in in this turn, is refused; None if it is accepted.

        Raises:
            AnswerCheckFailed, CallError, LimitExceeded: if it could not be checked.
            RLMError: the error passed to ``abort``.
        """
        spec = self._spec
        self._go_on()
        if spec.quote_check is not None and (problem := self._quotes(spec.quote_check, answer)):
            return Refusal("quote_check", problem)
        if self._validator and (reason := self._validator.reason(answer, spec.query, spec.metadata)):
            return Refusal("validator", reason)
        if spec.judge is not None:

            def ask(messages: tuple[Message, ...]) -> Answer:
                (reply,) = self._fan_out.query([messages], spec.judge_model, turn=turn, by_user=True)
                return reply

            if verdict := judge(spec, answer, ask, self._fan_out.take_limits):
                return Refusal("judge", verdict)
        return None

    def abort(self, error: RLMError) -> None:
        """Let the check under way, and later ones, raise ``error``."""
        self._error = self._error or error
        if self._validator is not None:
            self._validator.abort(error)

    def _go_on(self) -> None:
        if self._error is not None:
            raise self._error

    def _quotes(self, path: str, answer: JsonValue) -> str:
        try:
            quotes = quotes_at(path, _structured(answer))
        except (ValueError, RecursionError) as error:
            return str(error)
        lost = missing(quotes, read_texts(self._context_path), self._go_on)
        if not lost:
            return ""
        shown = "\n".join(f"- {_short(quote)}" for quote in lost[:_SHOWN_QUOTES])
        more = f"\n… and {len(lost) - _SHOWN_QUOTES:,} more" if len(lost) > _SHOWN_QUOTES else ""
        return f"Not in the context, of {len(quotes):,} in `{path}`:\n{shown}{more}"


def make_review(
    spec: JobSpec, fan_out: FanOut, context_path: Path, validators: Sequence[str]
) -> AnswerReview | None:
    """The review of a job's answers; None if it asks for none.

    Raises:
        AnswerCheckFailed: as ``AnswerReview``.
    """
    if spec.quote_check is None and spec.validator is None and spec.judge is None:
        return None
    return AnswerReview(spec, fan_out, context_path, validators)


def _structured(answer: JsonValue) -> JsonValue:
    """The JSON value that a str holds, if it holds one: only a value has fields."""
    try:
        return read_json(answer) if isinstance(answer, str) else answer
    except ValueError:
        return answer


def _short(quote: str) -> str:
    return quote if len(quote) <= _SHOWN_CHARS else f"{quote[:_SHOWN_CHARS]} …"
