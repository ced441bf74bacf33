"""Loads the libraries that the fork-server has in memory before it forks the first REPL.

A module loaded here costs a REPL nothing. Extension modules must be loaded here: the libraries that they need
cannot be opened later. At the level ``seccomp`` no file can be opened later, so a module that is not loaded
here cannot be imported. Optional libraries are loaded here or never, at any level: their folder also holds
everything else that is installed.
"""

import contextlib
import encodings
import importlib
import os
import pkgutil
import platform
import posix
import socket
import sys
import time
import warnings
import zoneinfo
from collections.abc import Sequence

_NAMES = """
abc argparse array ast asyncio base64 binascii bisect builtins bz2 calendar cmath cmd code codecs codeop
collections collections.abc colorsys concurrent.futures concurrent.futures.process
concurrent.futures.thread configparser contextlib contextvars copy copyreg csv ctypes ctypes.util
dataclasses datetime decimal difflib dis doctest email email.message email.mime.multipart email.mime.text
email.parser email.policy email.utils encodings.idna enum errno faulthandler filecmp fileinput fnmatch
fractions ftplib functools gc genericpath getopt gettext glob graphlib gzip hashlib heapq hmac html
html.entities html.parser http http.client http.cookies imaplib inspect io ipaddress itertools json
json.decoder json.encoder json.tool keyword linecache locale logging logging.handlers lzma mailbox
marshal math mimetypes mmap multiprocessing multiprocessing.pool netrc numbers opcode operator optparse
os pathlib pdb pickle pickletools pkgutil platform plistlib pprint profile pstats queue quopri random re
reprlib resource runpy sched secrets select selectors shelve shlex shutil signal smtplib socket
socketserver sqlite3 ssl stat statistics string stringprep struct subprocess symtable sys sysconfig
tarfile tempfile textwrap threading time timeit token tokenize tomllib trace traceback tracemalloc types
typing unicodedata unittest unittest.mock urllib urllib.error urllib.parse urllib.request urllib.response
uuid warnings wave weakref xml.dom.minidom xml.etree.ElementTree xml.sax xml.sax.saxutils xmlrpc.client
zipfile zipimport zlib zoneinfo _pydecimal _strptime
"""
_MODULES = _NAMES.split()
_NOT_LOADED = ("_test", "_xx", "xx", "_tkinter", "_curses", "_ctypes_test", "_dbm", "_gdbm", "readline")
_SKIPPED_MODULES = ("tests", "conftest", "setup", "__main__")
_HOST_NAME = "sandbox"
_time_zones: list[object] = []


def standard_library() -> None:
    """Load the modules that model-written code is likely to use, and every extension module."""
    for name in (*_MODULES, *_extensions()):
        with contextlib.suppress(ImportError):  # a build without, say, sqlite3 or ssl
            importlib.import_module(name)
    os.register_at_fork = posix.register_at_fork
    time.tzset()


def without_files() -> None:
    """Load also what is otherwise read at its first use: text encodings and time zones."""
    for module in pkgutil.iter_modules(encodings.__path__):
        with contextlib.suppress(ImportError):  # the encodings of Windows
            importlib.import_module(f"encodings.{module.name}")
    python_zone_info = importlib.import_module("zoneinfo._zoneinfo").ZoneInfo  # pandas uses it, too
    for name in sorted(zoneinfo.available_timezones()):
        _time_zones.extend((zoneinfo.ZoneInfo(name), python_zone_info(name)))


def hide_host_name() -> None:
    """Answer from here on what the system would be asked for: that call is refused later."""
    real = os.uname()
    shown = os.uname_result((real.sysname, _HOST_NAME, real.release, real.version, real.machine))
    os.uname = posix.uname = lambda: shown
    socket.gethostname = lambda: _HOST_NAME
    platform.__dict__["_uname_cache"] = None


def packages(names: Sequence[str], folders: Sequence[str]) -> None:
    """Load libraries, and what they need; ``folders`` are on the import path only while this runs."""
    path = list(sys.path)
    sys.path.extend(folders)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            importlib.import_module(name)
    sys.path[:] = path
    if "numpy" in sys.modules:  # so that a job can be replayed, as with ``random``
        sys.modules["numpy"].random.seed(0)


def modules_of(names: Sequence[str]) -> None:
    """Load also what these libraries would load later: their own modules, except tests."""
    pending = [sys.modules[name] for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while pending:
            package = pending.pop()
            for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
                if module.name not in _SKIPPED_MODULES:
                    with contextlib.suppress(Exception, SystemExit):  # it needs what is not installed
                        pending.append(importlib.import_module(f"{package.__name__}.{module.name}"))


def _extensions() -> list[str]:
    """The names of the extension modules that are separate files."""
    folders = [path for path in sys.path if os.path.basename(path) == "lib-dynload" and os.path.isdir(path)]
    names = {name.split(".")[0] for folder in folders for name in os.listdir(folder) if name.endswith(".so")}
    return sorted(name for name in names if not name.startswith(_NOT_LOADED))
