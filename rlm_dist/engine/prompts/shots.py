# ruff: noqa: E501  # prompts are data: the code in them is short in tokens, not in columns
"""Worked examples for small models, which copy an example's code with new literals.

There is one for each kind of task that such a model can do: label rows and compare or count by their labels, by day or
by month, rank values by how many rows have them, list or count the rows that meet conditions, summarise, narrow the
text down by words and ask about the rest, find a stated fact by its pattern. With rows the conditions stand in a
comment first, that on the label before the others: a small model that does not write them down forgets all but one.
Examples without rows have no comment, and come last: with one, or before the others, they led the model to make up
a number or to take any number.

The examples are short, because a local model's window is small and its processor reads slowly.
"""

from typing import NamedTuple

from rlm_dist.schema import ContextInfo


class Shot(NamedTuple):
    """A question over some context, what ``PEEK`` prints of it, and the reply that solves it."""

    info: ContextInfo
    query: str
    seen: str
    reply: str


def _text(chars: int) -> ContextInfo:
    return ContextInfo(kind="str", chars=chars, items=1)


_LABEL = "label(rows, 'text', ['delivery', 'price', 'quality', 'staff'])"
_MESSAGES = f"""\
What it holds:
Messages of customers, each about one of: delivery, price, quality, staff.
`rows` has its 243 records, each a dict with these fields:
- day: days from date(2023, 11, 2) to date(2024, 12, 30)
- shop: 'Derby', 'Hull', 'Leeds', 'York'
- text: texts such as 'It broke on the first day.'
No field holds the labels. First run this line, which sets row["label"]: {_LABEL}"""

