"""Spans that a test reads in place of a collector."""

from rlm_dist.otel.spans import FinishedSpan


class RecordedSpans:
    """Keeps the spans."""

    on = True
    content = False

    def __init__(self) -> None:
        self.spans: list[FinishedSpan] = []

    def record(self, span: FinishedSpan) -> None:
        """Keep a span."""
        self.spans.append(span)

    def close(self) -> None:
        """There is nothing that waits."""
