"""``bench quality --oracle``: a separate cluster that calls a simulated model which knows the truth."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rlm_dist.bench.quality.labelled import load_labelled
from rlm_dist.bench.quality_oracle.serving import oracle_endpoint, write_prices
from rlm_dist.bench.quality_runs.methods import QualityMethod
from rlm_dist.bench.quality_runs.tasks import LABELLED, TaskChoice
from rlm_dist.cli.options import JobOptions
from rlm_dist.cli.small_model import with_endpoint
from rlm_dist.errors import InputError
from rlm_dist.settings import Settings
from rlm_dist.simulated.server import ROOT_MODEL, SUB_MODEL

_ITS_OWN = ("model", "sub_model", "sub_models", "child_models")


def check_oracle(methods: Sequence[QualityMethod], options: JobOptions) -> None:
    """Refuse what the oracle cannot play.

    Raises:
        InputError: naming the methods that ask no sub model, and the options that name other models.
    """
    problems = [
        f"--method {each.name}: the oracle plays no method without sub-calls; leave it out"
        for each in methods
        if each.options.get("max_sub_calls") == 0
    ]
    problems += [
        f"--{name.replace('_', '-')}: the oracle has its own models; leave it out"
        for name in _ITS_OWN
        if name in options
    ]
    if problems:
        raise InputError(tuple(problems))


def separate_cluster(settings: Settings) -> Settings:
    """The settings of the oracle's own cluster: no job of it may reach workers that have a real model."""
    home = settings.home / "oracle"
    return settings.model_copy(update={"redis_url": None, "blob_url": None, "home": home})


@contextmanager
def serve_oracle(
    settings: Settings, choice: TaskChoice, folder: Path, *, error_rate: float
) -> Iterator[Settings]:
    """Serve the oracle, which knows the labelled sets of the tasks; yield settings that use it for all calls.

    Its prices are written to the folder, as ``prices.json``.

    Raises:
        InputError: a labelled set cannot be read.
    """
    sets = [load_labelled(path) for path in {choice.data[task] for task in LABELLED if task in choice.data}]
    with oracle_endpoint(sets, error_rate=error_rate, seed=choice.seed) as endpoint:
        served = with_endpoint(settings, endpoint.url, ROOT_MODEL)
        prices = write_prices(folder.absolute() / "prices.json")
        yield served.model_copy(update={"sub_model": SUB_MODEL, "prices": prices})
