"""How a forked REPL locks itself, for good, before any model-written code runs.

It takes these steps in this order: it starts its own session; gives up the privileges of root; ties its life
to its parent's, which a later change of user would undo; applies Landlock; applies seccomp, which refuses
every later step of this kind. The limits that depend on the job (``confine``) follow with its first message.

Landlock alone is no fence: MPTCP, UDP, TCP Fast Open and UNIX sockets in a folder pass its network rules.
seccomp is what prevents sockets, and Landlock is what prevents opening files.
"""

import ctypes
import ctypes.util
import errno
import os
import random
import resource
import sys
import sysconfig
import zoneinfo
from collections.abc import Iterator
from contextlib import suppress

import landlockpy
import seccompy
from landlockpy import AccessFS, Scope
from seccompy import Action, CmpOp, Filter

from . import allowed, confine
from .confine import LIBC

_NOBODY = 65534
_OWN_USERS = 2_000_000_000  # a user for each REPL, in a range that nobody assigns
_MAX_PROCESSES = 1 << 22
_BLOCKS = 500  # of users: fork-servers in two containers of one machine have the same process ids
_PACKAGES = ("site-packages", "dist-packages")
_PR_SET_SECUREBITS, _PR_CAPBSET_DROP = 28, 24
_SECUREBITS = 0xEF  # root's user id gives no privilege, and all of these bits are locked
_LAST_CAPABILITY = 63
_CLONE_NEWUSER = 0x10000000
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_INSTRUCTION_BYTES = 8
_LANDLOCK_RESTRICT_SELF = 446  # the same number on every architecture
_CAPABILITY_VERSION = 0x20080522
_NO_CAPABILITIES = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
# Looked up here once, and not in each REPL.
_capset, _prctl, _syscall, _unshare = LIBC.capset, LIBC.prctl, LIBC.syscall, LIBC.unshare
_SOME_PROCESS = 0x5EAF1E5D  # no process has this number: it is above the kernel's limit
_FIXED_LIMITS = (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_MEMLOCK, 0),
    (resource.RLIMIT_MSGQUEUE, 0),
    (resource.RLIMIT_STACK, 8 << 20),
)


