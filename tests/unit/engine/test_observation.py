"""What the model sees of a turn."""

from hypothesis import given
from hypothesis import strategies as st

from rlm_dist.engine.blocks import NotRun
from rlm_dist.engine.observation import BlockResult, cut, observation
from rlm_dist.schema import CellResult, Clipped


def show(*results: CellResult, max_chars: int = 1000) -> str:
    blocks = [BlockResult(result, number=number) for number, result in enumerate(results, start=1)]
    return observation(blocks, max_chars=max_chars)


def test_short_output_is_whole() -> None:
    assert show(CellResult(Clipped("a\nb\n"))) == "Output of your code:\na\nb"


def test_no_output_is_said() -> None:
    assert "(no output)" in show(CellResult())


def test_long_output_is_cut_in_the_middle_and_the_number_left_out_is_said() -> None:
    assert cut(Clipped("a" * 50 + "b" * 50), 20) == f"{'a' * 10}\n[… 80 characters left out …]\n{'b' * 10}"
    assert "`history`" in show(CellResult(Clipped("a" * 5000)))


def test_what_the_sandbox_left_out_counts() -> None:
    assert cut(Clipped("ab", "yz", 1000), 4) == "ab\n[… 1,000 characters left out …]\nyz"
    assert cut(Clipped("ab", "yz", 1000), 2) == "a\n[… 1,002 characters left out …]\nz"


@given(st.text(max_size=30), st.text(max_size=30), st.integers(0, 50), st.integers(2, 40))
def test_nothing_is_lost_from_the_count(head: str, tail: str, omitted: int, limit: int) -> None:
    shown = cut(Clipped(head, tail, omitted), limit)
    total = len(head) + len(tail) + omitted
    if "characters left out" not in shown:
        assert len(shown) == total
        return
    number = int(shown.split("[… ")[1].split(" ")[0].replace(",", ""))
    kept = len(shown) - len(f"\n[… {number:,} characters left out …]\n")
    assert kept + number == total
    assert kept <= limit


def test_an_error_is_kept_beside_a_long_output() -> None:
    text = show(CellResult(Clipped("a" * 5000), error="ValueError: bad"), max_chars=200)
    assert "ValueError: bad" in text


def test_a_short_block_leaves_its_share_to_a_long_one() -> None:
    text = show(CellResult(Clipped("x")), CellResult(Clipped("a" * 150)), max_chars=200)
    assert "left out" not in text


def test_blocks_that_were_not_run_are_named() -> None:
    failed = BlockResult(CellResult(error="E"))
    why = "block 1 raised an error"
    text = observation([failed], max_chars=100, not_run=[NotRun(2, why), NotRun(3, why)])
    assert text == f"Output of block 1 of 3:\nE\n\nBlocks 2 to 3 were not run, because {why}."
    last = BlockResult(CellResult(Clipped("ok")), number=3)
    text = observation([failed, last], max_chars=100, not_run=[NotRun(2, why), NotRun(4, "it uses x")])
    assert "Output of block 3 of 4:\nok" in text
    assert f"Block 2 was not run, because {why}.\nBlock 4 was not run, because it uses x." in text
