"""The code that the family ``small`` runs before the root model is asked; its output joins the first message.

A small model guesses the form of lines, parses them wrongly and forgets conditions. So records are read here
into ``rows``, with numbers and days as such, and the model is shown the names and values of their fields.
What its code forgets to import is imported here.

Forms that are read: JSON lines, comma- or tab-separated lines with a header, ``key=value`` fields, and
``Key: value`` fields between bars.
"""

PEEK = '''\
import csv, json, re
from collections import Counter
from datetime import date, datetime


def read_rows(text):
    lines = [line for line in text.splitlines() if line.strip()]
    first = lines[0] if lines else ""
    fields = re.compile(r'(?:^|(?<=\\s))([\\w.-]+)=("[^"]*"|\\S+)').findall
    found = []
    most = max(2, 0.99 * len(lines) - 3)  # a text may have lines before and after its records
    if first.lstrip().startswith("{"):
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                pass
        found = [row for row in found if isinstance(row, dict)]
    elif sum(len(fields(line)) > 1 for line in lines) >= most:
        for line in lines:
            values = {name: value.strip('"') for name, value in fields(line)}
            start = re.split(r"(?:^|\\s)[\\w.-]+=", line)[0]
            if len(values) > 1:
                found.append(({"start": start} if start else {}) | values)
    elif sum(" | " in line or " || " in line for line in lines) >= most:
        bar = " || " if sum(" || " in line for line in lines) >= most else " | "
        for line in lines:
            parts = [part.partition(": ") for part in line.split(bar)]
            if bar in line and all(part[1] and re.fullmatch(r"\\w[\\w ]{0,30}", part[0]) for part in parts):
                found.append({name: value for name, _, value in parts})
    else:
        for mark in ",\\t;":
            if first.count(mark) >= 1 and all(line.count(mark) >= first.count(mark) for line in lines[:50]):
                found = list(csv.DictReader(lines, delimiter=mark))
                if any(None in row or None in row.values() for row in found):
                    found = []  # lines with more or fewer fields: these are no records
                break
    return found if len(found) >= most else []


def typed(rows):
    def number(value):
        if isinstance(value, (int, float)):
            return value
        if not re.fullmatch(r"-?(0|[1-9][0-9]*)([.][0-9]+)?", value):
            raise ValueError  # 007 is a name
        return float(value) if "." in value else int(value)

    def day(form):
        return lambda value: datetime.strptime(value, form).date()

    for name in rows[0] if rows else ():
        for read in (number, day("%Y-%m-%d"), day("%b %d, %Y"), day("%d %b %Y")):
            try:
                values = [read(row[name]) for row in rows]
            except (ValueError, TypeError, KeyError):
                continue
            for row, value in zip(rows, values):
                row[name] = value
            break
    return rows


def show(rows):
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        kinds = sorted(set(map(str, values)))
        if hasattr(values[0], "year"):
            first, last = (f"date({day.year}, {day.month}, {day.day})" for day in (min(values), max(values)))
            print(f"- {name}: days from {first} to {last}")
        elif len(kinds) <= 12 and max(map(len, kinds)) < 60:
            print(f"- {name}: {', '.join(map(repr, sorted(set(values), key=str)))}")
        elif all(isinstance(value, (int, float)) for value in values):
            print(f"- {name}: numbers such as {values[0]}, from {min(values)} to {max(values)}")
        else:
            print(f"- {name}: texts such as {str(values[0])[:80]!r}")


def label(rows, field, labels):
    """Set row["label"] of each row to the label that fits its field best, by asking the sub-model.

    Nothing is asked twice. If a row gets no label this is an error, as all counts would be wrong.
    """
    if len(rows) > 1000:
        raise ValueError("too many rows to read: narrow them down by their fields first")
    labels = sorted(set(labels))
    ask = f"{about}Which of the labels fits this one best: {', '.join(labels)}?\\n"
    prompts = [ask + str(row[field])[:2000] for row in rows]
    new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in labelled]
    found = llm_query_batched(new, schema={"type": "string", "enum": labels}) if new else []
    labelled.update((prompt, value) for prompt, value in zip(new, found) if value in labels)
    failed = [str(value) for value in found if value not in labels]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(new)} texts got no label; the first: {failed[0][:300]}")
    for row, prompt in zip(rows, prompts):
        row["label"] = labelled[prompt]


def stated_labels(text):
    """The line of the beginning that lists labels, as in "each is one of: a, b, c.", and the labels."""
    for line in text[:2000].splitlines():
        words = r"\\b(?:labels|categories|classes|topics|kinds|one of)\\b[^.:]*: ([^.]+)"
        found = re.search(words, line)
        names = re.split(r",\\s*(?:and |or )?| or ", found[1]) if found else []
        if len(names) > 1:
            return line[:500] + "\\n\\n", names
    return "", []


def show_missing_labels(rows, labels):
    named = {str(value) for row in rows[:1000] for value in row.values()}
    if labels and not named & set(labels):
        field = max(rows[0], key=lambda name: sum(len(str(row.get(name))) for row in rows[:100]))
        print(
            'No field holds the labels. First run this line, which sets row["label"]:',
            f"label(rows, {field!r}, {labels})",
        )


about = ""
labelled = {}
rows = []
if isinstance(context, str):
    if len(context) < 50_000_000:
        rows = typed(read_rows(context))
    if not rows:
        print(context.count("\\n") + 1, "lines. The first ones:")
    print("\\n".join(line[:400] for line in context[:1500].splitlines()[: 2 if rows else 4] if line))
    if rows:
        print(f"`rows` has its {len(rows)} records, each a dict with these fields:")
        show(rows)
        others = sum(1 for line in context.splitlines() if line.strip()) - len(rows)
        if others > 3:
            print(f"{others} other lines of the text are not in `rows`.")
        about, labels = stated_labels(context)
        show_missing_labels(rows, labels)
else:
    print("The first items:", *[repr(item)[:300] for item in list(context)[:3]], sep="\\n")
'''
