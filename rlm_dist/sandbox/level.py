"""The levels of isolation, strongest first."""

from enum import StrEnum


class Level(StrEnum):
    """How model-written code is isolated; the values are those of ``RLM_SANDBOX``."""

    NAMESPACES = "namespaces"  # bubblewrap around the fork-server, and LANDLOCK inside it
    LANDLOCK = "landlock"  # Landlock, a seccomp allow-list, no privilege, resource limits
    SECCOMP = "seccomp"  # the same without Landlock, and with no system call that takes a path
    OFF = "off"  # a plain process of the same user, with resource limits only

    def is_at_least(self, other: "Level") -> bool:
        """Whether this level is as strong as ``other``."""
        return _STRENGTH[self] >= _STRENGTH[other]

    @property
    def isolation(self) -> str:
        """The name of this level in a job's trace and result."""
        return "none" if self is Level.OFF else self.value


_STRENGTH = {level: strength for strength, level in enumerate(reversed(Level))}
LOCKED = tuple(level for level in Level if level is not Level.OFF)
