"""``rlm_query`` of a job that has children: contexts by reference, and REPLs that break the rules."""

import gc
import hashlib
import resource
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pytest

from rlm_dist.contexts import encoding
from rlm_dist.contexts.encoded_files import describe
from rlm_dist.errors import Cancelled, RLMError, Unreachable
from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.sandbox.process import PlainStart
from rlm_dist.schema import Answer, CallFailure, ContextInfo, ContextRef
from tests.integration.sandbox.test_hostile import PRELUDE, session_of
from tests.support.sandboxes import echo, forks, shown, write_context
from tests.support.waiting import wait_until

OWN = ContextRef(sha256="0" * 64, size_bytes=5, info=ContextInfo(kind="str", chars=5, items=1))
MIB = 1 << 20


class Kept:
    """Children that answer ``<model>:<prompt>``, and keep the contexts that were stored, by hash."""

    def __init__(self, folder: Path, max_context_bytes: int = 64 * MIB) -> None:
        self.own = OWN
        self.folder = folder
        self.max_context_bytes = max_context_bytes
        self.stored: dict[str, bytes] = {}
        self.puts = 0
        self.asked: list[tuple[str, ContextRef | None]] = []
        self.store_error: RLMError | None = None
        self.before_answer = threading.Event()
        self.before_answer.set()

    def store(self, file: BinaryIO, sha256: str, size_bytes: int) -> ContextRef:
        """Keep the bytes."""
        if self.store_error is not None:
            raise self.store_error
        info = describe(file, size_bytes)
        file.seek(0)
        data = file.read()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (sha256, size_bytes)
        self.puts += 1
        self.stored[sha256] = data
        return ContextRef(sha256=sha256, size_bytes=size_bytes, info=info)

    def ask(
        self, prompts: Sequence[str], contexts: Sequence[ContextRef | None], model: str | None
    ) -> list[Answer]:
        """Answer; a prompt with ``bad`` fails."""
        self.asked += zip(prompts, contexts, strict=True)
        self.before_answer.wait(60)
        failure = CallFailure(kind="exhausted", message="its turns are used up")
        return [
            Answer(call_id="c", failure=failure)
            if "bad" in prompt
            else Answer(call_id="c", text=f"{model}:{prompt}")
            for prompt in prompts
        ]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """Children for one REPL."""
    return Kept(tmp_path)


def over(kept: Kept, kind: str, texts: list[str], code_timeout_s: float = 20.0) -> Sandbox:
    """A REPL over a context of its own, whose ``rlm_query`` goes to ``kept``."""
    path = write_context(kept.folder / "context", kind, texts)
    limits = SandboxLimits(code_timeout_s=code_timeout_s)
    return Sandbox(context_path=path, query=echo, limits=limits, start=forks(), children=kept)


@pytest.fixture
def repl(kept: Kept) -> Iterator[Sandbox]:
    """A started REPL with children."""
    with over(kept, "str", ["hello"]) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    "code",
    [
        *("'some text'", "'é\\u20ac\\U0001f600'", "'x' * (5 << 20)", "'é' * (3 << 20)", "'a\\ud800b'", "''"),
        *("['a', 'b', '']", "[]", "['line'] * 200_000", "{'k': 'v', 'é': 'w'}", "{'n': [1, 2.5, None]}"),
        *("[1, 'x']", "['a', ['b']]"),
    ],
)
def test_a_context_arrives_in_the_form_in_which_contexts_are_stored(
    kept: Kept, repl: Sandbox, code: str
) -> None:
    assert shown(repl, f"rlm_query('q', {code})") == "'None:q'\n"
    value = eval(code)  # noqa: S307  # of the list above
    ((prompt, ref),) = kept.asked
    assert prompt == "q"
    assert ref is not None
    if value:
        encoded = encoding.encode(value)
        assert kept.stored[ref.sha256] == b"".join(encoded.pieces())
        assert ref.model_copy(update={"info": encoded.ref.info}) == encoded.ref
        assert (ref.info.kind, ref.info.chars) == (encoded.ref.info.kind, encoded.ref.info.chars)


def test_the_own_context_goes_by_reference_until_it_is_changed(kept: Kept) -> None:
    with over(kept, "list", ["a", "b"]) as repl:
        shown(repl, "a = rlm_query('q', context)\nb = rlm_query('q', context_0)")
        assert [ref for _, ref in kept.asked] == [OWN, OWN]
        assert kept.puts == 0
        shown(repl, "context[0] = 'c'\na = rlm_query('q', context)")
    (_, ref) = kept.asked[-1]
    assert ref is not None
    assert ref.sha256 == encoding.encode(["c", "b"]).ref.sha256


def test_a_context_may_be_left_out(kept: Kept, repl: Sandbox) -> None:
    assert shown(repl, "rlm_query('q', model='m'), rlm_query_batched(['a', 'b'])") == (
        "('m:q', ['None:a', 'None:b'])\n"
    )
    assert [ref for _, ref in kept.asked] == [None, None, None]


