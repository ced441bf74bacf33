"""Where a plan must end or not be made at all, and what becomes of calls that were issued ahead in vain."""

import ast
from textwrap import dedent
from typing import Any
from unittest import mock

import pytest

from rlm_dist.sandbox.inside import calls_ahead, cells
from tests.support.loop_runs import never, run

HEAD = 'pieces = ["a", "b", "c", "d"]\nnotes, seen = [], []\n'

# No call may be issued that these would not have made, though a plan that takes a wrong turn would.
EXACT = {
    "continue in a nested if": """
        for p in pieces:
            if p < "d":
                if p == "b":
                    continue
                notes.append(llm_query(p + "1"))
            notes.append(llm_query(p + "2"))
        """,
    "continue in an else": """
        for p in pieces:
            if p == "a":
                notes.append(p)
            else:
                if p == "b":
                    continue
            notes.append(llm_query(p))
        """,
    "continue in a try": """
        for p in pieces:
            try:
                if p == "b":
                    continue
                notes.append(llm_query(p))
            except LLMQueryError:
                continue
            notes.append(llm_query(p + "2"))
        """,
    "continue in a branch that continues": """
        for p in pieces:
            if p < "c":
                if p == "a":
                    continue
                notes.append(p)
                continue
            notes.append(llm_query(p))
        """,
    "continue of an inner loop": """
        for p in pieces:
            for q in "xy":
                if q == "x":
                    continue
                notes.append(llm_query(p + q))
            notes.append(llm_query(p))
        """,
    "a piece without the key that the prompt needs": """
        for piece in [{"t": "a"}, {"t": "b"}, {"u": "c"}, {"t": "d"}]:
            notes.append(llm_query(f"About {piece['t']}"))
        """,
    "a comprehension's prompt that fails": """
        notes = [llm_query(f"{piece['t']}") for piece in [{"t": "a"}, {"t": "b"}, {}, {"t": "d"}]]
        """,
    "a comprehension's condition that fails": "notes = [llm_query(f'{n}') for n in [1, 2, 'x', 3] if n > 0]",
    "a comprehension's condition with a side effect": """
        def is_new(p): return seen.append(p) or p != "b"
        notes = [llm_query(p) for p in pieces if is_new(p)]
        """,
    "what follows the answer fails": "notes = [llm_query(p) + {'a': '', 'b': ''}[p] for p in pieces]",
    "a key that cannot be one": "notes = {llm_query(p): 1 for p in pieces} | {[]: llm_query('x')}",
    "unpacking that fails": """
        for p, q in [("a", "b"), ("c", "d"), ("e",), ("f", "g")]: notes.append(llm_query(p + q))
        """,
    "the list grows": """
        for p in pieces:
            if len(p) < 3: pieces.append(p + "x")
            notes.append(llm_query(p))
        """,
    "the list shrinks": """
        for p in pieces:
            notes.append(llm_query(p))
            pieces.remove(p)
        """,
    "a dict that changes its size": """
        known = {"a": 1, "b": 2}
        for p in known:
            notes.append(llm_query(p))
            known[p + "x"] = 1
        """,
    "an iterator of the block's own": """
        class Once:
            def __iter__(self): return self
            def __next__(self):
                seen.append(len(seen))
                if len(seen) > 3: raise StopIteration
                return f"{len(seen)}"
        for p in Once(): notes.append(llm_query(p))
        """,
    "numbers of a generator's items": """
        def made():
            for p in pieces:
                seen.append(p)
                yield p
        for i, p in enumerate(made()): notes.append(llm_query(p))
        """,
    "an iterator twice": """
        items = iter(pieces)
        for p, q in zip(items, items): notes.append(llm_query(p + q))
        """,
    "the same object": """
        for p in pieces:
            q = p + "x"
            if q is not p + "x": notes.append(llm_query(p))
        """,
    "codecs' errors that the block handles": """
        import codecs
        codecs.register_error("noted", lambda error: seen.append("noted") or ("?", error.end))
        for p in "äö": notes.append(llm_query(f"{p.encode('ascii', 'noted')}"))
        for p in "äö": notes.append(llm_query(str(b"\\xff", "ascii", "noted")))
        """,
    "a return in a finally": """
        def ask():
            for p in pieces:
                try: notes.append(llm_query(p))
                finally: return
        ask()
        """,
    "an end by an answer handed in": """
        def FINAL(value): raise SystemError(value)
        for p in pieces:
            notes.append(llm_query(p))
            if p == "b": FINAL(p)
        """,
    "a name that is not bound yet": """
        def ask():
            for p in pieces: later.append(llm_query(p))
            later = []
        ask()
        """,
}

