"""The user message that follows a turn: what the code printed, what went wrong, and what to mind next.

One bound holds for everything that the blocks of a turn printed and raised. A text longer than its share of
the bound is cut in the middle, and the message says how many characters are left out.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from rlm_dist.engine.blocks import NotRun
from rlm_dist.schema import CellResult, Clipped

_EMPTY = "(no output)"


@dataclass(frozen=True)
class BlockResult:
    """One block of a turn: its result and, if the REPL lost its variables, whether they were rebuilt.

    ``number`` counts the blocks of the reply from 1.
    """

    result: CellResult
    rebuilt: str = ""
    number: int = 1


def observation(
    results: Sequence[BlockResult],
    *,
    max_chars: int,
    not_run: Sequence[NotRun] = (),
    notes: Sequence[str] = (),
    title: str = "Output of your code:",
) -> str:
    """The message after a turn in which the blocks of ``results`` ran; ``notes`` come last.

    ``title`` is above the output of an only block.
    """
    blocks = len(results) + len(not_run)
    parts = []
    shares = _shares([_length(block.result) for block in results], max_chars)
    for block, share in zip(results, shares, strict=True):
        title = f"Output of block {block.number} of {blocks}:" if blocks > 1 else title
        parts.append(f"{title}\n{_block_text(block, share)}")
    if not_run:
        parts.append(_not_run(not_run))
    if any(
        _length(block.result) > share or block.result.output.omitted
        for block, share in zip(results, shares, strict=True)
    ):
        parts.append("Output is cut for this chat; whole outputs are in `history`.")
    return "\n\n".join([*parts, *notes])


def cut(text: Clipped, max_chars: int) -> str:
    """The text as one string with at most ``max_chars`` of its own characters, from its head and its tail."""
    if not text.omitted:
        whole = text.head + text.tail
        if len(whole) <= max_chars:
            return whole
        text = Clipped(whole, whole, -len(whole))
    tail_chars = min(len(text.tail), max(max_chars // 2, max_chars - len(text.head)))
    head_chars = min(len(text.head), max_chars - tail_chars)
    omitted = text.omitted + len(text.head) - head_chars + len(text.tail) - tail_chars
    tail = text.tail[len(text.tail) - tail_chars :]
    return f"{text.head[:head_chars]}\n[… {omitted:,} characters left out …]\n{tail}"


def _block_text(block: BlockResult, share: int) -> str:
    result = block.result
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
    if result.truncated_calls:
        were, their = ("was", "its") if result.truncated_calls == 1 else ("were", "their")
        parts.append(
            f"[{result.truncated_calls:,} of {result.calls:,} answers {were} cut off at the output limit; "
            f"{their} .truncated is True]"
        )
    if result.state_lost:
        parts.append(
            f"[The REPL process was ended: its variables are gone. {block.rebuilt}]".replace(" ]", "]")
        )
    return "\n".join(part for part in parts if part) or _EMPTY


def _not_run(blocks: Sequence[NotRun]) -> str:
    lines = []
    for why, group in itertools.groupby(blocks, key=lambda block: block.why):
        numbers = [block.number for block in group]
        if len(numbers) == 1:
            which = f"Block {numbers[0]} was"
        elif numbers[-1] - numbers[0] == len(numbers) - 1:
            which = f"Blocks {numbers[0]} to {numbers[-1]} were"
        else:
            which = f"Blocks {', '.join(map(str, numbers))} were"
        lines.append(f"{which} not run, because {why}.")
    return "\n".join(lines)


def _chars(text: Clipped) -> int:
    return len(text.head) + len(text.tail)


def _length(result: CellResult) -> int:
    return _chars(result.output) + len(result.error or "")


def _shares(lengths: Sequence[int], total: int) -> list[int]:
    """Divide ``total`` among the texts: a short one gets its whole length, long ones get equal shares."""
    shares = [0] * len(lengths)
    remaining = total
    for rank, index in enumerate(sorted(range(len(lengths)), key=lambda index: lengths[index])):
        shares[index] = min(lengths[index], remaining // (len(lengths) - rank))
        remaining -= shares[index]
    return shares
