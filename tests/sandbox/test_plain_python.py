"""Ordinary Python works at every level: code that models write to read, count, sort and compute."""

from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest

from rlm_dist.sandbox.fork_server_start import ForkServerStart
from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.sandbox.level import LOCKED, Level
from rlm_dist.schema import Answer, Message
from tests.support.sandboxes import require

CONTEXT = b'{"v":1,"kind":"str","n":1,"several":false,"named":false}\n' + (5).to_bytes(8, "little") + b"hello"


def answered(prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
    """A sub model that answers in capitals."""
    return [Answer(call_id="c", text=prompt[-1].content.upper()) for prompt in prompts]


@pytest.fixture(scope="module", params=LOCKED)
def repl(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A REPL at one level, for all tests."""
    level: Level = request.param
    require(level)
    context = tmp_path_factory.mktemp("plain") / "context"
    context.write_bytes(CONTEXT)
    limits = SandboxLimits(code_timeout_s=30)
    with (
        closing(ForkServerStart(level)) as start,
        Sandbox(context_path=context, query=answered, limits=limits, start=start) as sandbox,
    ):
        yield sandbox


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("context", "'hello'"),
        ("import re\nre.findall(r'(?i)\\bw\\w+', 'Wide or narrow words')", "['Wide', 'words']"),
        ("import json\njson.loads(json.dumps({'a': [1, None, 'é']}))", "{'a': [1, None, 'é']}"),
        ("import csv, io\nlist(csv.reader(io.StringIO('a,\"b,c\"')))", "[['a', 'b,c']]"),
        ("from collections import Counter\nCounter('abca').most_common(1)", "[('a', 2)]"),
        (
            "import itertools, functools\n"
            "functools.reduce(int.__add__, itertools.islice(itertools.count(), 5))",
            "10",
        ),
        ("import statistics\nstatistics.median([3, 1, 2]), statistics.stdev([1, 2, 3])", "(2, 1.0)"),
        (
            "import heapq, bisect\nheapq.nsmallest(2, [3, 1, 2]), bisect.bisect([1, 2, 3], 2)",
            "([1, 2], 2)",
        ),
        (
            "from datetime import datetime, timedelta\n"
            "datetime.strptime('2024-02-28', '%Y-%m-%d') + timedelta(days=2)",
            "datetime.datetime(2024, 3, 1, 0, 0)",
        ),
        (
            "from datetime import datetime\nfrom zoneinfo import ZoneInfo\n"
            "datetime(2024, 7, 1, 12, tzinfo=ZoneInfo('Europe/Berlin')).utcoffset().seconds",
            "7200",
        ),
        ("import time\ntime.strftime('%Y', time.localtime(0)), time.tzname[0]", "('1970', 'UTC')"),
        (
            "from decimal import Decimal, getcontext\ngetcontext().prec = 5\nDecimal(1) / 3",
            "Decimal('0.33333')",
        ),
        ("from fractions import Fraction\nFraction(1, 3) + Fraction(1, 6)", "Fraction(1, 2)"),
        (
            "import sqlite3\ndb = sqlite3.connect(':memory:')\ndb.execute('create table t (a)')\n"
            "db.executemany('insert into t values (?)', [(i,) for i in range(1000)])\n"
            "db.execute('select sum(a) from t').fetchone()",
            "(499500,)",
        ),
        (
            "from dataclasses import dataclass, asdict\n@dataclass\nclass P:\n    x: int\n    y: int = 2\n"
            "asdict(P(1)), P(1)",
            "({'x': 1, 'y': 2}, P(x=1, y=2))",
        ),
        ("class A:\n    n = 1\nclass B(A):\n    def f(self): return super().n\nB().f()", "1"),
        ("from typing import NamedTuple\nclass N(NamedTuple):\n    a: int\nN(3)", "N(a=3)"),
        ("import enum\nclass E(enum.Enum):\n    A = 1\nE.A", "<E.A: 1>"),
        (
            "import threading\ndone = []\n"
            "ts = [threading.Thread(target=done.append, args=(i,)) for i in range(32)]\n"
            "for t in ts: t.start()\nfor t in ts: t.join()\nsorted(done) == list(range(32))",
            "True",
        ),
        (
            "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(32) as pool:\n"
            "    found = list(pool.map(llm_query, [f'q{i}' for i in range(64)]))\nfound[63]",
            "'Q63'",
        ),
        ("import asyncio\nawait asyncio.to_thread(llm_query, await asyncio.sleep(0.001, 'a'))", "'A'"),
        (
            "import asyncio\nasync def one(i):\n    await asyncio.sleep(0.001)\n"
            "    return await asyncio.to_thread(llm_query, f'a{i}')\n"
            "async def all():\n    return await asyncio.gather(*map(one, range(8)))\nasyncio.run(all())[7]",
            "'A7'",
        ),
        (
            "import queue, threading\n"
            "q = queue.Queue()\nthreading.Timer(0.01, q.put, [5]).start()\nq.get(timeout=5)",
            "5",
        ),
        ("import hashlib\nhashlib.sha256(b'a').hexdigest()[:8]", "'ca978112'"),
        (
            "import base64, zlib, gzip, bz2, lzma\n"
            "lzma.decompress(lzma.compress(gzip.decompress(gzip.compress(b'x'))))",
            "b'x'",
        ),
        (
            "import uuid, secrets, random, os\n"
            "len({uuid.uuid4(), uuid.uuid4()}), len(secrets.token_bytes(4)), len(os.urandom(3))",
            "(2, 4, 3)",
        ),
        ("import difflib\ndifflib.get_close_matches('appel', ['ape', 'apple'])[0]", "'apple'"),
        (
            "import textwrap, string, unicodedata\n"
            "unicodedata.name('é'), textwrap.shorten('a b c', 3, placeholder='')",
            "('LATIN SMALL LETTER E WITH ACUTE', 'a b')",
        ),
        (
            "from xml.etree import ElementTree\nElementTree.fromstring('<a><b>1</b></a>').find('b').text",
            "'1'",
        ),
        ("from html.parser import HTMLParser\nimport html\nhtml.unescape('&lt;')", "'<'"),
        ("from urllib.parse import urlsplit\nurlsplit('http://a/b?c').query", "'c'"),
        (
            "import pickle, copy\npickle.loads(pickle.dumps({'a': {1, 2}})) == copy.deepcopy({'a': {2, 1}})",
            "True",
        ),
        (
            "'ä'.encode('cp1252'), b'\\xe4'.decode('latin-1'), 'ä'.encode('utf-16-le')",
            "(b'\\xe4', 'ä', b'\\xe4\\x00')",
        ),
        (
            "import ast, inspect, operator, math\nast.literal_eval('[1, 2]'), math.comb(5, 2)",
            "([1, 2], 10)",
        ),
        (
            "import logging, warnings, contextlib, io\n"
            "with contextlib.redirect_stdout(io.StringIO()) as o: print('x')\no.getvalue()",
            "'x\\n'",
        ),
        (
            "import subprocess, socket, multiprocessing, tempfile, pathlib, shutil, glob\n"
            "pathlib.PurePath('a/b').name",
            "'b'",
        ),
        ("sum(i * i for i in range(10**6)), 2**1000 % 97", "(333332833333500000, 36)"),
        ("import time\nt = time.perf_counter()\ntime.sleep(0.01)\ntime.perf_counter() > t", "True"),
        (
            "import signal\nsignal.getsignal(signal.SIGINT) is not None, signal.raise_signal(signal.SIGCHLD)",
            "(True, None)",
        ),
    ],
)
def test_plain_python(repl: Sandbox, code: str, shown: str) -> None:
    result = repl.run(code)
    assert result.error is None
    assert result.output.head == shown + "\n"


def test_what_is_not_allowed_is_a_plain_error_with_the_line_of_the_cell(repl: Sandbox) -> None:
    result = repl.run("def read():\n    return open('/etc/passwd')\nread()")
    assert result.error is not None
    assert "    return open('/etc/passwd')\n" in result.error
    assert result.error.splitlines()[-1].startswith(
        ("PermissionError: [Errno ", "FileNotFoundError: [Errno ")
    )
    assert repl.run("import subprocess\nsubprocess.run(['ls'])").error is not None
    assert repl.run("1 + 1").output.head == "2\n"
