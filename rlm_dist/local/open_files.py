"""How many files this process may have open: each call in flight has a connection, which counts as one."""

import resource
from typing import NamedTuple

from rlm_dist.errors import SettingsError

# What a sub worker opens beside its calls: Redis, logs, libraries, blobs, idle connections.
_MARGIN = 256
_MOST = 2**20  # of a system that names no limit


class OpenFiles(NamedTuple):
    """What a number of calls at once ``needs``, and what this process may open, at once and if it asks."""

    needs: int
    soft: int
    hard: int

    @property
    def fits(self) -> bool:
        """Whether the calls can be made, if need be with a raised limit."""
        return self.needs <= self.hard

    @property
    def why_not(self) -> str:
        """What is wrong if they cannot, and what to do."""
        return (
            f"RLM_SUB_CONCURRENCY or -c: {self.needs - _MARGIN:,} calls at once need {self.needs:,} open "
            f"files, and this process may open {self.hard:,}. Raise that (ulimit -Hn, LimitNOFILE= of a "
            f"systemd unit, --ulimit nofile= of a container), or run more sub workers with at most "
            f"{max(1, self.hard - _MARGIN):,} slots each"
        )


def raise_open_files(files: int) -> None:
    """Let this process open as many files, or as many as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < files:
        allowed = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def open_files(calls: int) -> OpenFiles:
    """What ``calls`` at once need, beside the limits of this process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (_MOST if limit == resource.RLIM_INFINITY else limit for limit in limits)
    return OpenFiles(calls + _MARGIN, soft, hard)


def allow_open_files(calls: int) -> OpenFiles | None:
    """Raise the limit of this process if ``calls`` at once need it; None if it was high enough.

    Raises:
        SettingsError: the system does not allow as many; nothing was changed.
    """
    files = open_files(calls)
    if not files.fits:
        raise SettingsError((files.why_not,))
    if files.needs <= files.soft:
        return None
    # Twice as many: a call that moves to another endpoint leaves an idle connection for some seconds.
    raise_open_files(2 * files.needs)
    return open_files(calls)