FAILING = {"nothing": never, "b": lambda call: "b" in call}


@pytest.mark.parametrize("failing", FAILING)
@pytest.mark.parametrize("code", EXACT.values(), ids=EXACT)
def test_the_same_as_without_plans(code: str, failing: str) -> None:
    """The state, the error and its line; and the calls, unless one of them fails."""
    fails = FAILING[failing]
    planned, plain = (run(HEAD + dedent(code), planned=on, fails=fails) for on in (True, False))
    assert planned[:3] == plain[:3]
    if fails is never:
        assert planned.ids == plain.ids


def test_calls_before_the_piece_that_fails_were_issued_together() -> None:
    played = run(HEAD + dedent(EXACT["a piece without the key that the prompt needs"]))
    assert (played.frames, played.error) == ([2], ("KeyError", "'t'", 5))


SCHEMA = "schema={'type': 'string'}"


@pytest.mark.parametrize(
    "call",
    [
        f"llm_query(p, {SCHEMA})",
        "llm_query(p, None, {'type': 'string'})",
        f"llm_query(prompt=p, model='m', {SCHEMA})",
        f"(llm_query(p), llm_query(p + '2', {SCHEMA}))",
        "rlm_query(p)",
        "(llm_query(p), rlm_query(p, 'its context'))",
        "(llm_query(p), search(p))",
    ],
)
def test_typed_calls_children_and_tools_are_asked_one_at_a_time(call: str) -> None:
    """A typed call may need more tries, and room for them; the others do more than ask."""
    given = {"search": str.upper}
    played = run(f"notes = []\nfor p in 'abc': notes.append({call})", given=given)
    assert played.error is None
    assert set(played.frames) == {1}


def test_a_typed_call_is_not_answered_by_one_without_a_schema() -> None:
    """Calls 2 and 3 of the loop were issued in vain; a plain call of the same words uses one of them."""
    loop = "for p in 'abcd': llm_query(p)"
    later = f"(llm_query('c', {SCHEMA}), llm_query_batched(['d'], {SCHEMA}), llm_query('c'))"
    planned, plain = (run(loop, later, planned=on, fails=lambda call: call == "b#1") for on in (True, False))
    assert planned.ids == ["a#1", "b#1", "c#1", "d#1", "c#2", "d#2"]
    assert plain.ids == ["a#1", "b#1", "c#1", "d#1", "c#2"]
    assert planned.output == "('<c#2>', ['<d#2>'], '<c#1>')\n"


def test_a_frame_holds_no_more_messages_than_the_host_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_ahead, "_MAX_LOOK_S", 60)
    code = """
        chat = [{"role": "user", "content": "x"}] * 999
        for n in range(30): notes.append(llm_query(chat + [{"role": "user", "content": f"{n}"}]))
        """
    played = run(HEAD + dedent(code))
    assert played.frames == [10, 10, 10]


def test_a_warning_of_the_compiler_is_shown_as_often_as_without_plans(
    recwarn: pytest.WarningsRecorder,
) -> None:
    code = "notes = []\nfor p in 'ab': notes.append(llm_query('same' if p is 'a' else p))"
    shown = []
    for planned in (True, False):
        recwarn.clear()
        run(code, planned=planned)
        shown.append([str(warning.message) for warning in recwarn])
    assert shown[0] == shown[1] != []


def test_a_name_that_compares_as_it_likes_is_not_taken_for_llm_query() -> None:
    code = """
        class Asked:
            ask = llm_query
            def __eq__(self, other): return seen.append("compared") or True
            def __ne__(self, other): return seen.append("compared") or False
            def __call__(self, prompt): return prompt if prompt == "b" else Asked.ask(prompt)
        globals()["llm_query"] = Asked()
        for p in pieces: notes.append(llm_query(p))
        """
    played = run(HEAD + dedent(code))
    assert (played.ids, played.variables["seen"]) == (["a#1", "c#1", "d#1"], "[]")


@pytest.mark.parametrize("tree", [RecursionError, [ast.Module([ast.Return()], [])]])
def test_a_block_that_cannot_be_compiled_with_plans_runs_as_it_was_written(tree: Any) -> None:
    code = HEAD + "for p in pieces: notes.append(llm_query(p))"
    with mock.patch.object(cells, "plan_loops", side_effect=tree):
        played = run(code)
    assert (played.frames, played.error) == ([1] * 4, None)
