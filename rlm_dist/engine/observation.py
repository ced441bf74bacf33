"""The user message that follows a turn: what the code printed, what went wrong, and what to mind next.

All of what the blocks of one turn printed and raised is cut to one bound, in the middle, and the number of
characters left out is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rlm_dist.schema import CellResult, Clipped

_EMPTY = "(no output)"


@dataclass(frozen=True)
class BlockResult:
    """One block of a turn: its outcome, and a word on the REPL's variables where they were lost."""

    result: CellResult
    rebuilt: str = ""


def observation(ran: Sequence[BlockResult], blocks: int, *, max_chars: int, notes: Sequence[str] = ()) -> str:
    """The message after a turn in which ``ran`` of its ``blocks`` were run; ``notes`` stand at its end."""
    parts = []
    shares = _shares([_length(one.result) for one in ran], max_chars)
    for number, (one, share) in enumerate(zip(ran, shares, strict=True), start=1):
        title = f"Output of block {number} of {blocks}:" if blocks > 1 else "Output of your code:"
        parts.append(f"{title}\n{_shown(one, share)}")
    if blocks > len(ran) > 0:
        parts.append(_not_run(len(ran), blocks, ran[-1].result))
    if any(
        _length(one.result) > share or one.result.output.omitted
        for one, share in zip(ran, shares, strict=True)
    ):
        parts.append("Output is cut for this chat; whole outputs are in `history`.")
    return "\n\n".join([*parts, *notes])


def cut(text: Clipped, max_chars: int) -> str:
    """The text as one string of at most ``max_chars`` of its own characters, head and tail kept."""
    if not text.omitted:
        whole = text.head + text.tail
        if len(whole) <= max_chars:
            return whole
        text = Clipped(whole, whole, -len(whole))
    kept_tail = min(len(text.tail), max(max_chars // 2, max_chars - len(text.head)))
    kept_head = min(len(text.head), max_chars - kept_tail)
    omitted = text.omitted + len(text.head) - kept_head + len(text.tail) - kept_tail
    tail = text.tail[len(text.tail) - kept_tail :]
    return f"{text.head[:kept_head]}\n[… {omitted:,} characters left out …]\n{tail}"


def _shown(one: BlockResult, share: int) -> str:
    result = one.result
    error = result.error.rstrip() if result.error else ""
    error_share = min(len(error), max(share // 2, share - _chars(result.output)))
    parts = [cut(result.output, share - error_share).rstrip("\n")]
    if error:
        parts.append(cut(Clipped(error), error_share))
    if result.failed_calls:
        parts.append(
            f"[{result.failed_calls:,} of {result.calls:,} sub-calls failed. In a batch such an answer "
            "says so and its .ok is False; the others are good.]"
        )
    if result.state_lost:
        parts.append(
            f"[The REPL process was ended: its variables are gone. {one.rebuilt}]".replace(" ]", "]")
        )
    return "\n".join(part for part in parts if part) or _EMPTY


def _not_run(ran: int, blocks: int, last: CellResult) -> str:
    which = f"Block {blocks} was" if blocks == ran + 1 else f"Blocks {ran + 1} to {blocks} were"
    why = "raised an error" if last.error else "handed in an answer" if last.final else "ended the REPL"
    return f"{which} not run, because block {ran} {why}."


def _chars(text: Clipped) -> int:
    return len(text.head) + len(text.tail)


def _length(result: CellResult) -> int:
    return _chars(result.output) + len(result.error or "")


def _shares(lengths: Sequence[int], total: int) -> list[int]:
    """How much of ``total`` each text gets: short ones all they need, long ones the same share."""
    shares = [0] * len(lengths)
    left = total
    for place, index in enumerate(sorted(range(len(lengths)), key=lambda index: lengths[index])):
        shares[index] = min(lengths[index], left // (len(lengths) - place))
        left -= shares[index]
    return shares
