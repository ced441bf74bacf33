"""Whether spans are wanted, and what takes them; reads OpenTelemetry's own variables."""

import os
from collections.abc import Callable

from rlm_dist.otel.spans import NO_SPANS, Spans

_EXTRA = "pip install 'rlm-dist[otel]'"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def is_wanted() -> bool:
    """Whether OpenTelemetry's own variables ask for spans."""
    exporters = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    return (
        any(os.environ.get(name) for name in _ENDPOINTS)
        and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
        and "otlp" in [name.strip() for name in exporters.split(",")]
    )


def missing_extra() -> str | None:
    """What is missing to send the spans that are asked for; None if nothing is. Loads what is not."""
    if not is_wanted():
        return None
    try:
        import rlm_dist.otel.exporter  # noqa: F401, PLC0415  # an optional dependency
    except ImportError:
        return f"{_endpoint_variable()} is set, but OpenTelemetry is not installed: {_EXTRA}"
    return None


def open_spans(*, content: bool, warn: Callable[[str], None]) -> Spans:
    """The spans of this process, opened after the fork. ``warn`` is called once with what keeps them back."""
    if not is_wanted() or missing_extra():
        return NO_SPANS
    from rlm_dist.otel.exporter import OtlpSpans  # noqa: PLC0415  # an optional dependency

    try:
        return OtlpSpans(content=content, warn=warn)
    except Exception as error:  # noqa: BLE001  # a bad OTEL_ variable must not stop a worker
        warn(f"{_endpoint_variable()} or another variable of OpenTelemetry is bad: {type(error).__name__}")
        return NO_SPANS


def _endpoint_variable() -> str:
    return next(name for name in _ENDPOINTS if os.environ.get(name))
