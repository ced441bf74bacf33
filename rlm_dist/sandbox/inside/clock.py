"""The wall clock of model-written code: the first look in a block shows the time that the host gave for it.

A block that is run again, after the death of its worker, is given the time of its first run: what it makes of
the date, a prompt above all, comes out the same. Within a block time goes on as it does, so that durations
differ. ``os.urandom``, ``time.clock_gettime`` and the monotonic clocks stay real.
"""

import ctypes
import datetime
import gc
import time
from collections.abc import Callable
from typing import Any

_real_ns = time.time_ns


class Clock:
    """The time as code blocks see it, ahead of the machine's or behind it."""

    def __init__(self) -> None:
        self._ahead_ns = 0
        self._due_ns: int | None = None

    def begin(self, at_ns: int) -> None:
        """Show this Unix time at the next look."""
        self._due_ns = at_ns

    def time_ns(self) -> int:
        """As ``time.time_ns``."""
        now_ns, due_ns = _real_ns(), self._due_ns
        if due_ns is not None:
            self._ahead_ns, self._due_ns = due_ns - now_ns, None
        return now_ns + self._ahead_ns

    def time(self) -> float:
        """As ``time.time``."""
        return self.time_ns() / 1e9


def install(clock: Clock) -> None:
    """Have the modules ``time`` and ``datetime`` tell this clock's time, for the rest of the process."""
    local, text_of, form = time.localtime, time.asctime, time.strftime

    def at_clock(real: Callable[[float], Any]) -> Callable[..., Any]:
        return lambda seconds=None: real(clock.time() if seconds is None else seconds)

    vars(time).update(
        time=clock.time,
        time_ns=clock.time_ns,
        localtime=at_clock(local),
        gmtime=at_clock(time.gmtime),
        ctime=at_clock(time.ctime),
        asctime=lambda moment=None: text_of(moment or local(clock.time())),
        strftime=lambda wanted, moment=None: form(wanted, moment or local(clock.time())),
    )

    def now(cls: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return cls.fromtimestamp(clock.time(), tz)

    def utcnow(cls: type[datetime.datetime]) -> datetime.datetime:
        return cls.fromtimestamp(clock.time(), datetime.UTC).replace(tzinfo=None)

    # ``today`` asks ``time.time``, these two the machine. The type takes no attributes, and a subclass in its
    # place would show, in ``type(x)`` and in pickles; its dict can be written to before anybody uses it.
    (methods,) = gc.get_referents(datetime.datetime.__dict__)
    methods |= {"now": classmethod(now), "utcnow": classmethod(utcnow)}
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))
