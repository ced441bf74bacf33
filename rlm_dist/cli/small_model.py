"""The small model on this machine, served for as long as a command needs it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from rlm_dist.cli.output import Output
from rlm_dist.errors import InputError
from rlm_dist.local.model import DEFAULT, MODELS, local_endpoint, pull, weights
from rlm_dist.settings import Settings

_GB = 1_000_000_000


@contextmanager
def small_model(
    settings: Settings, out: Output, *, name: str = DEFAULT.name, weights_home: Path | None = None
) -> Iterator[Settings]:
    """Serve a small model, downloading it if it is missing; yield settings that use it for all calls."""
    home = weights_home or settings.home
    _ensure_pulled(name, home, out)
    with local_endpoint(home, name) as local:
        out.note(f"serving {local.model} on this machine: its answers take seconds to minutes")
        yield with_endpoint(settings, local.url, local.model).model_copy(update={"prompts": "small"})


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

        return pull(source, home=home, sha256=sha256, progress=progress)
