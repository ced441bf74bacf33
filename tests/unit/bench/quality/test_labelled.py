"""Readers of labelled sets, on small files made here; TREC's own file if it is on this machine."""

import io
import json
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from rlm_dist.bench.quality.labelled import TREC_LABELS, LabelledRow, load_labelled
from rlm_dist.errors import InputError
from tests.support.environment import PROJECT

TREC = PROJECT.parent / "shared" / "data" / "trec"


def test_trec_is_read_in_latin_1_with_the_names_of_its_labels(tmp_path: Path) -> None:
    lines = "DESC:manner How did it\tend ?\nABBR:exp What 's a|| b ?\nLOC:city Where is Málaga ?\n"
    (tmp_path / "train_5500.label").write_bytes(lines.encode("latin-1"))
    found = load_labelled(str(tmp_path))
    assert found.rows == (
        LabelledRow("How did it end ?", "description and abstract concept"),
        LabelledRow("What 's a| b ?", "abbreviation"),
        LabelledRow("Where is Málaga ?", "location"),
    )
    assert (found.name, found.line_tokens, found.prompt_tokens) == ("trec_coarse", 39, 168)
    # OOLONG's own windows say so, too: what is described is not the question.
    assert (found.noun, found.described) == ("general-knowledge questions", "The answer to each")
    assert load_labelled(str(tmp_path / "train_5500.label")) == found


@pytest.mark.skipif(not TREC.is_dir(), reason="TREC's files are not shipped")
def test_trecs_own_file_has_its_published_counts() -> None:
    counts = Counter(row.label for row in load_labelled(str(TREC)).rows)
    published = {"ABBR": 86, "DESC": 1162, "ENTY": 1250, "HUM": 1223, "LOC": 835, "NUM": 896}
    assert counts == {TREC_LABELS[name]: count for name, count in published.items()}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"text": "one,\\n two", "label": "x", "more": 1}\n\n{"text": "three", "label": 2}\n'),
        ("a.csv", 'label,more,text\nx,1,"one,\n two"\n2,1,three\n'),
        ("a.tsv", '\ufefftext\tlabel\n"one,\n two"\tx\nthree\t2\n'),
    ],
)
def test_a_table_has_columns_text_and_label(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = load_labelled(str(tmp_path / name))
    assert found.rows == (LabelledRow("one, two", "x"), LabelledRow("three", "2"))
    assert (found.name, found.labels, found.line_tokens) == ("a", ("2", "x"), None)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "a.jsonl",
            b'{"text": "one", "label": "x"}\n{"text": 2, "label": "x"}\n',
            "line 2: has no text, or no label",
        ),
        ("a.jsonl", b"nothing\n", "line 1: not JSON"),
        ("a.csv", b"words,label\none,x\n", "line 2: has no text"),
        ("a.csv", b"text,label\none,x\ntwo,x\n", "2 rows and fewer than two labels"),
        ("a.csv", b"text,label\n\xff,x\n", "cannot be read"),
        ("a.label", b"DESC:x What ?\nFOO:y What ?\n", "line 2: begins with no label"),
        ("a.tgz", b"no archive", "cannot be read"),
        ("a.whl", b"no archive", "cannot be read"),
        ("a.pdf", b"", "is none of"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=problem):
        load_labelled(str(tmp_path / name))


@pytest.mark.parametrize("name", ["none", "none.csv", "none.tgz", "none.label"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: No such file"):
        load_labelled(str(tmp_path / name))


def test_mails_are_read_from_the_package_of_spam_assassin(tmp_path: Path) -> None:
    mails = {
        "package/data/easy-ham-1/1.json": (
            "easy-ham-1",
            "From: a\nSubject: Re: news\nTo: b\n\nHello\n\n<b>you</b>&nbsp;there",
        ),
        "package/data/hard-ham-1/2.json": ("hard-ham-1", "From: a\n\n" + "word " * 500),
        "package/data/spam-2/3.json": ("spam-2", "SUBJECT: Win || now\n\nClick"),
        "package/package.json": ("spam-1", "Subject: not a mail\n\nx"),
    }
    with tarfile.open(tmp_path / "mails.tgz", "w:gz") as archive:
        for name, (group, text) in mails.items():
            data = json.dumps({"id": "1", "group": group, "checksum": {}, "text": text}).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    found = load_labelled(str(tmp_path / "mails.tgz"))
    assert [row.label for row in found.rows] == ["ham", "ham", "spam"]
    assert found.rows[0].text == "Re: news - Hello you there"
    assert found.rows[1].text.startswith("- word word")
    assert len(found.rows[1].text) <= 240
    assert found.rows[2].text == "Win | now - Click"
    assert found.name == "spam-assassin"


def test_topics_are_read_from_the_wheel_of_chatterbot(tmp_path: Path) -> None:
    folder = "chatterbot_corpus/data/"
    files = {
        "english/food.yml": "".join(f"- - Is {n} a fruit?\n  - Yes.\n" for n in range(40))
        + "- - Is 1 a fruit?\n  - No.\n",
        "english/tech_support.yml": "conversations:\n"
        + "".join(f"- - 'It {n} broke'\n  - Oh.\n" for n in range(50)),
        "english/small.yml": "- - Only one\n  - x\n",
        "german/food.yml": "".join(f"- - Ist {n} Obst?\n  - Ja.\n" for n in range(60)),
    }
    with zipfile.ZipFile(tmp_path / "chatterbot.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(folder + name, text)
    found = load_labelled(str(tmp_path / "chatterbot.whl"))
    assert Counter(row.label for row in found.rows) == {"food": 40, "tech support": 50}
    assert LabelledRow("It 7 broke", "tech support") in found.rows


class FakeTable(list[dict[str, object]]):
    """What ``datasets.load_dataset`` returns, as far as it is used."""

    column_names = ("text", "label", "id")
    features = {"label": SimpleNamespace(int2str=("ham", "spam").__getitem__)}  # noqa: RUF012


def test_a_set_of_hugging_face_is_loaded_by_the_package_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    module = ModuleType("datasets")

    def load_dataset(name: str, *, split: str) -> FakeTable:
        asked.append((name, split))
        return FakeTable([{"text": "a\nb", "label": 1}, {"text": "c", "label": 0}])

    module.load_dataset = load_dataset  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "datasets", module)
    found = load_labelled("hf:someone/mails:test")
    assert found.rows == (LabelledRow("a b", "spam"), LabelledRow("c", "ham"))
    load_labelled("hf:someone/mails")
    assert asked == [("someone/mails", "test"), ("someone/mails", "train")]
    monkeypatch.setattr(FakeTable, "column_names", ("sentence", "label"))
    with pytest.raises(InputError, match="no columns text and label"):
        load_labelled("hf:someone/mails")


def test_without_the_package_datasets_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="pip install datasets"):
        load_labelled("hf:someone/mails")
