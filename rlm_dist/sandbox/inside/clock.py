"""The wall clock of model-written code: a block's first reading returns the time that the host sent for it.

A block that runs again after its worker died gets the time of its first run, so that what it computes from
the date, above all a prompt, does not change. Within a block time passes at its real speed, so durations
differ. ``os.urandom``, ``time.clock_gettime`` and the monotonic clocks stay real.
"""

import ctypes
import datetime
import functools
import gc
import time
from collections.abc import Callable
from typing import Any

_real_ns = time.time_ns


class Clock:
    """The time as code blocks see it: the machine's, plus an offset."""

    def __init__(self) -> None:
        self._offset_ns = 0
        self._next_ns: int | None = None

    def begin(self, at_ns: int) -> None:
        """Return this Unix time, in nanoseconds, at the next reading."""
        self._next_ns = at_ns

    def time_ns(self) -> int:
        """As ``time.time_ns``."""
        now_ns, next_ns = _real_ns(), self._next_ns
        if next_ns is not None:
            self._offset_ns, self._next_ns = next_ns - now_ns, None
        return now_ns + self._offset_ns

    def time(self) -> float:
        """As ``time.time``."""
        return self.time_ns() / 1e9


@functools.cache
def installed() -> Clock:
    """The clock of this process and its forks; ``time`` and ``datetime`` use it from the first call on."""
    clock = Clock()
    _install(clock)
    return clock


def _install(clock: Clock) -> None:
    localtime, asctime, strftime = time.localtime, time.asctime, time.strftime

    def at_clock(real: Callable[[float], Any]) -> Callable[..., Any]:
        return lambda seconds=None: real(clock.time() if seconds is None else seconds)

    vars(time).update(
        time=clock.time,
        time_ns=clock.time_ns,
        localtime=at_clock(localtime),
        gmtime=at_clock(time.gmtime),
        ctime=at_clock(time.ctime),
        asctime=lambda moment=None: asctime(moment or localtime(clock.time())),
        strftime=lambda layout, moment=None: strftime(layout, moment or localtime(clock.time())),
    )

    def now(cls: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return cls.fromtimestamp(clock.time(), tz)

    def utcnow(cls: type[datetime.datetime]) -> datetime.datetime:
        return cls.fromtimestamp(clock.time(), datetime.UTC).replace(tzinfo=None)

    # ``today`` calls ``time.time``, but these two read the machine's clock. The type's attributes cannot be
    # set, and a subclass in its place would show in ``type(x)`` and in pickles. But its dict can be written
    # to before anybody uses it.
    (methods,) = gc.get_referents(datetime.datetime.__dict__)
    methods |= {"now": classmethod(now), "utcnow": classmethod(utcnow)}
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))
