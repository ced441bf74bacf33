"""Owners take turns, and the items of one owner keep their order."""

from rlm_dist.llm.fair_queue import FairQueue


def filled() -> FairQueue[str]:
    """Three items of one owner, then two of another."""
    turns: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3", "b1", "b2"):
        turns.add(item[0], item)
    return turns


def test_owners_take_turns() -> None:
    turns = filled()
    assert list(turns) == ["a1", "b1", "a2", "b2", "a3"]
    assert [turns.pop() for _ in range(5)] == ["a1", "b1", "a2", "b2", "a3"]
    assert not turns


def test_one_who_comes_late_waits_for_the_others_of_this_round_alone() -> None:
    turns = filled()
    assert turns.pop() == "a1"
    turns.add("c", "c1")
    assert [turns.pop() for _ in range(5)] == ["b1", "a2", "c1", "b2", "a3"]


def test_an_item_may_be_taken_out() -> None:
    turns = filled()
    turns.discard("b", "b1")
    turns.discard("b", "b1")
    turns.discard("c", "c1")
    assert turns.of("b") == ["b2"]
    assert len(turns) == 4
    turns.discard("b", "b2")
    assert [turns.pop() for _ in range(3)] == ["a1", "a2", "a3"]
