"""Owners take turns, and the items of one owner keep their order."""

from rlm_dist.llm.fair_queue import FairQueue


def filled() -> FairQueue[str]:
    """Three items of one owner, then two of another."""
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3", "b1", "b2"):
        queue.add(item[0], item)
    return queue


def test_owners_take_turns() -> None:
    queue = filled()
    assert list(queue) == ["a1", "b1", "a2", "b2", "a3"]
    assert [queue.pop() for _ in range(5)] == ["a1", "b1", "a2", "b2", "a3"]
    assert not queue


def test_one_who_comes_late_waits_for_the_others_of_this_round_alone() -> None:
    queue = filled()
    assert queue.pop() == "a1"
    queue.add("c", "c1")
    assert [queue.pop() for _ in range(5)] == ["b1", "a2", "c1", "b2", "a3"]


def test_an_item_may_be_taken_out() -> None:
    queue = filled()
    queue.discard("b", "b1")
    queue.discard("b", "b1")
    queue.discard("c", "c1")
    assert queue.of("b") == ["b2"]
    assert len(queue) == 4
    queue.discard("b", "b2")
    assert [queue.pop() for _ in range(3)] == ["a1", "a2", "a3"]
