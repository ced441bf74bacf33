"""Traps 29 to 31, 36 and 37 of protocol.md: replies as models write them, no wrong answer as a success."""

from typing import Any

import pytest

from rlm_dist.engine import repeats
from rlm_dist.engine.parsing import parse
from rlm_dist.schema import JobLimits, JobState
from tests.support.fake_repl import FakeRepl, Run, reply

HITS = "```repl\nhits = ['a', 'b']\nnames = ['Ann', 'Bob']\ntotal = 5\n```"


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        ("hits = [1, 2]\nFINAL(len(hits))", "2"),
        ("python\nhits = [1, 2]\nFINAL(len(hits))", "2"),
        ("    hits = [1, 2]\n    FINAL(len(hits))\n", "2"),
        ("# Count the words\nn = len(context.split())\nFINAL_VAR('n')", "2"),
        ('s = """\n```\n"""\nFINAL(len(s))', "5"),
        ("answer['content'] = len(context)\nanswer['ready'] = True", "9"),
        ("for word in context.split():\n    last = word\nFINAL(last)", "text"),
        ("import re\nFINAL(re.findall('t.xt', context)[0])", "text"),
        ("FINAL(context[:4]) if context else FINAL('nothing')", "some"),
        ("<think>I count.</think>\nn = len(context)\nFINAL(n)", "9"),
    ],
)
def test_29_a_program_without_a_fence_is_run(program: str, answer: str) -> None:
    run = Run(program)
    assert (run.answer, run.outcome.state) == (answer, JobState.SUCCEEDED)
    assert len(run.repl.ran) == 1


@pytest.mark.parametrize("code", ["def f():\n    return 1", "x = len(context)", "await f()", "SHOW_VARS()"])
def test_29_one_statement_is_a_program_if_only_code_reads_so(code: str) -> None:
    assert parse(code).blocks == (code,)


def test_29_output_of_a_program_without_a_fence_is_shown() -> None:
    run = Run("print(len(context))", "lines = context.splitlines()\nprint(lines)", "FINAL(9)")
    assert run.script.last_message(1).startswith("Output of your code:\n9")
    assert "['some text']" in run.script.last_message(2)


@pytest.mark.parametrize(
    "prose",
    [
        "Paris", "Yes\nNo", "Paris (France)", "Total: 42", "Alice and Bob", "not found", "42",
        "global warming", "raise awareness", "import duties", "pass", "# Plan\n# Count",
        '{"answer": 3}',        "I will look at the context first.", "Answer: Paris\nCity: Paris", "del Toro",
    ],
)  # fmt: skip
def test_29_words_that_parse_are_no_program(prose: str) -> None:
    run = Run(prose, "FINAL(1)")
    assert run.repl.ran == []
    assert "FINAL(...)" in run.script.last_message()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("FINAL(Paris)", "Paris"),
        ("Done\nFINAL(42)", "42"),
        ("# Answer\nFINAL(Paris)", "Paris"),
        ('FINAL("x")', "x"),
        ("FINAL(Paris)\nFINAL(London)", "Paris"),
        ("Paris (France)\nFINAL(Paris)", "Paris"),
        ("Total: 42\nFINAL(42)", "42"),
    ],
)
def test_29_an_answer_as_text_is_no_program(text: str, answer: str) -> None:
    run = Run(text)
    assert (run.answer, run.repl.ran) == (answer, [])


def test_29_prose_and_code_without_a_fence_give_no_stale_answer() -> None:
    """The code was not run, so a variable still has the value of an earlier turn."""
    for code in ("hits = [w for w in context.split()]", "hits = [1]", "hits.append(count(context))"):
        text = f"Let me count again.\n\n{code}\nFINAL(len(hits))"
        run = Run(HITS, text, text, text.replace("len(hits)", "hits"), "FINAL(1)")
        assert run.answer == "1"
        assert [run.script.last_message(n).count("was not run") for n in (2, 3, 4)] == [1, 1, 1]


def test_29_code_without_a_fence_after_prose_is_said_back() -> None:
    run = Run("I split the text first.\n\nimport re\nparts = re.split('x', context)", "FINAL(1)")
    assert run.repl.ran == []
    assert "code outside a ```repl block. It was not run" in run.script.last_message()


