"""What the methods without a root model of their own run in the REPL, as a job's ``program``.

A program that hands in an answer hands in a dict: ``answer`` is the text, ``left_out`` the characters of the
input that no model saw. ``failed`` in place of ``answer`` says why there is none.
"""

from typing import NamedTuple

from pydantic import JsonValue

ANSWER, LEFT_OUT, FAILED = "answer", "left_out", "failed"
BM25_LIBRARIES = ("bm25s", "numpy")
_RETRIES = 12  # each with three quarters of the text, if the endpoint says that it is too long

_TEXT = """\
def whole_text(value):
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        parts = value.items()
    else:
        parts = enumerate(value, 1)
    return "\\n\\n".join(f"[document {key}]\\n{part}" for key, part in parts)


def cut(text, room):
    if len(text) <= room:
        return text
    gone = len(text) - room
    head, tail = text[: room - room // 2], text[len(text) - room // 2 :]
    return f"{head}\\n[... {gone} characters left out ...]\\n{tail}"
"""

_BASE = """\
QUERY = @QUERY@


def ask(text, room):
    for _ in range(@RETRIES@):
        try:
            reply = llm_query(f"{cut(text, room)}\\n\\n{QUERY}")
            return {"answer": str(reply), "left_out": max(0, len(text) - room)}
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"[:500]
            if "window" not in problem:
                break
            room = min(room, len(text)) * 3 // 4
    return {"failed": problem}


FINAL(ask(whole_text(context), @ROOM@))
"""

_SUMMARY = """\
QUERY = @QUERY@


def take_notes(text, room, notes_room):
    notes = ""
    parts = [text[start : start + room] for start in range(0, len(text), room)]
    for number, part in enumerate(parts, 1):
        prompt = (
            f"A long text is read in {len(parts)} parts. This will be asked about the whole of it:\\n"
            f"{QUERY}\\n\\nNotes on the parts before:\\n{notes or '(none)'}\\n\\n"
            f"Part {number} of {len(parts)}:\\n{part}\\n\\n"
            "Rewrite the notes, so that they keep all that the question needs of this part and of those "
            f"before, in at most {notes_room} characters. Reply with the notes alone."
        )
        notes = str(llm_query(prompt))[:notes_room]
    return notes


def ask(text):
    try:
        notes = take_notes(text, @ROOM@, @NOTES@)
        question = f"Notes on a long text:\\n{notes}\\n\\nAnswer from these notes.\\n{QUERY}"
        return {"answer": str(llm_query(question)), "left_out": 0}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:500]}


FINAL(ask(whole_text(context)))
"""

_BM25 = """\
try:
    import bm25s
except ImportError:
    FINAL({"failed": "ImportError: the REPL of this worker has no bm25s (RLM_SANDBOX_PACKAGES)"})

if isinstance(context, str):
    chunks = [context[start : start + @CHUNK@] for start in range(0, len(context), @CHUNK@)]
else:
    parts = context.values() if isinstance(context, dict) else context
    texts = [str(part) for part in parts]
    chunks = [text[start : start + @CHUNK@] for text in texts for start in range(0, len(text), @CHUNK@)]
_index = bm25s.BM25()
_index.index(bm25s.tokenize(chunks, stopwords="en", show_progress=False), show_progress=False)


def search(query, k=5):
    words = bm25s.tokenize(str(query), stopwords="en", show_progress=False)
    numbers, scores = _index.retrieve(words, k=min(int(k), len(chunks)), show_progress=False)
    return [chunks[number] for number, score in zip(numbers[0], scores[0]) if score > 0]


print(f"search(query, k=5) is ready over {len(chunks)} chunks. The text:")
print(cut(whole_text(context), @ROOM@))
"""
BM25_CHUNK_CHARS = 2_000
BM25_INSTRUCTIONS = (
    "There is no sub-model in this work: llm_query and rlm_query fail. The first output shows the text, cut "
    "in the middle if it is too long for your window. `search(query, k=5)` is a function of the REPL: it "
    "returns the k best chunks of the whole text for some words, by BM25, as a list of str. Read the chunks "
    "yourself by printing them."
)
NO_CALLS_INSTRUCTIONS = (
    "There is no sub-model in this work: llm_query and rlm_query fail. Read the text yourself by printing "
    "parts of it, and use code for the rest."
)


class Rooms(NamedTuple):
    """How many characters of a text a model's window has room for, by use."""

    base: int
    part: int
    notes: int
    shown: int


def rooms(window_tokens: int, chars_per_token: int) -> Rooms:
    """The rooms of a window: the rest is for questions, replies and further turns."""
    chars = window_tokens * chars_per_token
    return Rooms(base=chars * 85 // 100, part=chars * 60 // 100, notes=chars * 10 // 100, shown=chars // 2)


def base_program(query: str, room: Rooms) -> str:
    """The whole text and the query in one call, cut in the middle to what has room."""
    return _filled(_TEXT + "\n\n" + _BASE, QUERY=repr(query), ROOM=room.base, RETRIES=_RETRIES)


def summary_program(query: str, room: Rooms) -> str:
    """Running notes over parts that fit the window, then the answer from the notes."""
    return _filled(_TEXT + "\n\n" + _SUMMARY, QUERY=repr(query), ROOM=room.part, NOTES=room.notes)


def bm25_program(query: str, room: Rooms) -> str:
    """Shows the text as far as it fits and defines ``search``; the root model goes on from there."""
    return _filled(_TEXT + "\n\n" + _BM25, ROOM=room.shown, CHUNK=BM25_CHUNK_CHARS)


def _filled(template: str, **values: object) -> str:
    """The template with its marks replaced, those of the query last: it may hold anything."""
    for name in sorted(values, key=lambda name: name == "QUERY"):
        template = template.replace(f"@{name}@", str(values[name]))
    return template


def handed_in(answer: str | None, answer_json: JsonValue) -> tuple[str | None, int, str]:
    """Answer, characters left out and failure of what a program handed in; of all else, the answer itself."""
    if isinstance(answer_json, dict) and answer_json.keys() == {ANSWER, LEFT_OUT}:
        left_out = answer_json[LEFT_OUT]
        return str(answer_json[ANSWER]), left_out if isinstance(left_out, int) else 0, ""
    if isinstance(answer_json, dict) and answer_json.keys() == {FAILED}:
        return None, 0, str(answer_json[FAILED])
    return answer, 0, ""
