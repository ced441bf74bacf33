"""Which loops get a plan of their calls, and that a loop does the same with its plan as without."""

from dataclasses import dataclass
from textwrap import dedent

import pytest

from rlm_dist.sandbox.inside import calls_ahead
from tests.support.loop_runs import never, run

HEAD = """
pieces = ["a", "b", "c"]
pairs = [("a", 1), ("b", 2), ("c", 3)]
docs = [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}, {"id": 3, "text": "c"}]
groups = [["a", "b"], ["c"]]
context = "abcdefgh"
notes, found, slots, total, joined = [], {}, [None] * 3, 0, ""
names = set()
"""

TAKEN = {
    "append": "for p in pieces: notes.append(llm_query(f'x {p}'))",
    "append with a model": "for p in pieces: notes.append(llm_query(p, 'm'))",
    "keywords": "for p in pieces: notes.append(llm_query(prompt=p, model='m'))",
    "dict slot": "for p in pieces: found[p] = llm_query(p)",
    "list slot": "for i, p in enumerate(pieces): slots[i] = llm_query(p)",
    "negative slot": "for i in range(3): slots[-1 - i] = llm_query(f'{i}')",
    "a name that is only stored": """
        for p in pieces:
            answer = llm_query(p)
            notes.append(answer)
        """,
    "a prompt of its own": """
        for i, p in enumerate(pieces, start=1):
            prompt = f"Part {i} of {len(pieces)}:" + "\\n" + p.strip()
            notes.append((i, llm_query(prompt)))
        """,
    "slices of the context": """
        for start in range(0, len(context), 3):
            chunk = context[start : start + 3]
            notes.append(llm_query(f"Sum up: {chunk}"))
        """,
    "list comprehension": "notes = [llm_query(p) for p in pieces]",
    "comprehension with a test": "notes = [llm_query(p) for p in pieces if p != 'b']",
    "comprehension of two": "notes = [llm_query(q + p) for q in 'xy' for p in pieces]",
    "dict comprehension": "found = {p: llm_query(p) for p in pieces}",
    "set comprehension": "names = {llm_query(p) for p in pieces}",
    "comprehension as the last expression": "[llm_query(p) for p in pieces]",
    "an answer that is stripped": "notes = [llm_query(p).strip().lower() for p in pieces]",
    "zip": "for p, d in zip(pieces, docs): notes.append(llm_query(p + d['text']))",
    "dict items": "for k, v in {'k': 'v', 'l': 'w'}.items(): found[k] = llm_query(v)",
    "pairs": "for p, n in pairs: found[p, n] = llm_query(p * n)",
    "documents": "for d in docs: notes.append({'id': d['id'], 'answer': llm_query(d['text'])})",
    "message lists": """
        for p in pieces: notes.append(llm_query([{"role": "user", "content": p}]))
        """,
    "joined in the prompt": "for g in groups: notes.append(llm_query(' '.join(x.upper() for x in g)))",
    "conditional by piece": """
        for p in pieces:
            if p != "b":
                notes.append(llm_query(p))
            else:
                notes.append("none")
        """,
    "continue by piece": """
        for p in pieces:
            if not p.strip() or p == "b":
                continue
            notes.append(llm_query(p))
        """,
    "call in one branch of an expression": "notes = [llm_query(p) if p > 'a' else '' for p in pieces]",
    "print of the answer": """
        for i, p in enumerate(pieces):
            answer = llm_query(p)
            print(f"{i}: {answer[:10]}", len(answer))
            notes.append(answer)
        """,
    "looked at without asking again": """
        for p in pieces:
            answer = llm_query(p)
            if "b" in answer.lower() or not answer:
                names.add(p)
                found[p] = answer
        """,
    "counted": """
        for p in pieces:
            total += 1
            notes.append(llm_query(p))
            print("done", total)
        """,
    "joined to a text": "for p in pieces: joined += llm_query(p) + '\\n'",
    "added as a list": "for p in pieces: notes += [llm_query(p)]",
    "two calls": """
        for p in pieces:
            found[p] = (llm_query(f"one {p}"), llm_query(f"two {p}"))
        """,
    "the same prompt again": "for _ in range(4): notes.append(llm_query('same'))",
    "nested loops": """
        for g in groups:
            for p in g:
                notes.append(llm_query(p))
        """,
    "else clause": """
        for p in pieces:
            notes.append(llm_query(p))
        else:
            notes.append(llm_query("else"))
        """,
    "try around the loop": """
        try:
            for p in pieces: notes.append(llm_query(p))
        except LLMQueryError as error:
            notes.append(str(error))
        """,
    "try in the loop": """
        for p in pieces:
            try:
                answer = llm_query(p)
            except Exception as error:
                answer = f"failed: {error}"
            notes.append(answer.strip())
        """,
    "a function called later": """
        def ask(items, question):
            results = []
            for item in items:
                results.append(llm_query(f"{question} {item}"))
            return results
        notes = ask(pieces, "What is") + ask(pieces, "Who is")
        """,
    "inner loop of one that has no plan": """
        while len(notes) < 5:
            for p in pieces: notes.append(llm_query(p))
        """,
    "answers of an earlier loop": """
        first = [llm_query(p) for p in pieces]
        notes = [llm_query(f"Check: {f}") for f in first]
        """,
    "a method of a class": """
        class Asker:
            def ask(self, items):
                return [llm_query(i) for i in items]
        notes = Asker().ask(pieces)
        """,
    "await elsewhere": """
        import asyncio
        await asyncio.sleep(0)
        for p in pieces: notes.append(llm_query(p))
        """,
}

