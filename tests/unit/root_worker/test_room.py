"""What the samples of a job keep of its budgets for their next root calls."""

from rlm_dist.root_worker.room import Room
from rlm_dist.store import CallRefused


class Kept:
    """The store's side: one amount for the job, as far as there is room."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.tokens = 0

    def __call__(self, *, tokens: int, nanousd: int | None, partly: bool = False) -> CallRefused | None:
        if tokens > self.room and not partly:
            return CallRefused("max_tokens", 0, self.room, tokens)
        self.tokens = min(tokens, self.room)
        return None


def test_the_job_keeps_the_sum_of_what_its_samples_keep() -> None:
    kept = Kept(100)
    room = Room(kept)
    room.keep(0, tokens=30, nanousd=0)
    room.keep(1, tokens=40, nanousd=0)
    assert kept.tokens == 70
    room.keep(1, tokens=10, nanousd=0)
    assert kept.tokens == 40


def test_a_sample_whose_root_call_is_in_flight_keeps_nothing_meanwhile() -> None:
    kept = Kept(100)
    room = Room(kept)
    room.keep(0, tokens=30, nanousd=0)
    room.keep(1, tokens=40, nanousd=0)
    with room.drawing(0):
        pass
    room.keep(1, tokens=50, nanousd=0)
    assert kept.tokens == 50


def test_what_does_not_fit_beside_the_others_is_refused_and_changes_nothing() -> None:
    kept = Kept(100)
    room = Room(kept)
    room.keep(0, tokens=60, nanousd=0)
    assert room.keep(1, tokens=50, nanousd=0) is not None
    assert kept.tokens == 60
    room.leave(0)
    assert kept.tokens == 0
    assert room.keep(1, tokens=50, nanousd=0) is None
    room.leave(2)  # it kept nothing
    assert kept.tokens == 50
