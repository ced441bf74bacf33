"""Random small loops do the same with their plans as without, whatever fails or has no room."""

import zlib
from textwrap import indent

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.loop_runs import run

HEAD = """
pieces = ["a", "b", "a", "c", "d"]
words = {"a": "A", "b": "B", "d": "D"}
numbers = [3, 1, 2]
notes, found, slots, count, text = [], {}, [None] * 4, 0, ""
answer = last = ""
"""

TEXTS = st.sampled_from(
    ["p", "'fix'", "f'{p} one'", "p + p", "p.upper()", "words.get(p, 'none')", "words[p]", "str(i)", "prompt"]
)
# Some of these must keep a loop from having a plan: they look at what it changes, or may raise.
RISKY = st.sampled_from(
    ["last", "f'{count} {p}'", "str(len(notes))", "text", "answer", "str(slots[0])", "''"]
)
PROMPTS = st.one_of(TEXTS, TEXTS, TEXTS, RISKY)
CALLS = PROMPTS.map(lambda prompt: f"llm_query({prompt})")
VALUES = st.one_of(
    CALLS,
    CALLS.map(lambda call: f"{call}.strip()"),
    CALLS.map(lambda call: f"(p, {call})"),
    CALLS.map(lambda call: f"f'{{p}}: {{{call}}}'" if "'" not in call else call),
    CALLS.map(lambda call: f"{call} if p != 'b' else 'none'"),
    CALLS.map(lambda call: f"{call}[5]"),
    st.just("answer"),
    st.just("p"),
)
TESTS = st.sampled_from(
    [
        "p == 'a'",
        "p in words",
        "words[p] == 'A'",
        "'b' in answer",
        "not p",
        "len(p) > 0",
        "count > 2",
        "i % 2",
    ]
)
SIMPLE = st.one_of(
    VALUES.map(lambda value: f"notes.append({value})"),
    VALUES.map(lambda value: f"answer = {value}"),
    VALUES.map(lambda value: f"found[p] = {value}"),
    VALUES.map(lambda value: f"slots[i] = {value}"),
    CALLS.map(lambda call: f"text += {call}"),
    CALLS.map(lambda call: f"notes += [{call}]"),
    CALLS.map(lambda call: f"count += len({call})"),
    TEXTS.map(lambda prompt: f"prompt = {prompt}"),
    st.sampled_from(
        [
            *(
                "count += 1",
                "last = answer",
                "print(p, count)",
                "print(answer)",
                "pass",
                "notes.append(count)",
            ),
            *("pieces.append('z') if len(pieces) < 7 else None", "words[p] = 'x'", "text += p"),
        ]
    ),
)


def _block(statements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(statements, min_size=1, max_size=3).map("\n".join)


def _compound(statements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    body = _block(statements).map(lambda code: indent(code, "    "))
    return st.one_of(
        st.tuples(TESTS, body).map(lambda parts: f"if {parts[0]}:\n{parts[1]}"),
        st.tuples(TESTS, body, body).map(lambda parts: f"if {parts[0]}:\n{parts[1]}\nelse:\n{parts[2]}"),
        TESTS.map(lambda test: f"if {test}:\n    continue"),
        TESTS.map(lambda test: f"if {test}:\n    break"),
        body.map(lambda code: f"for q in numbers:\n{code}"),
        st.tuples(body, body).map(
            lambda parts: f"try:\n{parts[0]}\nexcept Exception as error:\n{parts[1]}\n    print(error)"
        ),
        body.map(lambda code: f"try:\n{code}\nexcept LLMQueryError:\n    answer = 'failed'"),
    )


STATEMENTS = st.recursive(SIMPLE, _compound, max_leaves=5)
HEADERS = st.sampled_from(
    [
        "for i, p in enumerate(pieces):",
        "for i, (p, n) in enumerate(zip(pieces, numbers)):",
        "for i, p in enumerate(words):",
        "for i, p in enumerate(list(words.values())):",
        "for i, p in enumerate(iter(pieces)):",
    ]
)
LOOPS = st.tuples(HEADERS, st.lists(STATEMENTS, min_size=1, max_size=4)).map(
    lambda parts: f"{parts[0]}\n{indent(chr(10).join(parts[1]), '    ')}"
)
COMPREHENSIONS = st.tuples(VALUES, st.sampled_from(["", " if p != 'c'", " if words[p]"])).map(
    lambda parts: f"notes = [{parts[0]} for i, p in enumerate(pieces){parts[1]}]"
)
PROGRAMS = st.tuples(st.one_of(LOOPS, LOOPS, LOOPS, COMPREHENSIONS), st.booleans()).map(
    lambda parts: (
        f"def work():\n    global notes, found, answer, text, count, last, prompt\n"
        f"{indent(parts[0], '    ')}\nwork()"
        if parts[1]
        else parts[0]
    )
)


@settings(max_examples=300)
@given(
    st.lists(PROGRAMS, min_size=1, max_size=2), st.integers(0, 1000), st.integers(0, 6), st.integers(1, 40)
)
def test_the_same_state_and_the_same_calls(programs: list[str], seed: int, failing: int, room: int) -> None:
    """So are the calls, but for some after a failed one; a later block that asks for them uses them."""

    def fails(call: str) -> bool:
        return zlib.crc32(f"{seed}{call}".encode()) % 20 < failing

    blocks = (HEAD, *programs)
    planned = run(*blocks, fails=fails, room=lambda _: room)
    plain = run(*blocks, planned=False, fails=fails)
    assert planned[:3] == plain[:3]
    assert set(plain.ids) <= set(planned.ids)
    assert len(planned.ids) == len(set(planned.ids))
    if not failing:
        assert planned.ids == plain.ids
