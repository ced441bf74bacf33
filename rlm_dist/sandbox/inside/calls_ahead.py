"""Issues calls of a loop before the loop asks for them, by the plan that ``loop_plans`` gave it.

The first call of a planned loop takes the next ones with it, up to ``AHEAD_CALLS`` in all, and the loop's
later calls find their answers here. So at most that many, less one, are ever made that no code asks for: if a
call fails, or if a plan was wrong, which ends it. They stay here for whoever asks the same later: which call
is the n-th of its content does not depend on plans.
"""

import builtins
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import GeneratorType, MethodType
from typing import Any

AHEAD_CALLS = 32
# A loop that calls for few of its items is not looked through to its end before its first call.
_MAX_LOOK_S = 0.1
_clock = time.thread_time  # what the machine does besides is not the look's fault
_MAX_DEPTH = 5
_SCALARS = frozenset({str, int, float, bool, complex, bytes, type(None)})
_CONTAINERS = (list, tuple, dict, set, frozenset, range)
_ITERABLES: tuple[type, ...] = (
    *(list, tuple, dict, set, frozenset, range, str, enumerate, zip, reversed),
    *(type({}.keys()), type({}.values()), type({}.items()), type(reversed([]))),
)
_FUNCTIONS = dict(vars(builtins))
_ROOTS: dict[str, tuple[type, ...]] = {
    "list": (list,),
    "set": (set,),
    "slots": (list, dict),
    "text": (str,),
    "number": (int, float),
}

Prompt = list[dict[str, str]]
Ask = tuple[Prompt, str | None]  # a prompt and the model
Key = tuple[tuple[tuple[str, str], ...], str | None]


class _PlanEnds(Exception):
    """The loop may not get further than this."""


def key_of(prompt: Prompt, model: str | None) -> Key:
    """What makes two calls the same."""
    return tuple((message["role"], message["content"]) for message in prompt), model


class Plan:
    """The calls that one run of a loop is about to make."""

    def __init__(self, calls: Iterator[Ask | None]) -> None:
        """None stands for each step on the way to the next call."""
        self._calls = calls
        self._next: deque[tuple[Key, Prompt]] = deque()

    def take(self, key: Key) -> bool:
        """Whether this is the next call; if not, the plan is wrong, and ends."""
        if next(self._upcoming(1), (None,))[0] == key:
            self._next.popleft()
            return True
        self._next.clear()
        self._calls = iter(())
        return False

    def upcoming(self, model: str | None) -> Iterator[tuple[Key, Prompt]]:
        """The next calls, as far as they use this model."""
        for key, prompt in self._upcoming(AHEAD_CALLS - 1):
            if key[1] != model:
                return
            yield key, prompt

    def _upcoming(self, count: int) -> Iterator[tuple[Key, Prompt]]:
        until = _clock() + _MAX_LOOK_S
        for at in range(count):
            while at == len(self._next):
                try:
                    ask = next(self._calls)
                except Exception:  # noqa: BLE001  # the loop will raise it in its own time, or not get there
                    self._calls = iter(())
                    return
                if ask is not None:
                    prompt, model = ask
                    self._next.append((key_of(prompt, model), prompt))
                elif count > 1 and _clock() > until:
                    return
            yield self._next[at]