def test_29_a_literal_beside_code_without_a_fence_waits_once() -> None:
    text = "I count.\n\nimport re\nn = len(re.findall('a', context))\nprint(n)\n\nFINAL(17)"
    run = Run(text, "FINAL(3)")
    assert run.answer == "3"
    assert "code outside a ```repl block" in run.script.last_message()
    assert Run(text, text).answer == "17"


def test_11_a_text_answer_beside_a_cut_block_is_not_taken() -> None:
    run = Run(HITS, reply("FINAL(total)\n```repl\ntotal = sum(", "length"), "FINAL(1)")
    assert run.answer == "1"
    assert "cut off" in run.script.last_message()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("FINAL(len(hits))", "2"),
        ("FINAL(', '.join(names))", "Ann, Bob"),
        ('FINAL("Total: " + str(total))', "Total: 5"),
        ('FINAL("yes" if total > 3 else "no")', "yes"),
        ("FINAL([name.lower() for name in names])", "['ann', 'bob']"),
        ("FINAL({'n': total})", "{'n': 5}"),
        ("FINAL(f'{total} hits')", "5 hits"),
        ("FINAL(total-1)", "4"),
        ("FINAL(total + 1)", "6"),
        ("FINAL(hits, names)", "(['a', 'b'], ['Ann', 'Bob'])"),
        ("FINAL(sum(\n    len(hit)\n    for hit in hits\n))", "2"),
        ("FINAL(max(hits))", "b"),
        ("FINAL(hits[0])", "a"),
        ("FINAL(value=len(hits))", "2"),
        ("FINAL(`total`)", "5"),
        ("FINAL(**total**)", "5"),
        ("FINAL(`len(hits)`)", "2"),
        ("FINAL(str(total)", "5"),
        ("FINAL_VAR(`total`)", "5"),
    ],
)
def test_30_an_expression_over_names_of_the_repl_is_evaluated(text: str, answer: str) -> None:
    run = Run(HITS, text)
    assert run.answer == answer
    assert run.outcome.state is JobState.SUCCEEDED


def test_30_a_value_that_is_no_text_stays_json() -> None:
    assert Run(HITS, "FINAL([total, len(hits)])").outcome.answer_json == [5, 2]


@pytest.mark.parametrize(
    "text",
    [
        "FINAL(Paris)", "FINAL(The cat)", "FINAL(42)", "FINAL(-5)", "FINAL(3 + 4 apples)",
        "FINAL(2024-01-15)", "FINAL(1,234)", "FINAL(3/4)", "FINAL(exit)", "FINAL(context)",
        "FINAL(well-known)", "FINAL(COVID-19)", "FINAL(and/or)",
        "FINAL(Paris/London)", "FINAL(Paris, London)", "FINAL(Alice and Bob)", "FINAL(AT&T)",
        "FINAL(Tom & Jerry)", "FINAL(example.com)", "FINAL(U.S.A)", "FINAL(Smith (2020))",
        "FINAL(Paris (France))", "FINAL(not available)", "FINAL(True)", "FINAL(max)", "FINAL([1, 2])",
        'FINAL({"a": 1})', "FINAL(C++)", "FINAL(10%)", "FINAL(a = 5)",
        "FINAL(The f(x) is 3)", "FINAL(See {this})", "FINAL(sad :( face)",
        "FINAL(`Paris`)", "FINAL(**Paris**)",
    ],
)  # fmt: skip
def test_30_words_and_plain_values_stay_as_they_are(text: str) -> None:
    run = Run(HITS, text)
    assert run.answer == text[6:-1]
    assert len(run.repl.ran) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FINAL(len(results))", "NameError: name 'results' is not defined"),
        ("FINAL(d['key'])", "NameError"),
        ("FINAL(hits[7])", "IndexError"),
        ("FINAL(total.missing)", "AttributeError"),
        ("FINAL(results + 1)", "NameError"),
        ("FINAL(f'{results} hits')", "NameError"),
        ("FINAL(total-found_before)", "no variable is called found_before"),
        ("FINAL(value=len(nothing))", "NameError"),
        ("FINAL(note=total)", "TypeError"),
        ("FINAL(*hits)", "TypeError"),
        ("FINAL(total-rest)", "no variable is called rest"),
        ("FINAL(not total)", "may be Python or plain words"),
        ("FINAL(total in hits)", "may be Python or plain words"),
        ("FINAL(There are {total} hits)", "names in braces"),
        ('FINAL("There are {len(hits)} hits")', "names in braces"),
        ('FINAL("There are {total} hits")', "names in braces"),
        ("FINAL(...)", "placeholder"),
        ("FINAL(your answer)", "placeholder"),
        ("FINAL(result)", "placeholder"),
        ("FINAL(<answer>)", "placeholder"),
        ("FINAL(`final_answer`)", "no variable is called final_answer"),
        ("FINAL(Total)", "no variable is called Total"),
    ],
)
def test_30_what_cannot_be_evaluated_is_said_back(text: str, said: str) -> None:
    run = Run(HITS, text, "FINAL(1)")
    assert run.answer == "1"
    assert said in run.script.last_message()


