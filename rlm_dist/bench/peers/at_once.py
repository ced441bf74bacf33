"""Many small queries at once, each of three turns, in threads of one process that another one measures.

The root model's code counts its turns, and hands in their number in the last one. Standard library only,
since every peer's memory is measured with it.
"""

import json
import os
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from rlm_dist.bench.dictated import query

TURNS = 3
# The root model says the same again each turn; the number keeps two queries from being the same.
_TURN = """\
# query {number}
try:
    turn += 1
except NameError:
    turn = 1
if turn == {turns}:
    result = str(turn)
    {hand_in}"""


def query_of(number: int, hand_in: str) -> str:
    """The query of this number; ``hand_in`` is as for ``asking.query_for``."""
    return query(_TURN.format(number=number, turns=TURNS, hand_in=hand_in))


def ask_at_once(ask: Callable[[str, str], str], most: int, hand_in: str) -> None:
    """Say that the process is ready; for each line of input, a number, ask that many queries at once.

    When they have ended, say how many answers were right. ``most`` is the largest number.
    """

    def is_right(number: int) -> bool:
        try:
            return ask(str(random.random()), query_of(number, hand_in)) == str(TURNS)
        except Exception:  # noqa: BLE001  # whatever a peer raises, its query has no answer
            return False

    # A peer whose threads each replace sys.stdout, or change the folder, for a while may leave them so.
    stdout, folder = sys.stdout, os.getcwd()

    def say(said: dict[str, int]) -> None:
        stdout.write(json.dumps(said) + "\n")
        stdout.flush()

    say({"ready": True})
    with ThreadPoolExecutor(most) as threads:
        for line in sys.stdin:
            os.chdir(folder)
            say({"right": sum(threads.map(is_right, range(int(line))))})
