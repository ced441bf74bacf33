"""The page of a job that is run several times."""

import pytest

from rlm_dist.operations.viewer.model import Trajectory, trajectory
from rlm_dist.operations.viewer.trace_page import job_html
from rlm_dist.schema import JobState, Outcome, Vote
from rlm_dist.schema.events import Event
from tests.support.trajectories import (
    MODELS,
    START_MS,
    answered,
    at,
    call_ids,
    ran,
    record,
    replied,
    say,
    spec,
    started,
)


def of(sample: int, *events: Event) -> list[Event]:
    return [event.model_copy(update={"sample": sample}) for event in events]


def two_samples(*, content: bool = True) -> Trajectory:
    """Two samples whose events are mixed; each has a block with a sub-call in its first turn."""
    first, second = call_ids(1), call_ids(1, first=5)
    mixed = [
        started().model_copy(update={"samples": 2}),
        *of(0, say(0, "user", "Who?")), *of(1, say(0, "user", "Who?")),
        *of(1, replied(0)), *of(0, replied(0)),
        *of(0, answered(first)), *of(1, answered(second)),
        *of(1, ran(0, calls=1, text="two")), *of(0, ran(0, calls=1, text="one")),
        *of(0, say(0, "user", "out one")), *of(1, say(0, "user", "out two")),
        *of(0, replied(1)), *of(0, ran(1)),
    ]  # fmt: skip
    votes = (Vote(answer="a secret", count=2, samples=(0, 1)),)
    outcome = Outcome(state=JobState.SUCCEEDED, answer="a secret", iterations=3, votes=votes)
    sampled = spec().model_copy(update={"samples": 2})
    job = record(spec=sampled, outcome=outcome)
    traced = [at(number, event) for number, event in enumerate(mixed)]
    return trajectory(job, traced, MODELS, now_ms=START_MS, content=content)


def test_turns_calls_and_texts_belong_to_their_sample() -> None:
    job = two_samples()
    assert [(turn.sample, turn.number, turn.name) for turn in job.turns] == [
        (0, 0, "turn-0"), (0, 1, "turn-1"), (1, 0, "turn-2-0"),
    ]  # fmt: skip
    assert [turn.observation for turn in job.turns] == ["out one", None, "out two"]
    one, _, two = job.turns
    assert (one.cells[0].code or "").endswith("one")
    places = {call_ids(1)[0]: (one.cells[0].key, 0), call_ids(1, first=5)[0]: (two.cells[0].key, 0)}
    assert job.cell_of == places
    assert not [cell for cell in job.cells if cell.running]
    assert len(job.opening) == 1


@pytest.mark.parametrize("content", [True, False])
def test_the_page_names_samples_and_shows_votes_and_their_answers_only_with_content(content: bool) -> None:
    page = "".join(job_html(two_samples(content=content), []))
    assert "Sample 2 of 2, turn 0" in page
    assert "Votes of 2 samples" in page
    assert ("a secret" in page) is content
