"""The call ids of a cell come back as they were, and take little room."""

from hypothesis import given
from hypothesis import strategies as st

from rlm_dist.schema import CallRequest, Message, Role
from rlm_dist.schema.id_lists import pack_ids, unpack_ids
from rlm_dist.worker.call_ids import CallIds

_NAMES = st.text(st.characters(codec="ascii", exclude_categories=("C", "Z")), min_size=1)


def test_ten_thousand_ids_come_back_in_order_and_take_17_bytes_each() -> None:
    names = CallIds("job")
    requests = [
        CallRequest(role=Role.SUB, model="m", messages=(Message(role="user", content=str(n % 9_990)),))
        for n in range(10_000)
    ]
    ids = [names.name(request) for request in requests]
    assert ids[-1].endswith("#2")
    packed = pack_ids(ids)
    assert list(unpack_ids(packed)) == ids
    assert len(packed) < 17 * 10_000 + 30


@given(st.lists(_NAMES))
def test_any_names_come_back(names: list[str]) -> None:
    assert list(unpack_ids(pack_ids(names))) == names


def test_a_damaged_text_gives_no_false_ids() -> None:
    assert unpack_ids("") == ()
    assert unpack_ids("x [the rest could not be stored]") == ()
