"""Whole replies as models write them, and what is parsed from them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_dist.engine.parsing import TextAnswer, parse
from rlm_dist.engine.parsing.answers import _START, _starts
from rlm_dist.engine.parsing.expressions import expression, template_names
from rlm_dist.engine.parsing.programs import assigned_names, changed_names, read_names, unfenced_code


@pytest.mark.parametrize(
    "text",
    [
        "```repl\nprint(1)\n```",
        "```python\nprint(1)\n```",
        "```py\nprint(1)\n```",
        "```Python\nprint(1)\n```",
        "```REPL\nprint(1)\n```",
        "``` repl\nprint(1)\n```",
        "```python3\nprint(1)\n```",
        "```{python}\nprint(1)\n```",
        "~~~python\nprint(1)\n~~~",
        "````python\nprint(1)\n````",
        "```repl print(1)```",
        "```python\r\nprint(1)\r\n```\r\n",
        "Look:\n```repl\nprint(1)\n```\nDone.",
        "Here is the code: ```python\nprint(1)\n```",
        "```\nprint(1)\n```",
        "```python\nprint(1)```\nand so on",
        "   ```python\n   print(1)\n   ```",
        "- first\n\n  ```python\n  print(1)\n  ```",
        "1. ```python\n   print(1)\n   ```",
        "```python\nprint(1)",
        "```json\n{}\n```\n```repl\nprint(1)\n```",
        "```python print(1)\n```",
    ],
)
def test_a_fenced_block_is_code(text: str) -> None:
    assert [block.strip() for block in parse(text).blocks] == ["print(1)"]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ('```json\n{"a": 1}\n```', "json"),
        ("```text\nprint(1)\n```", "text"),
        ("```bash\nls\n```", "bash"),
        ("```\nfour lines found\n```", "no tag"),
        ("```\nresult\n```", "no tag"),
    ],
)
def test_other_blocks_are_not_run(text: str, tag: str) -> None:
    reply = parse(text)
    assert reply.blocks == ()
    assert reply.skipped == (tag,)


def test_fence_marks_inside_a_string_do_not_end_the_block() -> None:
    code = 'prompt = """Use\n```python\nx = 1\n```\nand\n```\ny\n```\n"""\nprint(prompt)'
    assert parse(f"```repl\n{code}\n```\nThen:\n```repl\nz = 1\n```").blocks == (code, "z = 1")


def test_a_block_with_a_mistake_ends_at_its_own_fence() -> None:
    text = "```repl\nx = = 1\n```\nsome words\n```repl\ny = 1\n```"
    assert parse(text).blocks == ("x = = 1", "y = 1")


def test_an_unclosed_block_that_is_no_program_was_cut() -> None:
    reply = parse("```repl\nx = 1\n```\n```repl\nfor line in lines:\n    print(")
    assert reply.blocks == ("x = 1",)
    assert reply.cut


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        ("FINAL(42)", "42"),
        ("Done.\n\nFINAL(42)\n", "42"),
        ("**FINAL(42)**", "42"),
        ("FINAL(The (big) cat (x))", "The (big) cat (x)"),
        ('FINAL("a) b")', "a) b"),
        ("FINAL('''two\nlines) of''')", "two\nlines) of"),
        ('FINAL("""a "quoted" (word) here""")', 'a "quoted" (word) here'),
        ("FINAL(It's (the) cat's)", "It's (the) cat's"),
        ('FINAL(he said ":)" and left)', 'he said ":)" and left'),
        ("FINAL(line one\nline (two)\nline three)", "line one\nline (two)\nline three"),
        ("FINAL(a) and that is it (really)", "a"),
        ("FINAL(sad :( face)", "sad :( face"),
        ('FINAL("")', ""),
        ("FINAL(  spaced  )", "spaced"),
        ("FINAL (42)", "42"),
    ],
)
def test_final_in_text(text: str, argument: str) -> None:
    answer = parse(text).answer
    assert answer is not None
    assert (answer.kind, answer.argument) == ("FINAL", argument)


@pytest.mark.parametrize("text", ["FINAL_VAR(x)", 'FINAL_VAR("x")', "FINAL_VAR('x')", "FINAL_VAR( x )"])
def test_final_var_in_text(text: str) -> None:
    answer = parse(text).answer
    assert answer is not None
    assert (answer.kind, answer.argument) == ("FINAL_VAR", "x")


def test_a_path_in_final_var_keeps_its_quotes() -> None:
    assert parse("FINAL_VAR(d['k'])").answer == TextAnswer("FINAL_VAR", "d['k']")


@pytest.mark.parametrize(
    "text",
    [
        "I will call FINAL_VAR(x) once ready",
        "Once all of it is counted I call\nFINAL_VAR(x) to hand it in.",
        "Final: see below",
        "`FINAL(x)`",
        "> FINAL(x)",
        "- FINAL(x)",
        "* FINAL(x)",
        "1. FINAL(x)",
        "| FINAL(x) |",
        "FINAL(never closed",
        "```text\nFINAL(x)\n```",
        "```repl\nFINAL(x)\n```",
        "<think>\nFINAL(x)\n</think>\nstill thinking",
        "MY_FINAL(x)",
    ],
)
def test_final_elsewhere_is_no_answer(text: str) -> None:
    assert parse(text).answer is None


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("<think>FINAL(1)\n```repl\nx\n```\n</think>\nFINAL(2)", "\n\nFINAL(2)"),
        ("<think>a</think>FINAL(2)", "FINAL(2)"),
        ("<THINKING>a</THINKING>FINAL(2)", "FINAL(2)"),
        ("the template ate the tag FINAL(1)\n</think>\n\nFINAL(2)", "\n\nFINAL(2)"),
        ("<think>cut off FINAL(1)", ""),
        ("I use `<think>` tags\nFINAL(2)", "I use `<think>` tags\nFINAL(2)"),
    ],
)
def test_thoughts_are_dropped(text: str, visible: str) -> None:
    assert parse(text).visible == visible


def test_a_think_tag_in_code_stays() -> None:
    assert parse('```repl\nx = s.split("</think>")\n```').blocks == ('x = s.split("</think>")',)


@pytest.mark.parametrize("text", ["", "  \n", "<think>only this</think>\n"])
def test_an_empty_reply(text: str) -> None:
    assert parse(text).empty


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "python", "arguments": {"code": "print(1)"}}\n</tool_call>',
        '<tool_call>{"name": "python_repl", "arguments": "{\\"code\\": \\"print(1)\\"}"}</tool_call>',
        "<tool_call>\n<function=python>\n<parameter=code>\nprint(1)\n</parameter>\n</function>\n</tool_call>",
        '<function_calls>\n<invoke name="python">\n<parameter name="code">print(1)</parameter>\n</invoke>',
        '{"name": "python", "arguments": {"code": "print(1)"}}',
        '[{"function": {"name": "execute_python", "arguments": {"code": "print(1)"}}}]',
        '[TOOL_CALLS][{"name": "python", "arguments": {"code": "print(1)"}}]',
        "<|python_tag|>print(1)<|eom_id|>",
    ],
)
def test_a_known_tool_call_is_code(text: str) -> None:
    assert parse(text).blocks == ("print(1)",)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('<tool_call>{"name": "search", "arguments": {"q": "x"}}</tool_call>', "search"),
        ('{"name": "llm_query", "arguments": {"prompt": "x"}}', "llm_query"),
        ("<tool_call>garbage</tool_call>", "?"),
    ],
)
def test_an_unknown_tool_call_is_told(text: str, name: str) -> None:
    reply = parse(text)
    assert reply.blocks == ()
    assert reply.unknown_tools == (name,)


def test_a_json_answer_is_no_tool_call() -> None:
    assert parse('{"answer": 3}').unknown_tools == ()


_PIECES = st.sampled_from(
    [
        "```",
        "~~~",
        "FINAL(",
        "FINAL_VAR(",
        ")",
        "(",
        '"',
        "'",
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "{",
        "}",
        "\\",
        "`",
        "é",
        "```repl\n",
        "```python\n",
        "\n```\n",
        "\n",
        "x = 1\n",
        " ",
        "\u0000",
        "- ",
        "> ",
        "    ",
        '"""',
        '{"name": "python"',
        "<|python_tag|>",
        "[TOOL_CALLS]",
        "[{",
        "\ud800",
    ]
)


