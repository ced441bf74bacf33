"""What a user can do about a root model's call that failed for good."""

from rlm_dist.errors import FailureKind

FAILURE_HINTS = {
    FailureKind.AUTH: "Check RLM_API_KEY, and what this key is allowed to do.",
    FailureKind.QUOTA: "The account behind this key has no credit left: top it up, or use another key.",
    FailureKind.UNKNOWN_MODEL: "Set RLM_MODEL, or the job's model, to a model that the endpoint lists.",
    FailureKind.TOO_LONG: (
        "The chat is longer than the root model's window: use a model with a larger window, lower "
        "RLM_MAX_OUTPUT_CHARS, or shorten the query and the instructions."
    ),
    FailureKind.INVALID: "The endpoint does not accept this request as it stands.",
    FailureKind.NO_ANSWER: "The model's reply had no answer: use another model, or raise its output limit.",
    FailureKind.RATE: "The endpoint kept refusing the call because of its rate limit: retry the job later.",
    FailureKind.TRANSIENT: "The endpoint did not recover: retry the job later.",
    FailureKind.OUTAGE: "Retry the job once the endpoint is back.",
    FailureKind.TIMEOUT: "The endpoint is too slow: raise RLM_CALL_TIMEOUT_S, or retry the job later.",
}
