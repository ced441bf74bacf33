"""S-NIAH in RULER's form: one sentence in a long text states the number of a key, and the query asks for it.

The key is an adjective and a noun, the value has seven digits. The text is one line of noise sentences
again and again (RULER's first form) or the sentences of given essays (its second). Depths are 40 positions
from 0 to 100 %.
"""

import random
import re
from collections.abc import Iterator

from rlm_dist.bench.quality.items import ScorerName, TaskItem, digest_of, item_id
from rlm_dist.errors import InputError
from rlm_dist.schema import CHARS_PER_TOKEN

TASK = "s-niah"
DEPTHS = tuple(100 * position / 39 for position in range(40))
_NOISE = (
    "The lamp stands on the table. The rain has stopped. The bread is still warm. "
    "One road leads north. Another one leads south."
)
# Own words: those of a package would make a seed's bytes depend on its version.
_ADJECTIVES = """
amber brisk calm dusty eager faint gentle hollow icy jolly keen lively mellow narrow odd plain quiet rapid
silent tidy upbeat vivid wary young zesty bitter clever
dapper earnest frosty golden humble idle kindly loyal misty
nimble polite rustic shiny
"""
_NOUNS = """
anchor basket candle dagger engine feather garden hammer island jacket kettle ladder magnet needle orchard
pencil quarry ribbon saddle teapot umbrella violin walnut
yacht zipper barrel compass dolphin envelope fountain goblet
harbor insect jungle kitten lantern mirror napkin otter
pepper radish shovel thimble tunnel valley window acorn
blanket cactus donkey
"""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def make_needles(*, tokens: int, count: int, seed: int, essays: str = "") -> Iterator[TaskItem]:
    """Yield ``count`` items whose context fills ``tokens`` as far as whole sentences do.

    Raises:
        InputError: the length has no room for the needle and a sentence beside it.
    """
    units = _essay_units(essays) if essays else (_NOISE,)
    for number in range(count):
        rng = random.Random(f"{TASK}/{seed}/{tokens}/{number}")
        yield _item(rng, units, " " if essays else "\n", tokens, "essays" if essays else "noise")


def _essay_units(essays: str) -> tuple[str, ...]:
    units = tuple(unit for unit in _SENTENCE_END.split(" ".join(essays.split())) if unit)
    if not units:
        raise InputError(("essays: hold no text",))
    return units


def _item(rng: random.Random, units: tuple[str, ...], joint: str, tokens: int, haystack: str) -> TaskItem:
    key = f"{rng.choice(_ADJECTIVES.split())}-{rng.choice(_NOUNS.split())}"
    value = str(rng.randint(1_000_000, 9_999_999))
    depth = rng.choice(DEPTHS)
    needle = f"The magic number for {key} is {value}."
    room = tokens * CHARS_PER_TOKEN - len(needle) - len(joint)
    lines = _fill(units, room, len(joint))
    if not lines:
        raise InputError((f"length: {tokens} tokens have no room for a needle and text beside it",))
    lines.insert(round(depth / 100 * len(lines)), needle)
    context = joint.join(lines)
    query = (
        f"The text states one magic number for {key}. What is it? "
        "It has seven digits. Reply with the number alone."
    )
    return TaskItem(
        id=item_id(TASK, digest_of(context), query, [value]),
        task=TASK,
        context=context,
        query=query,
        expected=(value,),
        scorer=ScorerName.FOUND,
        tokens=tokens,
        meta={"depth": round(depth, 1), "haystack": haystack, "key": key},
    )


def _fill(units: tuple[str, ...], room: int, joint_chars: int) -> list[str]:
    """As many units, from the first on and again, as have room."""
    lines: list[str] = []
    while units:
        for unit in units:
            room -= len(unit)
            if room < 0:
                return lines
            room -= joint_chars
            lines.append(unit)
    return lines
