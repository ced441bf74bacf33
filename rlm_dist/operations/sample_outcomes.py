"""Which sample of a job gave its answer."""

import json
from collections.abc import Iterable, Mapping

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.schema import JobSpec, JobState, Outcome

_ENTRY = '{"v":1,"t":"sample_ended",'  # as root_worker.samples writes it


def sample_answers(journal: Iterable[str], payloads: Payloads) -> dict[int, Outcome]:
    """The outcomes of the samples that have an answer, as far as the journal has them.

    Raises:
        BlobError: if one is gone.
    """
    entries = [json.loads(entry) for entry in journal if entry.startswith(_ENTRY)]
    return {
        entry["sample"]: Outcome.model_validate_json(payloads.unpack(entry["outcome"])) for entry in entries
    }


def winner(spec: JobSpec, outcome: Outcome, answers: Mapping[int, Outcome]) -> int | None:
    """The first sample with the job's answer; None if the job has none."""
    if outcome.state is not JobState.SUCCEEDED:
        return 0 if spec.samples == 1 else None
    mine = (outcome.answer, outcome.answer_json)
    same = [sample for sample, one in sorted(answers.items()) if (one.answer, one.answer_json) == mine]
    voted = [vote.samples[0] for vote in outcome.votes]
    return next(iter([*same, *voted]), 0)
