"""The documents: links lead somewhere, tables are complete, and the code takes what they show."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

import rlm_dist
from rlm_dist.cli import output
from rlm_dist.cli.commands import COMMANDS, load_command
from rlm_dist.client.batch_file import BatchFile
from rlm_dist.client.options import JobOptions
from rlm_dist.llm.endpoints import endpoints_of
from rlm_dist.llm.prices import Prices
from rlm_dist.schema import Costs, Result, Role, Usage
from rlm_dist.settings import Settings
from tests.support.environment import PROJECT

PACKAGE = Path(rlm_dist.__file__).parent
DOCUMENTS = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", PROJECT / ".github" / "CONTRIBUTING.md"]
DOCUMENTS += [PROJECT / ".github" / "SECURITY.md"]
DOCUMENTS += sorted((PROJECT / "docs").glob("*.md"))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name_of(path: Path) -> str:
    return path.name


def text_of(name: str) -> str:
    return (PROJECT / "docs" / name).read_text()


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [body for tag, body in _FENCE.findall(path.read_text()) if tag == language]


def section(text: str, title: str) -> str:
    """What stands below a heading of the second level."""
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each table row, without the row of dashes."""
    for line in re.findall(r"^\| (.*) \|$", text, re.M):
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]


def anchors(path: Path) -> set[str]:
    """The names by which GitHub links to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", path.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_to_a_file_and_a_heading_that_exist(path: Path) -> None:
    for link in _LINK.findall(_FENCE.sub("", path.read_text())):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short_and_links_every_document() -> None:
    readme = DOCUMENTS[0].read_text()
    assert len(readme.splitlines()) <= 150
    linked = {(PROJECT / link.partition("#")[0]).resolve() for link in _LINK.findall(readme)}
    assert set(DOCUMENTS[1:]) <= linked


def test_the_table_of_settings_has_each_setting_with_its_default_and_no_other() -> None:
    table = text_of("settings.md").split("\n## Other variables\n")[0]
    shown = {row[0].strip("`"): row[1] for row in rows(table) if row[0].startswith("`RLM_")}
    fields = {f"RLM_{name.upper()}": field for name, field in Settings.model_fields.items()}
    assert shown.keys() == fields.keys()
    for name, field in fields.items():
        default = field.default
        if default in (None, (), "", PydanticUndefined):
            assert not re.fullmatch("`[^`]*`", shown[name]), name
        else:
            assert shown[name] == f"`{str(default).lower() if isinstance(default, bool) else default}`", name


def test_the_table_of_commands_has_each_command_and_no_other() -> None:
    table = section(text_of("operations.md"), "Commands")
    shown = {word for row in rows(table) for word in re.findall(r"(?:^|, )`(\w+)", row[0])}
    assert shown == set(COMMANDS)


def test_the_table_of_exit_codes_is_complete() -> None:
    codes = [int(row[0]) for row in rows(section(text_of("operations.md"), "Commands")) if row[0].isdecimal()]
    assert codes == list(range(output.UNREACHABLE + 1))


def test_the_tables_of_options_and_results_have_each_field_and_no_other() -> None:
    batches = text_of("batches.md")
    options = {
        name for row in rows(section(batches, "Options of a job")) for name in re.findall(r"`(\w+)`", row[0])
    }
    assert options == set(JobOptions.model_fields)
    result, costs = section(batches, "Results").split("| field of `costs` |")
    names = [
        {name for row in rows(part) for name in re.findall(r"`(\w+)`", row[0])} for part in (result, costs)
    ]
    assert names == [set(Result.model_fields), set(Costs.model_fields)]


def test_the_batch_file_of_the_documents_is_a_good_one(tmp_path: Path) -> None:
    (lines,) = blocks(PROJECT / "docs" / "batches.md", "jsonl")
    (tmp_path / "book.txt").write_text("Call me Ishmael.")
    (tmp_path / "questions.jsonl").write_text(lines)
    batch = BatchFile(tmp_path / "questions.jsonl")
    assert (batch.total, batch.ignored) == (len(lines.splitlines()), set())


def test_the_endpoints_and_prices_of_the_documents_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (endpoints,) = blocks(PROJECT / "docs" / "settings.md", "toml")
    (prices,) = blocks(PROJECT / "docs" / "settings.md", "json")
    (tmp_path / "endpoints.toml").write_text(endpoints)
    (tmp_path / "prices.json").write_text(prices)
    monkeypatch.setenv("EXAMPLE_KEY", "secret")
    settings = Settings(endpoints=tmp_path / "endpoints.toml")
    assert [len(endpoints_of(settings, role)) for role in (Role.ROOT, Role.SUB)] == [1, 2]
    known = Prices(tmp_path / "prices.json")
    for model, price in json.loads(prices).items():
        usage = Usage(input_tokens=1_000_000)
        assert known.nanousd(model, usage, "http://localhost") == price["input"] * 10**9


def commands() -> Iterator[str]:
    """Every command line of ours that a document shows, in a block or in a sentence."""
    for path in DOCUMENTS:
        for body in blocks(path, "bash"):
            yield from body.splitlines()
        yield from re.findall(r"`(rlm-dist [^`]+)`", _FENCE.sub("", path.read_text()).replace("\n", " "))


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_line_is_one_that_the_command_takes(line: str) -> None:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.wordchars += "$:@[]…"
    words: list[str] = []
    for word in [*lexer, "&&"]:
        if not re.fullmatch(r"[&|;<>()]+", word):
            words.append(word)
            continue
        while words and "=" in words[0]:
            words.pop(0)
        if words and words[0].rpartition("/")[2] == "rlm-dist":
            _parse(words[1:])
        words = []


def _parse(arguments: list[str]) -> None:
    command: Any = load_command(arguments.pop(0))
    while arguments and hasattr(command, "commands") and not arguments[0].startswith("-"):
        command = command.commands[arguments.pop(0)]
    if arguments:  # else a sentence names the command alone
        command.make_context(command.name, arguments)  # parses, and runs nothing


def _tests() -> set[str]:
    """The names of all test functions, wherever below tests/ they are."""
    files = (PROJECT / "tests").rglob("test_*.py")
    return {name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)}


def test_every_test_that_a_document_names_exists() -> None:
    named = {name for path in DOCUMENTS for name in re.findall(r"`(test_\w+)`", path.read_text())}
    assert len(named) > 20
    assert named - _tests() == set()


def test_every_promise_names_a_test() -> None:
    text = section(text_of("architecture.md"), "Promises, and the tests that hold them")
    promises = re.split(r"^\d+\. ", text, flags=re.M)[1:]
    assert len(promises) == 9
    assert [promise for promise in promises if "`test_" not in promise] == []


def test_every_file_that_a_document_names_exists() -> None:
    for path in DOCUMENTS:
        for name in re.findall(r"`([\w./]+/\w+\.(?:py|lua|md|yml|conf))`", path.read_text()):
            if name.startswith("tests/"):
                assert list((PROJECT / "tests").rglob(Path(name).name)), name
            else:
                assert (PROJECT / name).exists() or (PACKAGE / name).exists(), name


def _package(parts: tuple[str, ...]) -> str:
    """The row of the tree that a module belongs to."""
    if parts[:2] == ("sandbox", "inside"):
        return "sandbox.inside"
    return parts[0]


def _imports() -> dict[str, set[str]]:
    """What each package of ours imports of the others."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0].startswith("__"):
            continue
        own = found.setdefault(_package(parts), set())
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) and not node.level else None
            if module and module.startswith("rlm_dist."):
                own.add(_package(tuple(module.split(".")[1:])))
    return {name: imported - {name} for name, imported in found.items()}


def test_the_tree_has_every_package_and_what_it_imports() -> None:
    table = section(text_of("architecture.md"), "The tree")
    may: dict[str, set[str]] = {}
    for name, _, imports in (row for row in rows(table) if row[0].startswith("`")):
        allowed = set(re.findall(r"`([\w.]+)`", imports))
        for other in re.findall(r"what `(\w+)` may", imports):
            allowed |= may[other]
        may[name.strip("`")] = allowed
    imports_of = _imports()
    assert may.keys() == imports_of.keys()
    for name, imported in imports_of.items():
        if name == "cli":
            assert not imported & {"worker", "root_worker", "sub_worker"}
        else:
            assert imported <= may[name], name