class Plans:
    """The plans of the loops that run, of each thread its own."""

    def __init__(self, to_ask: Callable[..., Ask], call: object) -> None:
        """``to_ask`` makes a prompt and a model of the arguments of a call; it raises what the call would.

        ``call`` is what a loop must find under the name ``llm_query``.
        """
        self._to_ask = to_ask
        self._call = call
        self._own = threading.local()
        self.namespace: dict[str, Any] = {}

    def current(self) -> Plan | None:
        """The plan of the innermost loop of this thread."""
        plans = self._of_thread()
        return plans[-1] if plans else None

    def reset(self) -> None:
        """Forget plans of this thread's loops: none runs. One that was interrupted may have left its own."""
        self._of_thread().clear()

    def loop(
        self,
        iterable: Any,
        steps: Callable[[], Iterable[Any]],
        reads: Callable[[], tuple[Any, ...]],
        roots: Callable[[], tuple[Any, ...]],
        kinds: tuple[str, ...],
        functions: tuple[str, ...],
    ) -> Any:
        """What a planned loop iterates over, in place of ``iterable``."""
        if type(iterable) not in _ITERABLES:
            return iterable
        calls = self._calls(
            steps, lambda: self._is_sure(reads(), list(zip(kinds, roots(), strict=True)), functions)
        )
        return self._walk(iterable, Plan(calls))

    def _walk(self, iterable: Iterable[Any], plan: Plan) -> Iterator[Any]:
        plans = self._of_thread()
        plans.append(plan)
        try:
            yield from iterable
        finally:
            if plan in plans:
                plans.remove(plan)

    def _of_thread(self) -> list[Plan]:
        plans: list[Plan] = vars(self._own).setdefault("plans", [])
        return plans

    def _calls(self, steps: Callable[[], Iterable[Any]], is_sure: Callable[[], bool]) -> Iterator[Ask | None]:
        """Evaluates the plan, not before the first call is due."""
        if is_sure():
            for arguments in _flat(steps()):
                yield arguments and self._to_ask(*arguments)

    def _is_sure(
        self, reads: tuple[Any, ...], roots: list[tuple[str, Any]], functions: tuple[str, ...]
    ) -> bool:
        found = self.namespace.get("llm_query")
        if type(found) is not MethodType or found != self._call:
            return False
        for name in functions:
            real = _FUNCTIONS[name]
            if self.namespace.get(name, real) is not real or getattr(builtins, name, None) is not real:
                return False
        if not all(type(value) in _ROOTS[kind] for kind, value in roots):
            return False
        seen: set[int] = set()
        if not all(_is_plain(value, seen, _MAX_DEPTH) for value in reads):
            return False
        return not any(id(value) in seen for kind, value in roots if kind not in ("text", "number"))


class Issued:
    """One call of a frame that was sent ahead; it is answered when all calls of the frame are."""

    def __init__(self, done: threading.Event, answers: list[dict[str, Any]], at: int) -> None:
        self._done = done
        self._answers = answers
        self._at = at

    @property
    def made(self) -> bool:
        """Whether it was, or will be: the host may have had no room for it, or have refused its model."""
        return not self._answers[self._at].keys() & {"unmade", "refused"}

    def answer(self) -> dict[str, Any]:
        """Wait for its answer."""
        self._done.wait()
        return self._answers[self._at]


class Unused:
    """Answers, or calls in flight, that no code has asked for yet; safe for many threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Key, deque[Issued]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, key: Key, call: Issued) -> None:
        """Keep one more of this content."""
        with self._lock:
            self._waiting.setdefault(key, deque()).append(call)

    def take(self, key: Key) -> Issued | None:
        """The oldest one of this content, None if there is none."""
        with self._lock:
            calls = self._waiting.get(key)
            if calls is None:
                return None
            call = calls.popleft()
            if not calls:
                del self._waiting[key]
            return call

    def made(self, key: Key) -> int:
        """How many there are of this content, without those that the host did not make."""
        with self._lock:
            return sum(issued.made for issued in self._waiting.get(key, ()))

    def count(self) -> int:
        """How many there are in all."""
        return sum(map(self.made, list(self._waiting)))

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._waiting.clear()


def _flat(items: Iterable[Any]) -> Iterator[tuple[Any, ...] | None]:
    """The arguments of the calls, in order, None for anything else; see ``plan_steps`` for what there is."""
    for item in items:
        if type(item) is tuple:
            yield item
        elif type(item) is GeneratorType:
            yield from _flat(item)
        elif type(item) is dict and not _has_slot(item["at"], item["key"]):
            raise _PlanEnds
        else:
            yield None


def _has_slot(container: Any, key: Any) -> bool:
    """Whether an item can be stored there."""
    if type(container) is dict:
        hash(key)
        return True
    return type(container) is list and type(key) is int and -len(container) <= key < len(container)


def _is_plain(value: Any, seen: set[int], depth: int) -> bool:
    """Whether all of this value is of Python's own types; ``seen`` gets the ids of its containers."""
    kind = type(value)
    if _is_scalar(kind):
        return True
    if kind not in _CONTAINERS or not depth:
        return False
    if id(value) in seen or kind is range:
        return True
    seen.add(id(value))
    parts = (*value.keys(), *value.values()) if kind is dict else value
    if all(map(_is_scalar, set(map(type, parts)))):
        return True
    return all(_is_plain(part, seen, depth - 1) for part in parts)


def _is_scalar(kind: type) -> bool:
    return kind in _SCALARS or kind in _answer_types


_answer_types: set[type] = set()


def note_answer_type(kind: type) -> type:
    """Let a subclass of str of the REPL's own count as plain."""
    _answer_types.add(kind)
    return kind