LEFT_ALONE = {
    "shadowed in the block": """
        def llm_query(prompt): return prompt
        for p in pieces: notes.append(llm_query(p))
        """,
    "shadowed as a parameter": """
        def ask(llm_query):
            for p in pieces: notes.append(llm_query(p))
        ask(str.upper)
        """,
    "shadowed by an import": """
        from math import floor as llm_query
        notes = [llm_query(1.5) for p in pieces]
        """,
    "shadowed when it runs": """
        globals()["llm_query"] = lambda prompt: prompt
        for p in pieces: notes.append(llm_query(p))
        """,
    "a function of Python's shadowed": """
        def len(x): return notes.append("len") or 1
        for p in pieces: notes.append(llm_query(f"{len(p)} {p}"))
        """,
    "a function of Python's shadowed before": """
        globals()["len"] = lambda x: notes.append("len") or 1
        for p in pieces: notes.append(llm_query(f"{len(p)} {p}"))
        """,
    "break on an answer": """
        for p in pieces:
            answer = llm_query(p)
            if "b" in answer:
                break
        """,
    "break": """
        for p in pieces:
            notes.append(llm_query(p))
            break
        """,
    "return": """
        def ask():
            for p in pieces:
                answer = llm_query(p)
                if answer: return answer
        ask()
        """,
    "raise": """
        for p in pieces:
            if p == "b": raise KeyError(p)
            notes.append(llm_query(p))
        """,
    "an answer in the next prompt": """
        last = ""
        for p in pieces:
            last = llm_query(f"{p} after {last}")
            notes.append(last)
        """,
    "answers so far in the prompt": "for p in pieces: notes.append(llm_query(f'{p} {notes}'))",
    "how many so far in the prompt": "for p in pieces: notes.append(llm_query(f'{p} {len(notes)}'))",
    "an alias in the prompt": """
        alias = notes
        for p in pieces: notes.append(llm_query(f'{p} {alias}'))
        """,
    "an alias of what is iterated over": """
        alias = pieces
        for p in pieces:
            if len(p) < 3: alias.append(p + "x")
            notes.append(llm_query(p))
        """,
    "a sum in the prompt": """
        for p in pieces:
            total += 1
            notes.append(llm_query(f"{total} {p}"))
        """,
    "a second call by the first answer": """
        for p in pieces:
            first = llm_query(p)
            if "a" in first:
                notes.append(llm_query("more " + p))
        """,
    "a second call with the first answer": "for p in pieces: notes.append(llm_query(llm_query(p)))",
    "or": "for p in pieces: notes.append(p == 'b' or llm_query(p))",
    "a generator with side effects": """
        def items():
            for p in pieces:
                notes.append(f"made {p}")
                yield p
        for p in items(): notes.append(llm_query(p))
        """,
    "an iterator": """
        items = iter(pieces)
        for p in items: notes.append(llm_query(p))
        """,
    "an iterator shared with the body": """
        items = iter(pieces)
        for p in items: notes.append(llm_query(p + next(items, "")))
        """,
    "a helper that makes the prompt": """
        def prompt_of(p): return notes.append("made") or f"x {p}"
        for p in pieces: notes.append(llm_query(prompt_of(p)))
        """,
    "an object that is shown in the prompt": """
        class Shown:
            def __str__(self): return notes.append("shown") or "x"
        for p in [Shown(), Shown()]: notes.append(llm_query(f"{p}"))
        """,
    "an object deep in what is iterated over": """
        class Shown:
            def __repr__(self): return notes.append("shown") or "x"
        for p in [[1, [Shown()]], [2, [3]]]: notes.append(llm_query(f"{p}"))
        """,
    "a list of the block's own class": """
        class Log(list):
            def append(self, item): super().append(item); pieces.clear()
        log = Log()
        for p in pieces: log.append(llm_query(p))
        """,
    "an answer that is parsed": "for p in pieces: notes.append(int(llm_query(p)))",
    "an answer that is indexed": "for p in pieces: notes.append(llm_query(p)[0])",
    "an answer that is handed on": """
        for p in pieces: notes.append(dict.fromkeys([llm_query(p)]))
        """,
    "a slot that is not there": "for i, p in enumerate(pieces): slots[i + 3] = llm_query(p)",
    "a key that cannot be one": "for p in pieces: found[[p]] = llm_query(p)",
    "a sum of unlike types": "for p in pieces: total += llm_query(p)",
    "plus a number": "for i, p in enumerate(pieces): notes.append(i + llm_query(p))",
    "append to what is None": """
        nothing = None
        for p in pieces: nothing.append(llm_query(p))
        """,
    "append to what is not there": "for p in pieces: nowhere.append(llm_query(p))",
    "append to a list of lists": "for p in pieces: slots[0].append(llm_query(p))",
    "walrus": "for p in pieces: notes.append((answer := llm_query(p)))",
    "walrus in a comprehension": "notes = [answer for p in pieces if (answer := llm_query(p))]",
    "multiplied": "for p in pieces: joined *= len(llm_query(p))",
    "with": """
        import contextlib
        for p in pieces:
            with contextlib.suppress(LLMQueryError): notes.append(llm_query(p))
        """,
    "a try that breaks": """
        for p in pieces:
            try: notes.append(llm_query(p))
            except LLMQueryError: break
        """,
    "a lambda in the loop": "for p in pieces: notes.append((lambda: llm_query(p))())",
    "a function in the loop": """
        for p in pieces:
            def ask(): return llm_query(p)
            notes.append(ask())
        """,
    "another function beside it": """
        def helper(): notes.append(llm_query("help"))
        for p in pieces:
            helper()
            notes.append(llm_query(p))
        """,
    "a loop that deletes": """
        for p in pieces:
            notes.append(llm_query(p))
            del notes[0]
        """,
    "a loop over its own name": """
        x = ["a", "b"]
        for x in x: notes.append(llm_query(x))
        """,
    "a prompt that an inner loop changes": """
        for p in pieces:
            prompt = p
            for n in range(2):
                notes.append(llm_query(prompt))
                prompt = prompt + "x"
        """,
    "the iterable rebound": """
        for i in range(len(pieces)):
            notes.append(llm_query(pieces[0]))
            pieces = pieces[1:]
        """,
    "yield": """
        def asked():
            for p in pieces: yield llm_query(p)
        next(asked())
        """,
    "a generator expression": "notes = any(llm_query(p) for p in pieces)",
    "a class's own block": """
        class Holder:
            items = ["x", "y"]
            answers = []
            for p in items: answers.append(llm_query(p))
        """,
    "a sleep": """
        import time
        for p in pieces:
            time.sleep(0)
            notes.append(llm_query(p))
        """,
    "a global": """
        def ask():
            global joined
            for p in pieces:
                joined = llm_query(p + joined)
        ask()
        """,
    "starred arguments": "for p in pieces: notes.append(llm_query(*[p]))",
    "a dict that is unpacked": "for p in pieces: notes.append({**found, 'a': llm_query(p)})",
    "while": """
        while len(notes) < 3: notes.append(llm_query("x"))
        """,
    "async for": """
        async def items():
            for p in pieces: yield p
        async for p in items(): notes.append(llm_query(p))
        """,
    "a match": """
        for p in pieces:
            match llm_query(p):
                case "x": break
                case other: notes.append(other)
        """,
    "assert": """
        for p in pieces:
            answer = llm_query(p)
            assert "c" not in answer
        """,
    "one piece": "for p in pieces[:1]: notes.append(llm_query(p))",
    "no calls": "for p in pieces: notes.append(p)",
}

