"""The errors of this package: one base class; each kind answers "what now?".

::

    RLMError
    ├── SettingsError      stop the process; the setting is named          (exit 2)
    ├── InputError         nothing was enqueued; every problem is listed   (exit 2)
    ├── NotFound           no such job, batch or context                   (exit 2)
    ├── Unreachable        Redis or the model endpoint does not answer     (exit 5)
    ├── LimitExceeded      end the job as ``exhausted``                    (exit 3)
    ├── Cancelled          end the job as ``cancelled``                    (exit 4)
    ├── UnknownPrice       a money budget, but no price for the model: end the job as ``failed``
    ├── JobFailed          the awaited job ended as ``failed`` or ``exhausted``  (exit 1)
    ├── ClientClosed       the client was closed: make another one
    ├── NoAnswer           tells Celery that the job of this task ended as ``failed`` or ``exhausted``
    ├── Superseded         another worker now holds the job: stop, write nothing
    ├── Parked             this worker releases the job; another worker continues it, now or later
    ├── ReplayDiverged     a replayed cell differs from its journal: end the job as ``failed``
    ├── BlobError          a stored text is missing, damaged, or cannot be written
    ├── SandboxError       the REPL cannot be started
    ├── AnswerCheckFailed  an answer could not be checked: end the job as ``failed``
    ├── ReplLost           what asked is gone: nobody waits for this answer
    ├── ModelNotAllowed    model-written code named a model that its job may not use: raise it there
    ├── ToolNotAllowed     the job names a tool that this worker does not offer: end it as ``failed``
    └── CallError          one model call failed; ``kind`` says what to do with it

Every field goes positionally to ``super().__init__`` and ``__str__`` makes the text, so that an error
survives pickle and Celery's JSON.
"""

from enum import StrEnum


class RLMError(Exception):
    """Base of all errors that this package raises on purpose."""


class SettingsError(RLMError):
    """A setting has a value that cannot be used."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "bad settings: " + "; ".join(self.problems)


class InputError(RLMError):
    """The user's input cannot be used; ``problems`` lists everything that is wrong with it."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class NotFound(RLMError):
    """There is no job, batch or context with this name."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind = kind
        self.name = name

    def __str__(self) -> str:
        return f"no such {self.kind}: {self.name}"


class Unreachable(RLMError):
    """A service that we depend on does not answer; ``hint`` says what the user can do."""

    def __init__(self, service: str, address: str, detail: str, hint: str = "") -> None:
        super().__init__(service, address, detail, hint)
        self.service = service
        self.address = address
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.service} at {self.address} cannot be reached: {self.detail}"
        return f"{text}\n{self.hint}" if self.hint else text


class LimitExceeded(RLMError):
    """A job or batch has used up one of its limits; all numbers share the unit of ``kind``.

    ``needed`` is what the next call needs at the least, 0 if that is not known or has no meaning.
    """

    def __init__(self, kind: str, used: float, limit: float, needed: float = 0) -> None:
        super().__init__(kind, used, limit, needed)
        self.kind = kind
        self.used = used
        self.limit = limit
        self.needed = needed

    def __str__(self) -> str:
        limit, needed = self._shown(self.limit), self._shown(self.needed)
        needed += " tokens" if self.kind.endswith("max_tokens") else ""
        if self.needed and not self.used:
            return f"the first call needs about {needed}; {self.kind} is {limit}"
        text = f"limit {self.kind} reached: {self._shown(self.used)} of {limit} used"
        return f"{text} or reserved, and the next call needs about {needed}" if self.needed else text

    def _shown(self, amount: float) -> str:
        return f"${amount:,.4g}" if self.kind.endswith("max_usd") else f"{amount:,.10g}"


class UnknownPrice(RLMError):
    """A call was not made: there is a money budget, and the price of the model is unknown."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.model = model

    def __str__(self) -> str:
        return (
            f"a money budget cannot be enforced: the price of model {self.model!r} is unknown. Add it to a "
            "file that RLM_PRICES names, or set no money budget: a token budget needs no price."
        )


class Cancelled(RLMError):
    """The job was cancelled by its user."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"job {self.job_id} was cancelled"


class JobFailed(RLMError):
    """The job that the caller waited for has no answer; ``kind`` and ``message`` are its result's error."""

    def __init__(self, job_id: str, kind: str, message: str) -> None:
        super().__init__(job_id, kind, message)
        self.job_id = job_id
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"job {self.job_id} failed: {self.kind}: {self.message}"


class ClientClosed(RLMError):
    """The client, or the client of this handle, was closed."""

    def __str__(self) -> str:
        return "this client is closed; make another one to go on"


class NoAnswer(RLMError):
    """A root task's job ended without an answer; no field holds a text of a prompt, context or answer."""

    def __init__(self, job_id: str, state: str, reason: str) -> None:
        super().__init__(job_id, state, reason)
        self.job_id = job_id
        self.state = state
        self.reason = reason

    def __str__(self) -> str:
        return f"job {self.job_id} ended as {self.state}: {self.reason}"


