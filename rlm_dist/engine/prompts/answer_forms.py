"""What the root model reads about the form of its answer, and about an answer that was refused."""

import json

from rlm_dist.schema import JobSpec

_REFUSED = {
    "schema": "it does not have the form that was asked for",
    "quote_check": "it has quotes that are not in the context",
    "validator": "the check of the one who asked refused it",
    "judge": "it was judged against the rubric of the one who asked, and refused",
}


def answer_form(spec: JobSpec) -> str:
    """What the answer must be like; empty if anything will do."""
    parts = []
    if spec.response_schema is not None:
        schema = json.dumps(spec.response_schema, ensure_ascii=False)
        parts.append(
            "The answer must be a JSON value that conforms to this JSON Schema; hand in the value itself (a "
            f"dict, a list, …) or its JSON text:\n{schema}"
        )
    if spec.quote_check is not None:
        parts.append(f"Each text in the field `{spec.quote_check}` must stand in the context word for word.")
    return "\n\n".join(parts)


def refused(by: str, reason: str) -> str:
    """The note on an answer that was refused."""
    return (
        f"Your answer was not taken: {_REFUSED[by]}.\n{reason}\n"
        "Your variables are still there. Correct the answer, and hand it in again with FINAL(...) in a "
        "```repl block."
    )
