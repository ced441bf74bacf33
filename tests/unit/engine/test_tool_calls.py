"""Tool calls in a reply, as models write them and as an endpoint's native calls are passed on."""

import json

import pytest

from rlm_dist.engine.parsing import TextAnswer, parse


@pytest.mark.parametrize(
    "text",
    [
        'I look first.\n\n<tool_call>{"name": "python", "arguments": {"code": "print(1)"}}</tool_call>',
        '<tool_call>{"name": "python", "arguments": "print(1)"}</tool_call>',
        '<tool_call>{"name": "python", "arguments": {"cmd": "print(1)"}}</tool_call>',
        '<tool_call>{"name": "python", "arguments": "\\"print(1)\\""}</tool_call>',
        '<tool_call> {"name": "repl", "arguments": {"code": "print(1)"}}',
        '```json\n{}\n```\n<tool_call>{"name": "python", "arguments": {"code": "print(1)"}}</tool_call>',
        '```py\nprint(1)\n```\n<tool_call>{"name": "python", "arguments": {"code": "print(1)"}}</tool_call>',
    ],
)
def test_a_call_of_python_is_code(text: str) -> None:
    assert parse(text).blocks == ("print(1)",)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('<tool_call>{"name": "python", "arguments": {}}</tool_call>', "python"),
        ('<tool_call>{"name": "python", "arguments": ""}</tool_call>', "python"),
        ('<tool_call>{"name": "python", "arguments": "{\'code\': 1}"}</tool_call>', "python"),
        ('Words.\n<tool_call>{"name": "final_answer", "arguments": {"a": "x"}}</tool_call>', "final_answer"),
        ('FINAL(1)\n<tool_call>{"name": "search", "arguments": "x"}</tool_call>', "search"),
    ],
)
def test_another_call_is_said_back_and_is_no_empty_reply(text: str, name: str) -> None:
    reply = parse(text)
    assert (reply.blocks, reply.unknown_tools, reply.answer, reply.empty) == ((), (name,), None, False)


@pytest.mark.parametrize(
    "code",
    [
        "x = '</tool_call>'\nprint(x)",
        'x = \'<tool_call>{"name": "bash"}</tool_call>\'',
        "s = '''\n```repl\nFINAL(1)\n```\n'''\nprint(s)",
        'for a in b:\n\tprint("\\n")',
        "print('<function=bash>')",
        "print('<think>')",
        "t = text.split('</think>')[-1]",
    ],
)
def test_code_in_a_tool_call_survives(code: str) -> None:
    """Whatever it holds: tags, fences, quotes and newlines; three times, after prose, as text and as JSON."""
    as_object = json.dumps({"name": "python", "arguments": {"code": code}})
    as_text = json.dumps({"name": "python", "arguments": json.dumps({"code": code})})
    bare = json.dumps({"name": "python", "arguments": code})
    calls = "\n".join(f"<tool_call>{call}</tool_call>" for call in (as_object, as_text, bare))
    reply = parse(f"I look at it.\n{calls}")
    assert (reply.blocks, reply.unknown_tools, reply.answer) == ((code, code, code), (), None)


def test_prose_before_a_tool_call_is_prose_and_its_blocks_run_first() -> None:
    call = '<tool_call>{"name": "python", "arguments": {"code": "y = 2"}}</tool_call>'
    reply = parse(f"```repl\nx = 1\n```\nFINAL(3)\n{call}")
    assert reply.blocks == ("x = 1", "y = 2")
    assert reply.answer == TextAnswer("FINAL", "3")


def test_thoughts_around_a_tool_call_are_dropped_and_tags_in_it_stay() -> None:
    call = '<tool_call>\n{"name": "python", "arguments": {"code": "x = \'<think>\'"}}\n</tool_call>'
    assert parse(f"<think>\n{call}\n</think>\nhm").blocks == ()
    assert parse(f"I think.\n</think>\n{call}\n<think>FINAL(1)").blocks == ("x = '<think>'",)
    assert parse(f"<tool_call> is what I may write\n</think>\n{call}").blocks == ("x = '<think>'",)
    assert parse(f"<think>a</think>{call}").blocks == ("x = '<think>'",)


def test_a_tool_call_in_a_fence_is_text() -> None:
    call = '<tool_call>{"name": "python", "arguments": {"code": "y = 2"}}</tool_call>'
    reply = parse(f"```text\n{call}\n```")
    assert (reply.blocks, reply.unknown_tools) == ((), ())
