"""The worked examples of the family ``small`` do on records what they show."""

import re
from collections.abc import Sequence

import pytest

from rlm_dist.engine.prompts.peek import PEEK
from rlm_dist.engine.prompts.shots import SHOTS
from tests.support.fake_repl import FakeRepl

MESSAGES = """\
Messages of customers, each about one of: delivery, price, quality, staff.

day: 2024-03-04 | shop: Hull | text: price too high
day: 2024-03-05 | shop: Leeds | text: price too high
day: 2024-04-12 | shop: Leeds | text: price is wrong
day: 2024-04-12 | shop: York | text: price went up
day: 2024-04-13 | shop: York | text: price of tea
day: 2023-04-02 | shop: York | text: delivery was late
day: 2023-04-09 | shop: Derby | text: staff was rude
day: 2023-05-09 | shop: Hull | text: staff was kind
day: 2024-05-09 | shop: York | text: staff was slow
day: 2024-05-10 | shop: York | text: quality is bad
day: 2024-06-10 | shop: Hull | text: staff was away
day: 2024-06-11 | shop: Hull | text: quality is poor
day: 2024-06-12 | shop: York | text: staff was new
"""
PARCELS = """\
parcel,city,state,kilos
P-301,Bergen,late,4
P-302,Oslo,sent,5
P-303,Oslo,lost,6
P-304,Oslo,late,7
P-305,Turin,sent,8
P-306,Bergen,sent,9
"""
SALES = """\
day=Mon shop=Leeds item="ink, black" dollars=12 sale=S-1
day=Mon shop=Leeds item="ink, red" dollars=41 sale=S-2
day=Mon shop=York item="paper" dollars=55 sale=S-3
day=Tue shop=Leeds item="paper" dollars=55 sale=S-4
"""


def about_its_first_word(prompts: Sequence[str], schema: object) -> list[str]:
    return [prompt.splitlines()[-1].split()[0] for prompt in prompts]


@pytest.mark.parametrize(
    ("query", "context", "answer"),
    [
        ("Among the messages of the shop York", MESSAGES, "Answer: price is more common than delivery"),
        ("Among the messages of these shops alone", MESSAGES, "Answer: 3"),
        ("From Mar 5, 2024 to Apr 12, 2024", MESSAGES, "Shop: Leeds"),
        ("In how many months", MESSAGES, "3"),
        ("Which city has the second most parcels?", PARCELS, "City: Bergen"),
        ("Which parcels to Oslo are not late?", PARCELS, "P-302, P-303"),
        ("How many sales of the shop Leeds on a Monday", SALES, "1"),
    ],
)
def test_an_example_answers_its_question(query: str, context: str, answer: str) -> None:
    (shot,) = [shot for shot in SHOTS if shot.query.startswith(query)]
    repl = FakeRepl(context, llm_query_batched=about_its_first_word)
    assert repl.run(PEEK, 0).error is None
    assert list(repl.space["rows"][0]) == re.findall(r"^- (\w+): ", shot.seen, re.MULTILINE)
    result = repl.run(shot.reply.removeprefix("```repl\n").removesuffix("\n```"), 0)
    assert result.error is None
    assert result.final is not None
    assert result.final.text == answer
