"""The small model on this machine, served for as long as a command needs it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from rlm_dist.cli.output import Output
from rlm_dist.errors import InputError
from rlm_dist.local.model import DEFAULT, MODELS, SLOT_TOKENS, SLOTS, local_endpoint, pull, weights
from rlm_dist.settings import Settings

_GB = 1_000_000_000
_MAX_OUTPUT_CHARS = 2_000
_MAX_OUTPUT_TOKENS = 1_000


@contextmanager
def small_model(
    settings: Settings, out: Output, *, name: str = DEFAULT.name, weights_home: Path | None = None
) -> Iterator[Settings]:
    """Serve a small model, downloading it if it is missing; yield settings that use it for all calls."""
    home = weights_home or settings.home
    _ensure_pulled(name, home, out)
    with local_endpoint(home, name) as local:
        out.note(f"serving {local.model} on this machine: its answers take seconds to minutes")
        yield for_small_model(with_endpoint(settings, local.url, local.model), local.model)


def for_small_model(settings: Settings, name: str = DEFAULT.name) -> Settings:
    """Settings that fit a small model which is served here: its prompts, and bounds of its texts and calls.

    What it is shown and what it writes has to fit into its window. Calls that it has no slot for wait here,
    since their time would run out if they were sent.
    """
    fitting = {
        "prompts": "small",
        "max_output_chars": min(settings.max_output_chars, _MAX_OUTPUT_CHARS),
        "max_output_tokens": settings.max_output_tokens or _MAX_OUTPUT_TOKENS,
        "sub_max_output_tokens": settings.sub_max_output_tokens or _MAX_OUTPUT_TOKENS,
        "max_in_flight": settings.max_in_flight or SLOTS,
        "model_windows": (*settings.model_windows, f"{name}={SLOT_TOKENS}"),
    }
    return settings.model_copy(update=fitting)


def with_endpoint(settings: Settings, url: str, name: str) -> Settings:
    """Settings that send all calls to one endpoint on this machine, without keys and extra headers.

    Every value is set explicitly: workers take the values that are not set from the environment.
    """
    no_key = SecretStr("none")
    models = {"model": name, "sub_model": name, "api_key": no_key, "sub_api_key": no_key}
    no_headers = {"extra_headers": SecretStr("{}"), "sub_extra_headers": SecretStr("{}")}
    urls = {"api_url": url, "sub_api_url": url, "endpoints": Path(os.devnull)}
    return settings.model_copy(update={**models, **no_headers, **urls})


def _ensure_pulled(name: str, home: Path, out: Output) -> None:
    """Download the weights of a built-in model if they are missing, after saying how large they are."""
    try:
        weights(home, name)
    except InputError:
        entry = next((entry for entry in MODELS if entry.name == name), None)
        if entry is None:
            raise
        out.note(f"downloading {name} ({entry.size_bytes / _GB:.2f} GB, {entry.licence}) to {home}")
        pull_weights(name, home, out)


def pull_weights(source: str, home: Path, out: Output, *, sha256: str | None = None) -> Path:
    """Download a model's weights, showing how far it is."""
    with out.panel() as show:

        def progress(bytes_read: int, total: int) -> None:
            share = (
                f"{100 * bytes_read // total} % of {total / _GB:.2f} GB" if total else "size not known yet"
            )
            show(f"{source}: {share}")

        return pull(source, home=home, sha256=sha256, progress=progress, say=out.note)
