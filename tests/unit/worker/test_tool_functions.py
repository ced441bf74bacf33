"""Functions as tools: which are offered, and how their arguments are checked."""

import asyncio
from pathlib import Path

import pytest

from rlm_dist.errors import SettingsError
from rlm_dist.settings import load_settings
from rlm_dist.worker.tool_functions import FunctionTool, load_functions
from tests.support.host_tools import TOOLS


def test_functions_are_found_by_path_and_may_be_renamed() -> None:
    module = "tests.support.host_tools"
    tools = load_functions([f"{module}:lookup", f"find={module}:lookup", f"{module}:PlainTools.call"])
    assert list(tools) == ["lookup", "find", "call"]
    assert tools["find"].spec == {
        "name": "find",
        "doc": "Look a key up in the catalogue.\n\nThis second paragraph is not shown.",
        "parameters": [["key", 1, "str", None], ["limit", 1, "int", "3"]],
        "returns": "list[str]",
    }


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("no.such.module:f", "ModuleNotFoundError"),
        ("tests.support.host_tools:nothing", "AttributeError"),
        ("tests.support.host_tools:FOLDER", "not a function"),
        ("llm_query=tests.support.host_tools:lookup", "a name of the REPL"),
        ("context_0=tests.support.host_tools:lookup", "a name of the REPL"),
        ("print=tests.support.host_tools:lookup", "a name of the REPL"),
        ("ToolError=tests.support.host_tools:lookup", "a name of the REPL"),
        ("_hidden=tests.support.host_tools:lookup", "not a name for a tool"),
    ],
)
def test_what_cannot_be_offered_is_a_bad_setting(path: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        load_functions([path])


def test_a_name_is_offered_once() -> None:
    path = "tests.support.host_tools:lookup"
    with pytest.raises(SettingsError, match="two tools"):
        load_functions([path, path])


def test_arguments_get_the_types_that_the_function_names() -> None:
    bound = TOOLS["lookup"].bind(["a"], {"limit": "2"})
    assert bound.arguments == {"key": "a", "limit": 2}
    assert TOOLS["lookup"].call(bound, 1) == ["a0", "a1"]


def test_arguments_after_a_star_are_checked_each() -> None:
    def many(*numbers: int, **more: int) -> int:
        return sum(numbers) + sum(more.values())

    tool = FunctionTool("many", many)
    assert tool.call(tool.bind([1, "2"], {"a": 3}), 1) == 6
    with pytest.raises(ValueError, match=r"many\(\) numbers: Input should be a valid integer"):
        tool.bind(["x"], {})
    with pytest.raises(ValueError, match=r"many\(\) more: "):
        tool.bind([], {"a": "x"})


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "said"),
    [
        ([], {}, TypeError, r"lookup\(\) missing a required argument: 'key'"),
        (["a", 1, 2], {}, TypeError, r"lookup\(\) too many positional arguments"),
        (["a"], {"key": "b"}, TypeError, "multiple values"),
        (["a"], {"other": "b"}, TypeError, "unexpected keyword"),
        ([5], {}, ValueError, r"lookup\(\) key: Input should be a valid string"),
        (["a", "many"], {}, ValueError, r"lookup\(\) limit: Input should be a valid integer"),
    ],
)
def test_wrong_arguments_are_named(
    args: list[object], kwargs: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        TOOLS["lookup"].bind(args, kwargs)


def test_an_async_function_is_awaited_and_cancelled_at_its_time_limit() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    slowly = TOOLS["slowly"]
    assert slowly.call(slowly.bind(["a"], {}), 60) == "A"
    tool = FunctionTool("forever", forever)
    with pytest.raises(TimeoutError):
        tool.call(tool.bind([], {}), 0.01)


@pytest.mark.parametrize("bad", ["shop", "shop:", ":price", "a b=shop:price", "shop:price,", "1=shop:price"])
def test_what_is_no_path_is_a_bad_setting(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_TOOLS", bad)
    with pytest.raises(SettingsError, match=r"RLM_TOOLS: .*must be functions"):
        load_settings()


def test_paths_are_read_from_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_TOOLS", "shop:price, cost=shop.prices:Catalogue.price")
    assert load_settings().tools == ("shop:price", "cost=shop.prices:Catalogue.price")


def test_a_file_in_the_current_folder_lists_no_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in ("RLM_TOOLS=shop:price", "RLM_MCP_SERVERS=servers.json"):
        (tmp_path / ".env").write_text(line)
        with pytest.raises(SettingsError, match="may be anybody's"):
            load_settings()