SHOTS = (
    Shot(
        _text(31_900),
        "Among the messages of the shop York, is the label 'price' more common than, less common than, or as common as the label 'delivery'? Give the answer in the form 'Answer: price is [X] delivery'.",
        _MESSAGES,
        f"""\
```repl
{_LABEL}
# conditions: shop is York. Asked for: which is more common, price or delivery
count = Counter(row["label"] for row in rows if row["shop"] == "York")
price, delivery = count["price"], count["delivery"]
print(price, delivery)
FINAL("Answer: price is " + ("more common than" if price > delivery else "less common than" if price < delivery else "as common as") + " delivery")
```""",
    ),
    Shot(
        _text(31_900),
        "Among the messages of these shops alone: Derby, Leeds, Hull: how many have the label 'staff'? Give the answer in the form 'Answer: [X]'.",
        _MESSAGES,
        f"""\
```repl
{_LABEL}
# conditions: label is staff, shop is Derby, Leeds or Hull. Asked for: how many
hits = [row for row in rows if row["label"] == "staff" and row["shop"] in ("Derby", "Leeds", "Hull")]
print(len(hits), hits[:2])
FINAL(f"Answer: {{len(hits)}}")
```""",
    ),
    Shot(
        _text(31_900),
        "From Mar 5, 2024 to Apr 12, 2024: which of the shops Leeds and York has more messages with the label 'price'? Give the answer in the form 'Shop: [X]'.",
        _MESSAGES,
        f"""\
```repl
{_LABEL}
# conditions: label is price, shop is Leeds or York, day from date(2024, 3, 5) to date(2024, 4, 12). Asked for: shop with more
hits = [row for row in rows if row["label"] == "price" and row["shop"] in ("Leeds", "York")]
hits = [row for row in hits if date(2024, 3, 5) <= row["day"] <= date(2024, 4, 12)]
ranked = Counter(row["shop"] for row in hits).most_common()
print(ranked[:3])
FINAL(f"Shop: {{ranked[0][0]}}")
```""",
    ),
    Shot(
        _text(31_900),
        "In how many months, of each year, have more messages the label 'staff' than the label 'quality'?",
        _MESSAGES,
        f"""\
```repl
{_LABEL}
# conditions: label is staff or quality, for each month. Asked for: how many months with more staff than quality
months = sorted({{(row["day"].year, row["day"].month) for row in rows}})
count = Counter((row["day"].year, row["day"].month, row["label"]) for row in rows)
more = [month for month in months if count[(*month, "staff")] > count[(*month, "quality")]]
names = [date(*month, 1).strftime("%B %Y") for month in more]
print(len(more), names[:3])
FINAL(len(more))
```""",
    ),
    Shot(
        _text(58_100),
        "Which city has the second most parcels? Give the answer in the form 'City: [X]'.",
        """\
What it holds:
parcel,city,state,kilos
P-301,Bergen,late,4
`rows` has its 931 records, each a dict with these fields:
- parcel: texts such as 'P-301'
- city: texts such as 'Bergen'
- state: 'late', 'lost', 'sent'
- kilos: numbers such as 4, from 1 to 30""",
        """\
```repl
# conditions: all rows count. Asked for: the city with the second most parcels
ranked = Counter(row["city"] for row in rows).most_common()
print(ranked[:3])
FINAL(f"City: {ranked[1][0]}")
```""",
    ),
    Shot(
        _text(61_900),
        "Which parcels to Oslo are not late? Reply with their numbers.",
        """\
What it holds:
parcel,city,state,kilos
P-301,Bergen,late,4
`rows` has its 988 records, each a dict with these fields:
- parcel: texts such as 'P-301'
- city: 'Bergen', 'Oslo'
- state: 'late', 'lost', 'sent'
- kilos: numbers such as 4, from 1 to 30""",
        """\
```repl
# conditions: city is Oslo, state is not late. Asked for: parcel
hits = [row for row in rows if row["city"] == "Oslo" and row["state"] != "late"]
print(len(hits), hits[:2])
FINAL(", ".join(row["parcel"] for row in hits))
```""",
    ),
    Shot(
        _text(48_210),
        "How many sales of the shop Leeds on a Monday cost more than 40 dollars?",
        """\
What it holds:
day=Mon shop=Leeds item="ink, black" dollars=12 sale=S-8841
day=Mon shop=York item="paper" dollars=55 sale=S-8842
`rows` has its 612 records, each a dict with these fields:
- day: 'Fri', 'Mon', 'Thu'
- shop: 'Leeds', 'York'
- item: texts such as 'ink, black'
- dollars: numbers such as 12, from 3 to 90
- sale: texts such as 'S-8841'""",
        """\
```repl
# conditions: shop is Leeds, day is Mon, dollars over 40. Asked for: how many
hits = [row for row in rows if row["shop"] == "Leeds" and row["day"] == "Mon" and row["dollars"] > 40]
print(len(hits), hits[:2])
FINAL(len(hits))
```""",
    ),
    Shot(
        _text(12_300),
        "Summarize what the text says about the budget.",
        """\
What it holds:
90 lines. The first ones:
Minutes of the meeting of the council""",
        """\
```repl
chunks = [context[i:i + 3500] for i in range(0, len(context), 3500)]
notes = llm_query_batched(["What does this text say about the budget? If nothing, reply NONE.\\n" + c for c in chunks])
useful = [note for note in notes if "NONE" not in note]
FINAL(llm_query("Summarize in three sentences what these notes say about the budget.\\n" + "\\n".join(useful)[:4000]))
```""",
    ),
    Shot(
        _text(90_650),
        "Where does the woman who repairs violins live?",
        """\
What it holds:
700 lines. The first ones:
Jon bakes bread in Ghent.
Ada keeps bees near Turin.""",
        """\
```repl
words = ["violin", "repair", "luthier", "instrument", "strings", "workshop"]
hits = [line for line in context.splitlines() if any(word in line.lower() for word in words)]
print(len(hits), hits[:3])
FINAL(llm_query("Where does the woman who repairs violins live? Reply with the place only.\\n" + "\\n".join(hits)[:4000]))
```""",
    ),
    Shot(
        _text(215_400),
        "The text gives a phone extension of Dr. Okafor. What is it?",
        """\
What it holds:
1204 lines. The first ones:
The clinic opens at eight.
Patients wait in the hall.""",
        """\
```repl
import re
places = [m.start() for m in re.finditer("Okafor", context)]
near = [context[max(0, p - 150):p + 150] for p in places]
found = re.findall(r"Okafor\\D{0,60}?(\\d+)", " ".join(near))
print(near[:1], found)
FINAL(found[0] if found else llm_query("What is the phone extension of Dr. Okafor? Reply with the number only.\\n" + "\\n".join(near)[:4000]))
```""",
    ),
)