def test_equal_objects_of_a_batch_are_sent_once(kept: Kept, repl: Sandbox) -> None:
    code = "t = 'x' * 1000\na = rlm_query_batched([f'p{i}' for i in range(600)], [t] * 300 + ['y'] * 300)\n"
    assert shown(repl, code + "print(a[599])") == "None:p599\n"
    assert kept.puts == 2
    assert len(kept.asked) == 600


def test_a_failed_child_is_an_error_or_a_marked_slot(repl: Sandbox) -> None:
    result = repl.run("rlm_query('bad', 'c')")
    assert result.error is not None
    assert "LLMQueryError: exhausted: its turns are used up" in result.error
    assert shown(repl, "a = rlm_query_batched(['x', 'bad'], ['c', 'd'])\nprint([x.ok for x in a], a[1])") == (
        "[True, False] [rlm_query failed: exhausted: its turns are used up]\n"
    )


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("rlm_query('')", "ValueError: prompt is empty"),
        ("rlm_query('q', 5)", "TypeError: context must be a str, list or dict, not int"),
        ("rlm_query('q', {(1, 2): 'x'})", "TypeError: a context must be text, or what JSON can hold"),
        ("rlm_query('q', 'c', 5)", "TypeError: model must be a str or None"),
        ("rlm_query('q', 'x' * (65 << 20))", "ValueError: a context may have at most 67,108,864 bytes"),
        ("rlm_query_batched('q')", "TypeError: rlm_query_batched takes a list of prompts, not str"),
        ("rlm_query_batched(['q'], 'c')", "TypeError: rlm_query_batched takes a list of contexts, not str"),
        ("rlm_query_batched(['q'], ['a', 'b'])", "ValueError: there are 1 prompts and 2 contexts"),
        ("rlm_query_batched(['q', 'r'], ['a', 5])", "TypeError: contexts[1] must be a str, list or dict"),
    ],
)
def test_a_call_that_cannot_be_made_is_a_clear_error_and_asks_nothing(
    kept: Kept, repl: Sandbox, call: str, said: str
) -> None:
    result = repl.run(call)
    assert result.error is not None
    assert said in result.error
    assert (kept.asked, result.calls) == ([], 0)
    assert shown(repl, "rlm_query('q', 'c')") == "'None:q'\n"  # the REPL goes on


def test_the_time_of_an_open_child_counts_in_no_limit(kept: Kept) -> None:
    """Neither in the cell's own time nor in its longer limit, which is made as short here."""
    kept.before_answer.clear()
    with over(kept, "str", ["hello"], code_timeout_s=0.1) as repl:
        running = threading.Thread(target=lambda: shown(repl, "rlm_query('q')"))
        running.start()
        wait_until(lambda: bool(kept.asked))
        session = session_of(repl)
        before = session.total_s
        threading.Event().wait(2.2)  # beyond both limits, 0.1 s and 2 s
        assert session.total_s == before
        kept.before_answer.set()
        running.join()
        assert session.gone is None


def test_an_interrupted_upload_leaves_the_repl_usable(kept: Kept, repl: Sandbox) -> None:
    code = "\n".join(
        [
            "import json",
            "class Slow(str):",
            "    def isascii(self): raise KeyboardInterrupt",
            "rlm_query('q', ['ok', Slow('x')])",
        ]
    )
    result = repl.run(code)
    assert result.error is not None
    assert "KeyboardInterrupt" in result.error
    assert shown(repl, "rlm_query('q', 'c')") == "'None:q'\n"
    assert kept.puts == 1


def test_an_error_of_the_store_ends_the_cell_and_is_raised(kept: Kept, repl: Sandbox) -> None:
    kept.store_error = Unreachable("Redis", "x", "is away", "")
    with pytest.raises(Unreachable):
        repl.run("rlm_query('q', 'c')")


def test_an_abort_ends_a_cell_that_waits_for_a_child(kept: Kept, repl: Sandbox) -> None:
    kept.before_answer.clear()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            repl.run("rlm_query('q')")
        except Cancelled as error:
            raised.append(error)

    running = threading.Thread(target=run)
    running.start()
    wait_until(lambda: bool(kept.asked))
    repl.abort(Cancelled("j"))
    running.join()
    assert len(raised) == 1
    kept.before_answer.set()


def test_the_host_holds_little_of_a_large_context(tmp_path: Path) -> None:
    """60 MB pass through, and the host's peak memory grows by far less."""
    kept = Kept(tmp_path)

    def store(file: BinaryIO, sha256: str, size_bytes: int) -> ContextRef:
        info = describe(file, size_bytes)
        return ContextRef(sha256=sha256, size_bytes=size_bytes, info=info)

    kept.store = store  # type: ignore[method-assign]
    with over(kept, "str", ["hello"]) as repl:
        shown(repl, "rlm_query('q', 'y' * 1000)")
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        shown(repl, "rlm_query('q', 'y' * 60_000_000)")
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 50_000  # in kB
    ref = kept.asked[-1][1]
    assert ref is not None
    assert ref.info.chars == 60_000_000


