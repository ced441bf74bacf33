"""The processes that the benchmarks start close what they open: nothing stands before the table."""

import subprocess
import sys

import pytest

from rlm_dist.bench.rig import environment
from rlm_dist.simulated import SimulatedEndpoint

CALLS, AT_ONCE, CHARS = 60, 20, 200


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("bare", (CALLS, AT_ONCE, CHARS)),
        ("plain_http", (CALLS, CHARS)),
        ("retrying_sdk", (CALLS, AT_ONCE)),
    ],
)
def test_nothing_is_left_open(module: str, arguments: tuple[int, ...]) -> None:
    noise = 0.2 if module == "retrying_sdk" else 0.0
    with SimulatedEndpoint(noise=noise, retry_after_s=0.01, sub=lambda _: "yes") as endpoint:
        command = [sys.executable, "-X", "dev", "-W", "default", "-m", f"rlm_dist.bench.{module}"]
        done = subprocess.run(
            [*command, endpoint.url, *map(str, arguments)],
            env=environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert "nclosed" not in done.stderr