class Superseded(RLMError):
    """A newer holder has taken the job over: this worker must stop and write nothing more."""

    def __init__(self, job_id: str, epoch: int) -> None:
        super().__init__(job_id, epoch)
        self.job_id = job_id
        self.epoch = epoch

    def __str__(self) -> str:
        return f"job {self.job_id}: epoch {self.epoch} is no longer the current one"


class Parked(RLMError):
    """This worker is to release the job in an orderly way; another worker continues it, now or later."""

    def __init__(self, job_id: str, why: str) -> None:
        super().__init__(job_id, why)
        self.job_id = job_id
        self.why = why

    def __str__(self) -> str:
        return f"job {self.job_id} was put back into the queue: {self.why}"


class ReplayDiverged(RLMError):
    """A cell that was run again differs from its journal, and the job asks to fail in that case."""

    def __init__(self, turn: int, block: int) -> None:
        super().__init__(turn, block)
        self.turn = turn
        self.block = block

    def __str__(self) -> str:
        return (
            f"turn {self.turn}, block {self.block + 1}: its worker died, the block was run again with a "
            "different result, and on_divergence is fail. The journal is kept. A retry runs the code again; "
            "if it repeats a call, that call is not paid for twice."
        )


class BlobError(RLMError):
    """A stored text is missing, damaged, or cannot be written."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(key, detail)
        self.key = key
        self.detail = detail

    def __str__(self) -> str:
        return f"blob {self.key}: {self.detail}"


class SandboxError(RLMError):
    """The REPL's process cannot be started or does not speak its protocol."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"sandbox: {self.detail}"


class ReplLost(RLMError):
    """The REPL whose code asked has ended; what it asked for goes on."""

    def __str__(self) -> str:
        return "the REPL that asked has ended"


class AnswerCheckFailed(RLMError):
    """A check of a job's answers cannot be made; the text has nothing of an answer."""


class ModelNotAllowed(RLMError):
    """Model-written code named a model that its job may not use; ``allowed`` are those that it may."""

    def __init__(self, model: str, allowed: tuple[str, ...]) -> None:
        super().__init__(model, allowed)
        self.model = model
        self.allowed = tuple(allowed)

    def __str__(self) -> str:
        return f"model {self.model[:100]!r} cannot be used here; leave it out, or use one of: " + ", ".join(
            self.allowed
        )


class ToolNotAllowed(RLMError):
    """A job names a tool that the worker cannot offer; ``offered`` are the names that it can."""

    def __init__(self, tool: str, offered: tuple[str, ...], why: str = "is not offered") -> None:
        super().__init__(tool, offered, why)
        self.tool = tool
        self.offered = tuple(offered)
        self.why = why

    def __str__(self) -> str:
        names = ", ".join(self.offered) or "none"
        return f"the tool {self.tool[:100]!r} {self.why} by the worker that runs the job; it offers: {names}"


class FailureKind(StrEnum):
    """What to do about a failed call."""

    RATE = "rate"  # retry after the time that the endpoint named
    TRANSIENT = "transient"  # retry with backoff
    TIMEOUT = "timeout"  # the call's deadline passed; retry as transient
    INVALID = "invalid"  # fail the call: the endpoint will never accept it
    NO_ANSWER = "no_answer"  # fail the call: the reply was paid for and has no answer; it would come again
    TOO_LONG = "too_long"  # fail the call: the prompt is longer than the model's window
    AUTH = "auth"  # key or permission: pause the batch, fail a job without a batch
    QUOTA = "quota"  # the account has no credit left: pause the batch, fail a job without one
    OUTAGE = "outage"  # the endpoint has been away for too long: pause the batch, fail a job without one
    UNKNOWN_MODEL = "unknown_model"  # fail the job: the endpoint has no such model
    LIMIT = "limit"  # fail the call, end the job as exhausted: a budget is used up
    CANCELLED = "cancelled"  # the job was cancelled while the call ran
    RETURNED = "returned"  # not made: the worker stops or the job is over; whoever needs it makes it again


RETRYABLE = frozenset({FailureKind.RATE, FailureKind.TRANSIENT, FailureKind.TIMEOUT})
DENIED = frozenset({FailureKind.AUTH, FailureKind.QUOTA})
PAUSING = DENIED | {FailureKind.OUTAGE}
FATAL = PAUSING | {FailureKind.UNKNOWN_MODEL}


class CallError(RLMError):
    """One model call failed for good or, if its kind is retryable, for now."""

    def __init__(self, kind: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(kind, message, retry_after_s)
        self.kind = FailureKind(kind)
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.kind in RETRYABLE

    @property
    def fatal(self) -> bool:
        """Whether every further call of the job would fail in the same way."""
        return self.kind in FATAL

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"