FAILING = {"nothing": never, "b": lambda call: "b" in call, "all": lambda call: True}


@dataclass(frozen=True)
class Snippet:
    """A block over the variables of HEAD."""

    code: str

    @property
    def text(self) -> str:
        """The whole block."""
        return HEAD + dedent(self.code)


def _all() -> list[object]:
    snippets = {**TAKEN, **{f"left {name}": code for name, code in LEFT_ALONE.items()}}
    return [pytest.param(Snippet(code), id=name) for name, code in snippets.items()]


@pytest.mark.parametrize("code", TAKEN.values(), ids=TAKEN)
def test_calls_that_are_only_stored_are_issued_together(code: str) -> None:
    played = run(Snippet(code).text)
    assert played.error is None
    assert max(played.frames) > 1


@pytest.mark.parametrize("code", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_where_the_pass_is_not_sure_calls_go_one_by_one(code: str) -> None:
    assert set(run(Snippet(code).text).frames) <= {1}


@pytest.mark.parametrize("failing", FAILING)
@pytest.mark.parametrize("snippet", _all())
def test_a_planned_loop_does_what_it_does_without_its_plan(snippet: Snippet, failing: str) -> None:
    """Variables, output, error and line are the same; so are the calls, up to those after a failed one."""
    fails = FAILING[failing]
    planned, plain = (run(snippet.text, planned=planned, fails=fails) for planned in (True, False))
    assert planned[:3] == plain[:3]
    assert [call for call in planned.ids if call in plain.ids] == plain.ids
    if fails is never:
        assert planned.ids == plain.ids


@pytest.mark.parametrize("room", [1, 2])
@pytest.mark.parametrize("code", TAKEN.values(), ids=TAKEN)
def test_calls_without_room_are_made_at_their_line(code: str, room: int) -> None:
    planned = run(Snippet(code).text, room=lambda _: room)
    assert planned[:4] == run(Snippet(code).text, planned=False)[:4]


def test_at_most_32_are_issued_at_a_time() -> None:
    played = run("notes = []\nfor i in range(70): notes.append(llm_query(f'{i}'))")
    assert played.frames == [32, 32, 6]


def test_after_a_failure_no_more_are_issued_and_a_retry_uses_what_was() -> None:
    """The calls after the failed one keep the ids that they would have got, and are not made twice."""
    loop = "for i in range(start, 100): notes.append(llm_query(f'{i}'))"
    again = f"start = len(notes)\n{loop}"
    blocks = ("notes, start = [], 0", loop, again)

    def fails(call: str) -> bool:
        return call == "40#1"

    planned, plain = run(*blocks, fails=fails), run(*blocks, planned=False, fails=fails)
    assert (planned.variables, planned.error) == (plain.variables, None)
    assert sorted(planned.ids) == sorted(plain.ids)


def test_what_was_issued_in_vain_serves_a_later_batch() -> None:
    blocks = ("for i in range(5): llm_query(f'{i}')", "llm_query_batched([str(i) for i in range(6)])")
    planned, plain = (run(*blocks, planned=on, fails=lambda call: call == "1#1") for on in (True, False))
    assert planned.output == plain.output
    assert sorted(planned.ids) == sorted(plain.ids)


def test_an_empty_prompt_raises_at_its_line_and_nothing_after_it_is_asked() -> None:
    code = "notes = []\nfor p in ['a', 'b', ' ', 'c']:\n    notes.append(llm_query(p))"
    planned = run(code)
    assert planned[:4] == run(code, planned=False)[:4]
    assert planned.ids == ["a#1", "b#1"]


def test_a_wrong_plan_costs_at_most_one_window_and_changes_nothing() -> None:
    """A list that another thread changes, say; here the loop's own print does."""
    code = """
import io, contextlib
pieces, notes = [str(i) for i in range(100)], []
class Out(io.StringIO):
    def write(self, text):
        pieces.reverse()
        return len(text)
with contextlib.redirect_stdout(Out()):
    for p in pieces:
        notes.append(llm_query(p))
        print("x", end="")
"""
    planned, plain = run(code), run(code, planned=False)
    assert planned.variables == plain.variables
    assert len(planned.ids) <= len(plain.ids) + 31


def test_locals_and_globals_do_not_show_the_pass() -> None:
    code = """
def ask(pieces):
    notes = []
    for p in pieces: notes.append(llm_query(p))
    return sorted(locals()), sorted(name for name in globals() if not name.startswith("__b"))
ask(["a", "b"])
"""
    assert run(code).output == run(code, planned=False).output


def test_a_loop_with_few_calls_is_not_looked_through_before_its_first_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What takes longer than the look may is left to the next window."""
    monkeypatch.setattr(calls_ahead, "_MAX_LOOK_S", 0)
    code = "notes = []\nfor n in range(9):\n    if n % 3 == 0: notes.append(llm_query(f'{n}'))"
    played = run(code)
    assert played[:4] == run(code, planned=False)[:4]
    assert played.frames == [1, 1, 1]
