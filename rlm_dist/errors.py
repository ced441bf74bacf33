"""The errors of this package: one base class, each kind answers "what now?".

::

    RLMError
    ├── SettingsError      stop the process; the setting is named          (exit 2)
    ├── InputError         nothing was enqueued; every problem is listed   (exit 2)
    ├── NotFound           no such job, batch or context                   (exit 2)
    ├── Unreachable        Redis or the model endpoint does not answer     (exit 5)
    ├── LimitExceeded      end the job as ``exhausted``                    (exit 3)
    ├── Cancelled          end the job as ``cancelled``                    (exit 4)
    ├── JobFailed          a job that was waited for ended as ``failed``    (exit 1)
    ├── Superseded         another worker holds the job now: stop, write nothing
    ├── Parked             this worker lets the job go, another or a later one goes on with it
    ├── BlobError          a stored text is missing, damaged, or cannot be written
    ├── SandboxError       the REPL cannot be started
    └── CallError          one model call failed; ``kind`` says what to do with it

Every field goes positionally to ``super().__init__`` and the text is made in ``__str__``, so that an error
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
    """What the user handed in cannot be used; ``problems`` lists all of it."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class NotFound(RLMError):
    """There is no job, batch or context of this name."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind = kind
        self.name = name

    def __str__(self) -> str:
        return f"no such {self.kind}: {self.name}"


class Unreachable(RLMError):
    """A service that we depend on does not answer; ``hint`` names the ways on."""

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
    """A job or batch has used up one of its limits; ``used`` and ``limit`` share the unit of ``kind``."""

    def __init__(self, kind: str, used: float, limit: float) -> None:
        super().__init__(kind, used, limit)
        self.kind = kind
        self.used = used
        self.limit = limit

    def __str__(self) -> str:
        return f"limit {self.kind} reached: {self.used:g} of {self.limit:g} used"


class UnknownPrice(RLMError):
    """A call to this model was not made: there is a budget of money, and nobody knows what the call costs."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.model = model

    def __str__(self) -> str:
        return (
            f"a budget of money cannot be held: the price of model {self.model!r} is not known. Give it in a "
            "file that RLM_PRICES names, or set no budget of money: one of tokens needs no price."
        )


class Cancelled(RLMError):
    """The job was cancelled by its user."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"job {self.job_id} was cancelled"


class JobFailed(RLMError):
    """A job that was waited for ended as failed; ``kind`` and ``message`` are those of its result's error."""

    def __init__(self, job_id: str, kind: str, message: str) -> None:
        super().__init__(job_id, kind, message)
        self.job_id = job_id
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"job {self.job_id} failed: {self.kind}: {self.message}"


class Superseded(RLMError):
    """A newer holder has taken this job over: this one must stop and write nothing more."""

    def __init__(self, job_id: str, epoch: int) -> None:
        super().__init__(job_id, epoch)
        self.job_id = job_id
        self.epoch = epoch

    def __str__(self) -> str:
        return f"job {self.job_id}: epoch {self.epoch} is no longer the current one"


class Parked(RLMError):
    """This worker is to let the job go, in good order: another one, or a later one, goes on with it."""

    def __init__(self, job_id: str, why: str) -> None:
        super().__init__(job_id, why)
        self.job_id = job_id
        self.why = why

    def __str__(self) -> str:
        return f"job {self.job_id} was put back into the queue: {self.why}"


class ReplayDiverged(RLMError):
    """A cell that was run again came out otherwise than the journal says, and the job is to fail then."""

    def __init__(self, turn: int, block: int) -> None:
        super().__init__(turn, block)
        self.turn = turn
        self.block = block

    def __str__(self) -> str:
        return (
            f"turn {self.turn}, block {self.block + 1}: run again after the death of its worker, it came out "
            "otherwise than before, and on_divergence is fail. The journal is kept; a retry runs the code "
            "anew and pays for no call twice that it makes again."
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


class FailureKind(StrEnum):
    """What to do about a failed call."""

    RATE = "rate"  # retry after the time that was told
    TRANSIENT = "transient"  # retry with backoff
    TIMEOUT = "timeout"  # the call's deadline passed; retry as transient
    INVALID = "invalid"  # fail the call: the endpoint will never take it
    TOO_LONG = "too_long"  # fail the call: the prompt is over the model's window
    AUTH = "auth"  # key or permission: pause the batch, fail a job that has none
    QUOTA = "quota"  # the account has no money left: pause the batch, fail a job that has none
    OUTAGE = "outage"  # the endpoint has been away for too long: pause the batch, fail a job that has none
    UNKNOWN_MODEL = "unknown_model"  # fail the job: the endpoint has no such model
    LIMIT = "limit"  # fail the call, end the job as exhausted: a budget is used up
    CANCELLED = "cancelled"  # the job was cancelled while the call ran
    RETURNED = "returned"  # not made, as the worker stops or the job is over: whoever needs it asks again


RETRYABLE = frozenset({FailureKind.RATE, FailureKind.TRANSIENT, FailureKind.TIMEOUT})
DENIED = frozenset({FailureKind.AUTH, FailureKind.QUOTA})
PAUSING = DENIED | {FailureKind.OUTAGE}
FATAL = PAUSING | {FailureKind.UNKNOWN_MODEL}


class CallError(RLMError):
    """One model call failed for good, or (where its kind is retryable) for now."""

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
        """Whether every further call of the job would fail likewise."""
        return self.kind in FATAL

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"
