"""The context in the REPL, for every kind and size."""

from pathlib import Path

import pytest

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox.host import Sandbox
from tests.support.sandboxes import LIMITS, echo, forks, peak_bytes, process_of, shown, write_context

EMOJI = "\N{GRINNING FACE}"


def sandbox(context: Path) -> Sandbox:
    """A REPL over an encoded context, not yet started."""
    return Sandbox(context_path=context, query=echo, limits=LIMITS, start=forks())


@pytest.mark.parametrize(
    ("kind", "texts", "several", "code", "expected"),
    [
        ("str", ["text"], False, "context, context_0", ("text", "text")),
        ("str", [""], False, "context", ""),
        ("str", [f"a{{b}}\ud800\0{EMOJI}"], False, "ascii(context)", "'a{b}\\ud800\\x00\\U0001f600'"),
        ("str", ["FINAL(1)\n```\n\r\n"], False, "context", "FINAL(1)\n```\n\r\n"),
        ("list", ["a", "", "c"], False, "context, context_0 is context", (["a", "", "c"], True)),
        ("list", [], False, "context", []),
        ("list", ["a", "b"], True, "context, context_0, context_1", (["a", "b"], "a", "b")),
        ("dict", ["k", "v", "l", "w"], False, "context", {"k": "v", "l": "w"}),
        ("json", ['{"a": [1, null, {"b": true}]}'], False, "context", {"a": [1, None, {"b": True}]}),
    ],
)
def test_each_kind_of_context_is_what_was_submitted(
    tmp_path: Path, kind: str, texts: list[str], several: bool, code: str, expected: object
) -> None:
    context = write_context(tmp_path / "context", kind, texts, several=several)
    with sandbox(context) as repl:
        assert shown(repl, code) == repr(expected) + "\n"
        assert shown(repl, "'context_paths' in globals()") == "False\n"


def test_named_contexts_have_their_paths(tmp_path: Path) -> None:
    context = write_context(
        tmp_path / "context", "list", ["A", "B", "a.txt", "b.txt"], several=True, named=True
    )
    with sandbox(context) as repl:
        assert shown(repl, "context, context_1, context_paths") == "(['A', 'B'], 'B', ['a.txt', 'b.txt'])\n"


def test_at_most_100_contexts_have_a_name_of_their_own(tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "list", [str(i) for i in range(150)], several=True)
    with sandbox(context) as repl:
        assert shown(repl, "context_99, 'context_100' in globals(), len(context)") == "('99', False, 150)\n"


def test_a_hundred_thousand_items(tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "list", [f"item {i}" for i in range(100_000)])
    with sandbox(context) as repl:
        assert shown(repl, "len(context), context[-1]") == "(100000, 'item 99999')\n"


@pytest.mark.parametrize(("text", "bytes_in_memory"), [("a" * 50_000_000, 50e6), (EMOJI * 12_500_000, 50e6)])
def test_50_megabytes_load_with_little_more_than_twice_their_memory(
    tmp_path: Path, text: str, bytes_in_memory: float
) -> None:
    """Some multi-byte characters cross the borders of the pieces that are read; none is broken."""
    context = write_context(tmp_path / "context", "str", ["x" + text])
    with sandbox(context) as repl:
        assert (
            shown(repl, f"len(context), context[1:] == {text[0]!r} * {len(text)}")
            == f"({len(text) + 1}, True)\n"
        )
    with sandbox(context) as repl:
        process = process_of(repl)
        assert peak_bytes(process) < 2.2 * bytes_in_memory + 60e6


def test_long_texts_side_by_side(tmp_path: Path) -> None:
    """Pure ASCII texts take a different path into the REPL from texts with one other character."""
    texts = ["a" * 3_000_000, "b" * 2_500_000 + EMOJI, "c", "d" * 2_000_000]
    context = write_context(tmp_path / "context", "list", texts)
    with sandbox(context) as repl:
        wanted = f"['a' * 3_000_000, 'b' * 2_500_000 + {EMOJI!r}, 'c', 'd' * 2_000_000]"
        assert shown(repl, f"context == {wanted}") == "True\n"


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"no header\n",
        b'{"v":2,"kind":"str","n":1,"several":false,"named":false}\n' + b"\1" + b"\0" * 7 + b"x",
        b'{"v":1,"kind":"odd","n":1,"several":false,"named":false}\n' + b"\1" + b"\0" * 7 + b"x",
        b'{"v":1,"kind":"str","n":1,"several":false,"named":false}\n' + b"\2" + b"\0" * 7 + b"x",
        b'{"v":1,"kind":"str","n":1,"several":false,"named":false}\n' + b"\1" + b"\0" * 7 + b"\xff",
        b'{"v":1,"kind":"str","n":9,"several":false,"named":false}\n' + b"\1" + b"\0" * 7 + b"x",
    ],
)
def test_a_damaged_context_is_an_error_at_the_start(tmp_path: Path, damaged: bytes) -> None:
    context = tmp_path / "context"
    context.write_bytes(damaged)
    with pytest.raises(SandboxError, match="the context cannot be loaded"):
        sandbox(context).start()


def test_a_missing_context_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="the context cannot be opened"):
        sandbox(tmp_path / "none").start()