def test_30_a_failed_evaluation_says_how_to_hand_in_the_text_itself() -> None:
    run = Run("FINAL(main())", 'FINAL("main()")')
    assert run.answer == "main()"
    assert 'put it in quotes: FINAL("...")' in run.script.last_message()


def test_30_an_expression_beside_output_waits_as_other_answers_do() -> None:
    run = Run("```repl\nhits = [1]\nprint(hits)\n```\nFINAL(len(hits))", "FINAL(len(hits))")
    assert run.answer == "1"
    assert run.script.last_message().startswith("Output of your code:\n[1]")


def test_30_an_evaluation_is_a_cell_of_the_journal_and_is_not_made_twice() -> None:
    """A worker that takes the job over decides the same, with the result that the first one wrote down."""
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "an answer"

    steps = ["```repl\nx = 1\n```\nFINAL(nothing(ask('one')))", "FINAL(ask('two'))"]
    whole = Run(*steps, repl=FakeRepl(ask=ask))
    assert (whole.answer, len(asked)) == ("an answer", 1)
    cells = [entry for entry in whole.written if '"t":"cell"' in entry]
    assert ['"block":0' in cells[0], '"block":1' in cells[1], '"block":0' in cells[2]] == [True] * 3
    for kept in range(len(whole.written) + 1):
        known = whole.written[:kept]
        replies = sum('"t":"reply"' in entry for entry in known)
        again = Run(*steps[replies:], repl=FakeRepl(ask=ask), journal=known)
        assert again.outcome == whole.outcome
        assert again.marks() == whole.marks()


def test_30_an_expression_counts_as_code_that_looks() -> None:
    run = Run("FINAL(len(context))", early_final="refuse")
    assert (run.answer, run.marks()) == ("9", [])


@pytest.mark.parametrize(
    "before",
    [
        "hm",
        "```repl\nfinal = 1\n```",
        "```repl\nx = 1\n1 / 0\nfinal_answer = 3\n```",
    ],
)
def test_31_a_name_with_an_underscore_is_no_answer(before: str) -> None:
    run = Run(before, "FINAL(final_answer)", "FINAL(1)")
    assert run.answer == "1"
    assert "no variable is called final_answer" in run.script.last_message()


@pytest.mark.parametrize(
    "code",
    [
        "```repl\n1 / 0\nCapital = 'Paris'\n```",
        "```repl\nCapital = 'Paris\n```",
        "```repl\n1 / 0\n```\n```repl\nCapital = 'Paris'\n```",
        "```repl\n1 / 0\nfor Capital in context:\n    pass\n```",
        "```repl\n1 / 0\nx, Capital = 1, 2\n```",
    ],
)
def test_31_a_name_that_code_tried_to_assign_is_no_answer(code: str) -> None:
    run = Run(code, "FINAL(Capital)", "FINAL(1)")
    assert run.answer == "1"
    assert "no variable is called Capital" in run.script.last_message()


def test_31_a_name_that_a_cut_block_was_to_assign_is_no_answer() -> None:
    run = Run(reply("```repl\nCapital = find(", "length"), "FINAL(Capital)", "FINAL(1)")
    assert run.answer == "1"


def test_36_a_sketch_that_does_not_compile_does_not_stop_the_program() -> None:
    sketch = "```python\nfor chunk in ...\n    n = ask(chunk\n```"
    run = Run(f"{sketch}\nAnd the program:\n```repl\nn = len(context)\nFINAL(n)\n```")
    assert run.answer == "9"
    same_tag = Run("```repl\nfor x in\n```\n```repl\nFINAL(1)\n```")
    assert same_tag.answer == "1"