@given(st.lists(_PIECES | st.text(max_size=8), max_size=60).map("".join))
@settings(max_examples=300)
def test_any_text_parses(text: str) -> None:
    parse(text)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "piece",
    [
        "```",
        "```repl\n'''\n",
        "```python\nx```\n",
        "\nFINAL(",
        "FINAL('",
        '"',
        "(",
        "<think>",
        "</think>\n",
        "<tool_call>",
        "<function=",
        "<invoke ",
        "```repl\n",
        "~~~\n```\n",
        "[",
        "{",
        " ",
        "`",
        "- ",
        "\n",
        "```\n```python\n",
        "x = 1\n",
        "x-",
        "FINAL(a and ",
        '<tool_call>{"name": "python"}',
        '<tool_call>{"a',
        "for in ",
        "a: ",
        "a,",
        "a[",
        "f(#",
        "{a",
    ],
)
def test_a_long_reply_parses_in_time(piece: str) -> None:
    """Quadratic time would exceed this test's time limit."""
    parse("\n" + piece * (100_000 // len(piece)))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("piece", ["a", "a-", "a[", "a(", "{a} ", "a = ", "for in ", "x: ", "a.pop", "not "])
def test_long_code_and_long_arguments_are_looked_at_in_time(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    assert len(assigned_names(text)) < 3
    assert len(changed_names(text)) < 3
    assert len(read_names(text)) < 3
    unfenced_code(text)
    expression(text)
    assert template_names(text) <= {"a"}


@given(
    st.lists(st.sampled_from(["FINAL", "_VAR", "(", ")", "\n", " ", "**", "a", "\t", "__"]), max_size=14).map(
        "".join
    )
)
def test_answers_begin_where_a_search_of_the_whole_text_finds_them(prose: str) -> None:
    """Only lines with the word are looked at."""
    assert [match.span() for match in _starts(prose)] == [match.span() for match in _START.finditer(prose)]