class Lockdown:
    """Created once in the fork-server, while files can still be opened; applied in each child."""

    def __init__(self, *, landlock: bool) -> None:
        """Prepare the rules that this machine supports.

        Raises:
            OSError: it has no seccomp, or no Landlock although ``landlock`` is true.
        """
        # The real one would run ldconfig and gcc; None means this process.
        ctypes.util.find_library = lambda name: None
        if not seccompy.supported():
            raise OSError(errno.ENOSYS, "this kernel has no seccomp filters")
        self._ruleset = _ruleset() if landlock else None
        self._template_ruleset = _ruleset() if landlock else None
        rulesets = (self._ruleset, self._template_ruleset)
        # The descriptors that ``apply`` and ``apply_to_template`` need open.
        self.descriptors = tuple(ruleset.fileno() for ruleset in rulesets if ruleset is not None)
        self._program = _SeccompProgram(_filter(paths=landlock).program)
        self._first_user = _OWN_USERS + _MAX_PROCESSES * random.SystemRandom().randrange(_BLOCKS)
        users = (self._own_user(), _NOBODY) if os.geteuid() == 0 else ()
        self._user = next(filter(_reads_library, users), None)
        self._has_own_user = self._user is not None and self._user != _NOBODY
        self._has_own_namespace = not self._has_own_user and _counts_by_namespace()

    @property
    def limits_threads(self) -> bool:
        """Whether the kernel limits the number of a child's threads: it counts them alone."""
        return self._has_own_user or self._has_own_namespace

    def apply_to_template(self) -> None:
        """Lock a process that loads a context and forks REPLs: it opens no file of the host and no socket."""
        if self._template_ruleset is not None:
            self._template_ruleset.restrict()
        rules = Filter(default=Action.ALLOW)
        for name in allowed.NOT_IN_A_TEMPLATE:
            with suppress(ValueError):  # this processor architecture has no such call
                rules.errno(name, errno.EPERM)
        rules.errno("unshare", errno.EPERM, args=[(0, CmpOp.NE, _CLONE_NEWUSER)])
        rules.load()

    def apply(self, parent: int) -> None:
        """Lock this process, which must not outlive the process ``parent``."""
        os.setsid()
        confine.first_to_go()
        for kind, limit in _FIXED_LIMITS:
            _lower(kind, limit)
        self._give_up_root()
        self._count_alone()
        self._give_up_capabilities()
        # RLIMIT_CORE does not hold for a crash handler, which would be given the memory with the context.
        _prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        confine.tie_to_parent(parent)
        if self._ruleset is not None:
            _require(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
            _require(_syscall(_LANDLOCK_RESTRICT_SELF, self.descriptors[0], 0))
        for descriptor in self.descriptors:
            os.close(descriptor)
        self._program.load()

    def _count_alone(self) -> None:
        """Have the kernel count this process's threads apart from others, if it can, and limit them."""
        if self._has_own_namespace:  # before the limit, or it would hold for the outer one
            _unshare_user()
        if self.limits_threads:
            _lower(resource.RLIMIT_NPROC, confine.MAX_THREADS)

    def _own_user(self) -> int:
        return self._first_user + os.getpid()

    def _give_up_root(self) -> None:
        """Become this REPL's own user, or nobody if a user namespace has no such user.

        If neither can read Python's own files, stay root without its powers.
        """
        if self._user is not None:
            user = self._own_user() if self._has_own_user else _NOBODY
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        elif os.geteuid() == 0:
            for capability in range(_LAST_CAPABILITY + 1):
                _prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
            _prctl(_PR_SET_SECUREBITS, _SECUREBITS, 0, 0, 0)

    def _give_up_capabilities(self) -> None:
        _require(_capset(*_NO_CAPABILITIES))


def _ruleset() -> "landlockpy.Ruleset":
    """Forbid everything except reading the standard library and time zones, and using two devices."""
    rules = landlockpy.Ruleset(scoped=Scope.ABSTRACT_UNIX_SOCKET | Scope.SIGNAL)
    library = sysconfig.get_path("stdlib")
    rules.allow_path(library, AccessFS.READ_DIR)  # only names, including those of installed packages
    for path in (*_entries(library), *filter(os.path.isdir, zoneinfo.TZPATH)):
        folder = AccessFS.READ_DIR if os.path.isdir(path) else AccessFS.NONE
        with suppress(FileNotFoundError):
            rules.allow_path(path, AccessFS.READ_FILE | folder)
    rules.allow_path(os.devnull, AccessFS.READ_FILE | AccessFS.WRITE_FILE)
    rules.allow_path("/dev/urandom", AccessFS.READ_FILE)
    return rules


def _entries(library: str) -> Iterator[str]:
    for folder in dict.fromkeys((library, sysconfig.get_path("platstdlib"))):
        for name in os.listdir(folder):
            if name not in _PACKAGES:
                yield os.path.join(folder, name)


class _SeccompProgram:
    """A compiled filter that names ``_SOME_PROCESS`` in place of the process that will load it.

    It is compiled once for all REPLs, and loaded with as few steps as possible.
    """

    def __init__(self, compiled: bytes) -> None:
        self._program = ctypes.create_string_buffer(compiled, len(compiled))
        some_process = _SOME_PROCESS.to_bytes(4, sys.byteorder)
        self._own_numbers = [
            ctypes.c_uint32.from_buffer(self._program, place)
            for place in range(0, len(compiled), 4)
            if compiled[place : place + 4] == some_process
        ]
        if len(self._own_numbers) != len(allowed.OWN_PROCESS):
            raise OSError(errno.EINVAL, "the seccomp filter does not name its process where it should")
        self._head = _ProgramHead(len(compiled) // _INSTRUCTION_BYTES, ctypes.addressof(self._program))

    def load(self) -> None:
        """Apply it to this process, for good."""
        own = os.getpid()
        for number in self._own_numbers:
            number.value = own
        _require(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _require(_prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(self._head), 0, 0))


class _ProgramHead(ctypes.Structure):
    """The kernel's ``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))


def _require(result: int) -> None:
    """Raise OSError if a call of the C library failed."""
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _filter(*, paths: bool) -> Filter:
    """The allow-list; ``_SOME_PROCESS`` stands for the process that loads it."""
    rules = Filter(default=int(Action.ERRNO) | errno.EPERM)
    for name in allowed.PLAIN + (allowed.PATHS if paths else []):
        _allow(rules, name)
    for kind in ("newfstatat", "statx"):  # glibc implements fstat with these
        _allow(
            rules, kind, [] if paths else [(3 if kind == "newfstatat" else 2, *_has(allowed.AT_EMPTY_PATH))]
        )
    _allow_by_arguments(rules)
    return rules


def _allow_by_arguments(rules: Filter) -> None:
    """Allow the calls that are harmless with some arguments only."""
    for name, (position, values) in allowed.BY_VALUE.items():
        for value in values:
            _allow(rules, name, [(position, CmpOp.EQ, value)])
    for name, processes in allowed.OWN_PROCESS.items():
        for process in (_SOME_PROCESS, *processes):
            _allow(rules, name, [(0, CmpOp.EQ, process)])
    for name in allowed.CLOCKS:
        _allow(rules, name, [(0, CmpOp.LT, allowed.FOREIGN_CLOCKS)])
    for option in allowed.SOCKET_OPTIONS.values():
        _allow(rules, "getsockopt", [(1, CmpOp.EQ, allowed.SOL_SOCKET), (2, CmpOp.EQ, option)])
    for name in allowed.OWN_BY_ZERO:
        _allow(rules, name, [(0, CmpOp.EQ, 0)])
    _allow(rules, "getpriority", [(0, CmpOp.EQ, os.PRIO_PROCESS), (1, CmpOp.EQ, 0)])
    _allow(rules, "clone", [(0, CmpOp.MASKED_EQ, allowed.PTHREAD, allowed.CLONE_FLAGS), (1, CmpOp.NE, 0)])
    rules.errno("clone3", errno.ENOSYS)  # the C library falls back to clone, whose flags a filter can see
    _allow(rules, "mmap", [(3, CmpOp.MASKED_EQ, 0, allowed.MAP_STACK | allowed.MAP_HUGETLB)])
    _allow(
        rules, "mmap", [(1, CmpOp.GE, allowed.MIN_STACK_BYTES), (3, CmpOp.MASKED_EQ, 0, allowed.MAP_HUGETLB)]
    )
    # A datagram socket of a pair could write to any UNIX datagram socket by its address.
    stream = (1, CmpOp.MASKED_EQ, allowed.SOCK_STREAM, allowed.SOCK_TYPE_MASK)
    _allow(rules, "socketpair", [(0, CmpOp.EQ, allowed.AF_UNIX), stream])
    for name, position in allowed.MESSAGES.items():
        flags = (position, CmpOp.MASKED_EQ, 0, allowed.MSG_OOB)
        _allow(rules, name, [flags, (4, CmpOp.EQ, 0)] if name == "sendto" else [flags])


Condition = tuple[int, int, int] | tuple[int, int, int, int]


def _has(bits: int) -> tuple[int, int, int]:
    return CmpOp.MASKED_EQ, bits, bits


def _allow(rules: Filter, name: str, args: list[Condition] | None = None) -> None:
    with suppress(ValueError):  # this processor architecture has no such call
        rules.allow(name, args=args)


def _lower(kind: int, limit: int) -> None:
    _, ceiling = resource.getrlimit(kind)
    if ceiling == resource.RLIM_INFINITY or ceiling > limit:
        resource.setrlimit(kind, (limit, limit))


def _unshare_user() -> None:
    """Move this process into a user namespace of its own, in which it has no user's name.

    Raises:
        OSError: this machine or container refuses that.
    """
    _require(_unshare(_CLONE_NEWUSER))


def _counts_by_namespace() -> bool:
    """Whether RLIMIT_NPROC holds for a user namespace alone (since Linux 5.14; never for root)."""
    pid = os.fork()
    if not pid:
        try:
            _unshare_user()
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            if not os.fork():
                os._exit(0)
            os.wait()
        except BlockingIOError:
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _reads_library(user: int) -> bool:
    """Whether this user can read the standard library; call it as root, in a process with a single thread."""
    try:
        os.seteuid(user)
    except OSError:  # a user namespace that does not have this user
        return False
    try:
        return os.access(os.__file__, os.R_OK, effective_ids=True)
    finally:
        os.seteuid(0)