def test_36_a_block_that_needs_what_the_broken_one_assigns_is_not_run() -> None:
    """It would compute with the value of an earlier turn."""
    run = Run(HITS, "```repl\nhits = [x for x in context\n```\n```repl\nFINAL(len(hits))\n```", "FINAL(1)")
    assert run.answer == "1"
    assert "Block 2 was not run, because it uses hits, which block 1 did not get" in run.script.last_message()


def test_36_a_python_block_that_raises_does_not_stop_a_repl_block() -> None:
    run = Run("```python\nimport nowhere\n```\n```python\nz = 1\n```\n```repl\nFINAL(len(context))\n```")
    assert run.answer == "9"
    assert run.repl.ran == ["import nowhere", "FINAL(len(context))"]


def test_36_what_did_not_run_and_why_is_said() -> None:
    run = Run("```python\n1 / 0\n```\n```python\nz = 1\n```\n```repl\nprint('ran')\n```", "FINAL(1)")
    text = run.script.last_message()
    assert "Output of block 1 of 3:\nTraceback" in text
    assert "Output of block 3 of 3:\nran" in text
    assert "Block 2 was not run, because block 1 raised an error." in text


def test_36_of_blocks_of_one_kind_an_error_stops_the_rest() -> None:
    for tag in ("python", "repl"):
        run = Run(f"```{tag}\n1 / 0\n```\n```{tag}\nz = 1\n```", "FINAL(1)")
        assert run.repl.ran == ["1 / 0"]


@pytest.mark.parametrize(
    "text",
    [
        "```\n```python\nFINAL('in')\n```\n```",
        "````markdown\n```repl\nFINAL('in')\n```\n````",
        "Here:\n\n```markdown\n```repl\nFINAL('in')\n```\n```\nThat is it.",
        "```python\n```python\nFINAL('in')\n```\n```",
        "```\n```python\nFINAL('in')\n```",
        "~~~\n\n```repl\nFINAL('in')\n```\n~~~",
    ],
)
def test_36_a_fence_in_a_fence_is_found(text: str) -> None:
    run = Run(text)
    assert (run.answer, run.repl.ran) == ("in", ["FINAL('in')"])


def test_37_the_same_error_turn_after_turn_is_said_and_then_ends_the_job() -> None:
    turns = ["```repl\nanswer['content'] = 'draft'\n```"]
    turns += [f"```repl\n{'# again' * (n % 2)}\n1 / 0\n```" for n in range(2 * repeats.NOTICE_AFTER)]
    run = Run(*turns, limits=JobLimits(max_iterations=30))
    assert (run.outcome.state, run.answer) == (JobState.EXHAUSTED, None)
    assert (run.outcome.partial_answer, run.outcome.iterations) == ("draft", 11)
    assert run.outcome.error is not None
    assert run.outcome.error.type == "RepeatedError"
    assert run.outcome.error.message == "the code raised the same ZeroDivisionError in 10 turns in a row"
    said = ["in a row" in message[-1].content for message in run.script.chats]
    assert said == [False] * 6 + [True] * 5
    again = Run(journal=run.written, limits=JobLimits(max_iterations=30))
    assert again.outcome == run.outcome


def test_37_another_error_or_output_or_success_begins_the_count_again() -> None:
    fails = "```repl\n1 / 0\n```"
    others: list[Any] = [
        "```repl\n[][1]\n```",
        "```repl\nx = 1\n```",
        "```repl\nprint(1)\n1 / 0\n```",
        "words",
    ]
    for other in others:
        steps = [*[fails] * 9, other, *[fails] * 9, "FINAL(1)"]
        assert Run(*steps, limits=JobLimits(max_iterations=30)).answer == "1"


def test_37_the_limit_of_turns_comes_first() -> None:
    run = Run(*["```repl\n1 / 0\n```"] * 10, limits=JobLimits(max_iterations=10))
    assert run.outcome.error is not None
    assert run.outcome.error.type == "LimitExceeded"


def test_13_native_tool_calls_arrive_as_text() -> None:
    first = (
        '<tool_call>{"name": "python", "arguments": {"code": "x = \'</tool_call>\'\\nprint(x)"}}</tool_call>'
    )
    second = '<tool_call>{"name": "python", "arguments": "{\\"code\\": \\"FINAL(x)\\"}"}</tool_call>'
    run = Run(f"I look first. FINAL(no)\n{first}\n{second}")
    assert (run.answer, run.repl.ran) == ("</tool_call>", ["x = '</tool_call>'\nprint(x)", "FINAL(x)"])
