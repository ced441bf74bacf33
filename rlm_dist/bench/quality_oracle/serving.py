"""The oracle as an endpoint, and what its tokens take and cost; none of these figures is that of a model."""

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType

from rlm_dist.bench.quality.labelled import LabelledSet
from rlm_dist.bench.quality_oracle.root import reply
from rlm_dist.bench.quality_oracle.sub import OracleSub, known_labels
from rlm_dist.schema import Role
from rlm_dist.simulated import SimulatedEndpoint, TokenSpeed
from rlm_dist.simulated.server import ROOT_MODEL, SUB_MODEL

SPEEDS: Mapping[Role, TokenSpeed] = MappingProxyType(
    {
        Role.ROOT: TokenSpeed(first_s=1.0, input_per_s=10_000, output_per_s=100),
        Role.SUB: TokenSpeed(first_s=0.5, input_per_s=10_000, output_per_s=200),
    }
)
# USD per million tokens.
PRICES = MappingProxyType(
    {
        ROOT_MODEL: {"input": 1.25, "cached": 0.125, "output": 10.0},
        SUB_MODEL: {"input": 0.25, "cached": 0.025, "output": 2.0},
    }
)


def oracle_endpoint(
    sets: Iterable[LabelledSet] = (),
    *,
    error_rate: float = 0.0,
    latency: Mapping[Role, TokenSpeed] | None = SPEEDS,
    seed: int = 0,
) -> AbstractContextManager[SimulatedEndpoint]:
    """The endpoint while the context is open; ``latency`` is None for answers at once.

    It keeps the labelled sets and no item: it reads each context as it is asked, so that all that the
    generators of the quality tasks make from these sets may be asked.
    """
    sub = OracleSub(labels=known_labels(sets), error_rate=error_rate, seed=seed)
    return SimulatedEndpoint(root=reply, sub=sub.answer, speeds=latency)


def write_prices(path: Path) -> Path:
    """Write the prices of the oracle's models as a file for ``RLM_PRICES``, and return its path."""
    path.write_text(json.dumps(dict(PRICES), indent=2), "utf-8")
    return path
