"""The ids of calls: a hash of the request, and the number of its occurrence."""

from rlm_dist.schema import CallRequest, Message, Role
from rlm_dist.worker.call_ids import CallIds


def request(text: str) -> CallRequest:
    """A call with this prompt."""
    return CallRequest(role=Role.SUB, model="m", messages=(Message(role="user", content=text),))


def test_ids_that_are_given_back_are_given_out_again() -> None:
    """The latest of each request, in whatever order they are handed in."""
    ids = CallIds("j")
    a1, a2, b1, a3 = (ids.name(request(text)) for text in "aaba")
    ids.give_back([a2, b1, a3])
    assert [ids.name(request(text)) for text in "baa"] == [b1, a2, a3]
    assert a1.endswith("#1")
    assert a3.endswith("#3")


def test_an_id_is_kept_if_a_later_one_of_its_request_is_in_use() -> None:
    ids = CallIds("j")
    first, second = (ids.name(request("a")) for _ in range(2))
    ids.give_back([first])
    assert ids.name(request("a")) not in (first, second)
