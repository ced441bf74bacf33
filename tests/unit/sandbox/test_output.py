"""The bounded record of what a cell prints, compared with the plain text that it stands for."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_dist.sandbox.inside.output import Clip, Recorder, Stream, clip


@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=30), max_size=20))
def test_head_and_tail_are_those_of_the_whole_text(writes: list[str]) -> None:
    recorder = Recorder(limit=40)
    for text in writes:
        recorder.write(text)
    whole = "".join(writes)
    kept = recorder.take()
    assert kept.head == whole[:20]
    assert kept.tail == whole[20:][-20:]
    assert len(kept.head) + len(kept.tail) + kept.omitted == len(whole)
    assert recorder.take() == Clip("", "", 0)


def test_chunks_of_the_tail_are_dropped_while_it_is_written() -> None:
    recorder = Recorder(limit=200_000)
    for i in range(1000):
        recorder.write(f"{i:4}" * 1000)
    kept = recorder.take()
    assert kept.head.startswith("   0   0")
    assert kept.tail == "".join(f"{i:4}" * 1000 for i in range(1000))[-100_000:]
    assert kept.omitted == 4_000_000 - 200_000


@given(st.text(max_size=60), st.integers(2, 50))
def test_a_cut_text_has_the_limit_s_length_and_says_what_is_gone(text: str, limit: int) -> None:
    cut = clip(Clip(text, "", 0), limit)
    if len(text) <= limit:
        assert cut == Clip(text, "", 0)
        return
    assert len(cut.head) + len(cut.tail) == limit
    assert (text.startswith(cut.head), text.endswith(cut.tail)) == (True, True)
    assert cut.omitted == len(text) - limit
    assert f"[... {cut.omitted} characters left out ...]" in cut.joined()


def test_what_was_left_out_before_adds_up() -> None:
    assert clip(Clip("aaaa", "bbbb", 100), 4) == Clip("aa", "bb", 104)
    assert clip(Clip("aaaa", "bbbb", 100), 8) == Clip("aaaa", "bbbb", 100)


def test_half_a_character_of_bytes_waits_for_its_rest() -> None:
    recorder = Recorder()
    stream = Stream(recorder, "<stdout>")
    for byte in "é".encode():
        stream.buffer.write(bytes([byte]))
    stream.buffer.write(b"\xc3")
    stream.buffer.finish()
    assert recorder.take().head == "é\ufffd"


def test_only_text_can_be_written_and_nothing_closes_the_stream() -> None:
    recorder = Recorder()
    stream = Stream(recorder, "<stdout>")
    with pytest.raises(TypeError):
        stream.write(b"bytes")  # type: ignore[arg-type]
    stream.close()
    stream.buffer.close()
    stream.reconfigure(encoding="latin-1")
    stream.writelines(["a", "b"])
    print("c", file=stream, flush=True)
    assert recorder.take().head == "abc\n"
    assert not stream.isatty()


def test_writes_of_many_threads_all_arrive() -> None:
    recorder = Recorder()
    threads = [threading.Thread(target=recorder.write, args=("ab" * 1000,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.take().head == "ab" * 4000
