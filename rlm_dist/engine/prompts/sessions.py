"""What the first message of a session's later query says of the earlier ones."""

from collections.abc import Sequence

from rlm_dist.engine.observation import cut
from rlm_dist.schema import Clipped, JobState

SHOWN_CHARS = 2000  # of each query, and of each answer
_SHOWN_QUERIES = 10
_NO_ANSWER = "(it ended without an answer: {state}; what its blocks did is still there)"


class EarlierQuery:
    """A query of the session that has ended, as the model sees it."""

    def __init__(self, query: str, state: JobState, answer: str | None) -> None:
        self._query = query
        self._answer = answer if answer is not None else _NO_ANSWER.format(state=state.value)

    def text(self, number: int) -> str:
        """Query and answer, each cut in the middle if it is long."""
        return f"Query {number}:\n{_shortened(self._query)}\n\nAnswer {number}:\n{_shortened(self._answer)}"


def earlier_queries(queries: Sequence[EarlierQuery], variables: Sequence[str]) -> str:
    """The earlier queries, oldest first, and the variables that they left; "" if there are none."""
    if not queries:
        return ""
    left_out = max(0, len(queries) - _SHOWN_QUERIES)
    parts = [
        "This query continues a session over the same REPL. The queries before it, with their answers, are "
        "in `session_history`, whole, and their blocks in `history`."
    ]
    if left_out:
        parts.append(f"The first {left_out} of them are not shown here.")
    parts += [query.text(number) for number, query in enumerate(queries[left_out:], left_out + 1)]
    parts.append(
        "\n".join(["Variables that they left:", *variables]) if variables else "They left no variables."
    )
    return "\n\n".join(parts)


def _shortened(text: str) -> str:
    half = SHOWN_CHARS // 2
    if len(text) <= SHOWN_CHARS:
        return text
    return cut(Clipped(text[:half], text[-half:], len(text) - 2 * half), SHOWN_CHARS)
