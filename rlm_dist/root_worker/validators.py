"""Runs a user's own check of answers: a function that the worker's operator has listed in RLM_VALIDATORS.

It is called as ``function(answer, query, metadata)`` and returns None or True if the answer is good, else the
reason, as a str. It runs in a thread of the worker, not in the sandbox: what it raises, or a result of
another kind, is an error of the job, whose message says nothing of the answer.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import Any

import structlog
from pydantic import JsonValue

from rlm_dist.errors import AnswerCheckFailed, RLMError

log = structlog.get_logger()

TIMEOUT_S = 10.0
Validator = Callable[[JsonValue, str, Mapping[str, JsonValue]], object]


def load_validator(path: str, allowed: Sequence[str]) -> Validator:
    """The function at an import path ``package.module:function`` that is listed.

    Raises:
        AnswerCheckFailed: if it is not on this worker's list, or cannot be imported.
    """
    if path not in allowed:
        raise AnswerCheckFailed(f"validator {path}: is not on this worker's list (RLM_VALIDATORS)")
    module, _, name = path.partition(":")
    try:
        function: Any = getattr(import_module(module), name)
    except Exception as error:  # noqa: BLE001 - a module of others may raise anything
        raise AnswerCheckFailed(f"validator {path}: cannot be imported: {type(error).__name__}") from None
    if not callable(function):
        raise AnswerCheckFailed(f"validator {path}: is not a function")
    return function  # type: ignore[no-any-return]


class ValidatorRun:
    """Calls one job's validator; ``abort`` ends the wait for it."""

    def __init__(self, path: str, function: Validator, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._function = function
        self._timeout_s = timeout_s
        self._results: SimpleQueue[object] = SimpleQueue()

    def reason(self, answer: JsonValue, query: str, metadata: Mapping[str, JsonValue]) -> str | None:
        """Why the function refuses the answer; None if it does not.

        Raises:
            AnswerCheckFailed: if it raises an error, takes too long, or returns anything else.
            RLMError: the error passed to ``abort``.
        """

        def call() -> None:
            try:
                self._results.put(self._function(answer, query, dict(metadata)))
            except BaseException as error:  # noqa: BLE001  # whatever it is, it ends the job
                self._results.put(AnswerCheckFailed(f"validator {self._path}: raised {type(error).__name__}"))

        threading.Thread(target=call, name="validator", daemon=True).start()
        try:
            result = self._results.get(timeout=self._timeout_s)
        except Empty:
            text = f"validator {self._path}: took longer than {self._timeout_s:g} s"
            raise AnswerCheckFailed(text) from None
        if isinstance(result, RLMError):
            raise result
        if result is None or result is True:
            return None
        if isinstance(result, str) and result.strip():
            return result
        kind = type(result).__name__
        raise AnswerCheckFailed(
            f"validator {self._path}: returned a {kind} in place of None, True or a reason"
        )

    def abort(self, error: RLMError) -> None:
        """Let the call under way, and later ones, raise ``error``."""
        self._results.put(error)
