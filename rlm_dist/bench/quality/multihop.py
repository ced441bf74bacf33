"""Questions whose facts are spread over many documents, in the shape of BrowseComp-Plus: 1,000 documents.

A question follows two to four relations from a named start: a firm's founder, their place of birth, its
river, the year of the river's first map. Each fact stands in another document. Near misses are planted too:
the same relations of things with similar names, and other relations of the same things. All questions of a
set share their documents, and the answer is a name or a year.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rlm_dist.bench.quality.documents import filler_documents, text_documents
from rlm_dist.bench.quality.items import ScorerName, TaskItem, digest_of, item_id
from rlm_dist.errors import InputError

TASK = "multi-hop"
DOCUMENTS = 1000
MIN_HOPS, MAX_HOPS = 2, 4
_DOCUMENT_TOKENS = 8000  # 8M in all, as BrowseComp-Plus has 6M to 11M
_FIRST = "Bar Cel Dor Fen Gal Hol Jar Kel Lor Mar Nor Pel Quin Ros Sel Tor Ul Ver Wil Yar"
_MIDDLE = "a e i o u ae io"
_LAST = "bek dan fors gard hult kin lund mond nes rick stan thal vik wen zell"


class Relation(NamedTuple):
    """A relation between two things: the fact as a sentence, another one that misleads, and words to ask."""

    fact: str
    other: str
    asked: str


# What a fact leads to is what the next one begins with.
RELATIONS = (
    Relation(
        "The firm {} was founded by {}.",
        "The firm {} was later bought by {}.",
        "the founder of {}",
    ),
    Relation(
        "The place of birth of {} is the town of {}.",
        "The last home of {} was the town of {}.",
        "the birthplace of {}",
    ),
    Relation(
        "The town of {} lies on the river {}.",
        "The town of {} gets its water from the river {}.",
        "the river at {}",
    ),
    Relation(
        "The river {} was first mapped in the year {}.",
        "The river {} was first bridged in the year {}.",
        "the year of the first map of {}",
    ),
)
_KINDS = ("the firm {}", "{}", "the town of {}", "the river {}")


class HopChain(NamedTuple):
    """A question, its answer, the facts that lead there in order, and the near misses."""

    query: str
    answer: str
    facts: tuple[str, ...]
    misses: tuple[str, ...]


class InventedNames:
    """Invented names, each once; a similar one differs in its last part."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._used: set[str] = set()
        self._parts = (_FIRST.split(), _MIDDLE.split(), _LAST.split())

    def new(self) -> str:
        """A name of two words."""
        return self._unused(lambda: f"{self._word()} {self._word()}")

    def like(self, name: str) -> str:
        """A name whose first word is that of ``name``."""
        return self._unused(lambda: f"{name.partition(' ')[0]} {self._word()}")

    def year(self) -> str:
        """A year, which may come again."""
        return str(self._rng.randint(1500, 1899))

    def _word(self) -> str:
        return "".join(map(self._rng.choice, self._parts))

    def _unused(self, make: Callable[[], str]) -> str:
        while (name := make()) in self._used:
            pass
        self._used.add(name)
        return name


def make_multihop(
    *,
    questions: int,
    seed: int,
    documents: int = DOCUMENTS,
    document_tokens: int = _DOCUMENT_TOKENS,
    folder: Path | None = None,
) -> Iterator[TaskItem]:
    """Yield questions over the same documents, from the texts of ``folder`` or of filler.

    Raises:
        InputError: there are too few documents, or the folder has too little text.
    """
    most_planted = MAX_HOPS * 3
    if documents < most_planted:
        raise InputError((f"documents: {documents} are too few, {most_planted} the least",))
    rng = random.Random(f"{TASK}/{seed}/{documents}/{document_tokens}")
    if folder is None:
        texts = filler_documents(documents, document_tokens, rng)
    else:
        texts = text_documents(folder, documents, document_tokens)
    names = InventedNames(rng)
    chains = [
        _chain(MIN_HOPS + number % (MAX_HOPS - MIN_HOPS + 1), names, rng) for number in range(questions)
    ]
    context = _planted(texts, chains, rng)
    digest = digest_of(*context)
    for chain in chains:
        yield TaskItem(
            id=item_id(TASK, digest, chain.query, [chain.answer]),
            task=TASK,
            context=context,
            query=chain.query,
            expected=(chain.answer,),
            scorer=ScorerName.EXACT,
            tokens=documents * document_tokens,
            meta={
                "documents": documents,
                "hops": len(chain.facts),
                "texts": "folder" if folder else "filler",
            },
        )


def _chain(hops: int, names: InventedNames, rng: random.Random) -> HopChain:
    first = rng.randint(0, len(RELATIONS) - hops)
    relations = RELATIONS[first : first + hops]
    things = [names.new() for _ in range(hops)] + [_target(first + hops, names)]
    facts: list[str] = []
    misses: list[str] = []
    asked = _KINDS[first].format(things[0])
    for number, (relation, thing, target) in enumerate(zip(relations, things, things[1:], strict=False)):
        facts.append(relation.fact.format(thing, target))
        after = first + number + 1
        misses.append(relation.fact.format(names.like(thing), _target(after, names)))
        misses.append(relation.other.format(thing, _target(after, names)))
        asked = relation.asked.format(asked)
    query = (
        f"What is {asked}? The documents state each step of this once, in different documents; beware of "
        "similar names. Reply with the name or the year alone."
    )
    return HopChain(query, things[-1], tuple(facts), tuple(misses))


def _target(kind: int, names: InventedNames) -> str:
    """A new thing of a kind: person, town, river, or, last, a year."""
    return names.year() if kind == len(RELATIONS) else names.new()


def _planted(texts: Sequence[str], chains: Sequence[HopChain], rng: random.Random) -> list[str]:
    """The texts with the chains' sentences as lines of their own; those of a chain in different texts."""
    sentences_of: list[list[str]] = [[] for _ in texts]
    for chain in chains:
        sentences = chain.facts + chain.misses
        for place, sentence in zip(rng.sample(range(len(texts)), len(sentences)), sentences, strict=True):
            sentences_of[place].append(sentence)
    planted = []
    for text, planted_here in zip(texts, sentences_of, strict=True):
        if not planted_here:
            planted.append(text)
            continue
        lines = text.split("\n")
        for sentence in planted_here:
            lines.insert(rng.randint(0, len(lines)), sentence)
        planted.append("\n".join(lines))
    return planted