HELPERS = """
import base64, hashlib
def b64(data): return base64.b64encode(data).decode()
HEAD = b'{"v":1,"kind":"str","n":1,"several":false,"named":false}\\n'
def text(data): return HEAD + len(data).to_bytes(8, "little") + data
def upload(id, data, last=True): send(op="upload", id=id, data=b64(data), last=last)
def ask(id, *names):
    send(op="children", id=id, prompts=["q"] * len(names), contexts=list(names), model=None)
"""
READY = PRELUDE + HELPERS + "read()\nsend(op='ready')\nread()\n"


def fake(kept: Kept, script: str) -> Sandbox:
    """A sandbox with children whose process runs ``script`` instead of the REPL."""
    child = kept.folder / "fake.py"
    child.write_text(script)
    context = write_context(kept.folder / "context", "str", ["hello"])
    limits = SandboxLimits(code_timeout_s=20.0)
    return Sandbox(context_path=context, query=echo, limits=limits, start=PlainStart(child), children=kept)


def test_the_fake_itself_can_be_honest(kept: Kept) -> None:
    script = (
        READY + "upload(1, text(b'a')[:20], last=False)\nupload(1, text(b'a')[20:])\nask(1, 1, 'own', None)\n"
    )
    with fake(kept, script + "r = read()\ndone(names=[r['answers'][0]['text']])\ntime.sleep(60)") as repl:
        assert repl.run("x").error is None
    assert [ref.info.chars if ref else None for _, ref in kept.asked] == [1, 5, None]


@pytest.mark.parametrize(
    "attack",
    [
        "upload(1, text(b'a')); upload(1, b'more')",
        "upload(5, text(b'a')); upload(4, text(b'a'))",
        "upload(0, text(b'a'))",
        "send(op='upload', id=1, data='not base64!', last=True)",
        "send(op='upload', id=1, data='', last=True)",
        "send(op='upload', id=1, data='A' * (5 << 20), last=True)",
        "send(op='upload', id=1, data=b64(text(b'a')), last='yes')",
        "[upload(1, b'x' * (3 << 20), last=False) for _ in range(30)]",
        "upload(1, b'garbage')",
        "upload(1, HEAD)",
        "upload(1, text(b'a') + b'more')",
        "upload(1, text(b'a')[:-1])",
        "upload(1, text(b'\\xff'))",
        "upload(1, HEAD.replace(b'str', b'own') + bytes(8))",
        "upload(1, HEAD.replace(b':1,\"s', b':99999999,\"s') + bytes(8))",
        "upload(1, HEAD.replace(b'str', b'dict') + bytes(8))",
        "upload(1, b'{' * 1_000_000)",
        "ask(1, 1)",
        "upload(1, text(b'a')); send(op='forget', ids=[1]); ask(1, 1)",
        "upload(1, text(b'a'), last=False); ask(1, 1)",
        "ask(1, 'other')",
        "ask(1, True)",
        "ask(1)",
        "send(op='children', id=1, prompts=['q', 'r'], contexts=[None], model=None)",
        "send(op='children', id=1, prompts=[''], contexts=[None], model=None)",
        "send(op='children', id=1, prompts=[5], contexts=[None], model=None)",
        "send(op='forget', ids=list(range(20_000)))",
        "[upload(n, text(b'a')) for n in range(1, 10_002)]",
    ],
)
def test_a_frame_that_breaks_the_rules_ends_the_process_and_loses_the_cell(kept: Kept, attack: str) -> None:
    with fake(kept, READY + attack + "\ntime.sleep(60)") as repl:
        result = repl.run("x = 1")
    assert result.state_lost
    assert result.lost_by == "protocol"


def test_a_job_without_children_takes_no_such_frame(kept: Kept) -> None:
    child = kept.folder / "fake.py"
    for attack in ("upload(1, text(b'a'))", "ask(1, None)", "send(op='forget', ids=[])"):
        child.write_text(READY + attack + "\ntime.sleep(60)")
        context = write_context(kept.folder / "context", "str", ["hello"])
        limits = SandboxLimits(code_timeout_s=20.0)
        with Sandbox(context_path=context, query=echo, limits=limits, start=PlainStart(child)) as repl:
            assert repl.run("x").lost_by == "protocol"


def test_an_upload_that_is_never_finished_ends_with_its_process(kept: Kept) -> None:
    with fake(kept, READY + "upload(1, b'abc', last=False)\ndone()\ntime.sleep(60)") as repl:
        assert repl.run("x").error is None
        session = session_of(repl)
        assert session._uploads is not None
        assert session._uploads._file is not None
    session._reader.join(20)
    assert session._uploads._file is None
    with suppress(FileNotFoundError):
        assert [path.name for path in kept.folder.iterdir() if path.name not in ("context", "fake.py")] == []
