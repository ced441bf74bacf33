"""``limits show`` and ``limits set``, as text and as JSON."""

from collections.abc import Iterator

import pytest

from rlm_dist.schema.limits import Ceilings, Report, Scope, latency_bucket
from rlm_dist.store import Store, connect
from tests.support.command_line import Cli
from tests.support.store_values import LEASE_MS

SCOPE = Scope("http://e/v1", "m")


@pytest.fixture
def cli(redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("RLM_REDIS_URL", redis_url)
    return Cli(capsys)


@pytest.fixture
def shared(redis_url: str, cli: Cli) -> Iterator[Store]:
    with connect(redis_url, client_name="test") as client:
        yield Store(client, retention_s=1000)


def called(store: Store) -> None:
    """Let a worker report on the scope."""
    report = Report(1, 3, 9, waiting=6, ended=10, latencies=((latency_bucket(2.0), 10),))
    store.limits.share(SCOPE, "a", report, Ceilings(tokens_per_min=1000), LEASE_MS)


def test_nothing_is_shown_as_nothing(cli: Cli) -> None:
    assert cli("limits", "show").out == "no endpoint was called in the last hour, and no ceiling is set\n"
    assert cli("limits", "show", "--json").document == {"endpoints": [], "not_called": []}


def test_what_the_workers_may_do_is_shown(cli: Cli, shared: Store) -> None:
    called(shared)
    done = cli("limits", "set", "http://e/v1/", "m", "--max-in-flight", "2")
    assert (done.code, done.err) == (0, "")
    first, now, learnt, ceilings, latency = cli("limits", "show").out.splitlines()
    assert first == "http://e/v1 m"
    assert now.startswith("  now       endpoint limit 2 (ceiling), 3 in flight, 6 calls wait")
    assert learnt == "  learnt    limit 32 (not reached yet), circuit closed"
    assert ceilings == "  ceilings  2 in flight (set), 1,000 tokens a minute (settings)"
    assert latency.startswith("  latency   p50 ")
    assert latency.endswith("(10 answers in the last 5 minutes)")
    (document,) = cli("limits", "show", "--json").document["endpoints"]
    assert document["set_ceilings"] == {"in_flight": 2, "requests_per_min": None, "tokens_per_min": None}
    assert document["ceilings"]["tokens_per_min"] == 1000
    assert (document["circuit"], document["limit"]) == ("closed", 32)
    assert sum(minute["ended"] for minute in document["history"]) == 10
    assert document["latency"]["answered"] == 10


def test_a_ceiling_is_set_in_advance_and_taken_back(cli: Cli) -> None:
    done = cli("limits", "set", "https://me:key@f/v1?a=b", "n", "--max-requests-per-min", "600")
    assert done.out == "https://f/v1 n: 600 requests a minute (set)\n"
    assert done.err == "no worker has called this endpoint and model in the last hour\n"
    done = cli("limits", "set", "https://f/v1", "n", "--max-tokens-per-min", "90000", "--json")
    assert done.document["ceilings"] == {"in_flight": None, "requests_per_min": 600, "tokens_per_min": 90000}
    assert cli("limits", "show").out.splitlines() == [
        "https://f/v1 n",
        "  now       not called in the last hour",
        "  ceilings  600 requests a minute (set), 90,000 tokens a minute (set)",
    ]
    taken_back = ("--max-requests-per-min", "none", "--max-tokens-per-min", "none")
    done = cli("limits", "set", "https://f/v1", "n", *taken_back)
    assert done.out == "https://f/v1 n: none is set; those of the workers' settings hold\n"
    assert cli("limits", "show", "--json").document["not_called"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("http://e/v1", "m", "--max-in-flight", "0"), "--max-in-flight: must be a whole number"),
        (("http://e/v1", "m", "--max-in-flight=-1"), "--max-in-flight: must be a whole number"),
        (
            ("http://e/v1", "m", "--max-tokens-per-min", "many"),
            "--max-tokens-per-min: must be a whole number",
        ),
        (("http://e/v1", "m", "--max-requests-per-min", "9" * 30), "--max-requests-per-min: must be a whole"),
        (("http://e/v1", "m", "--max-in-flight", "\u0663"), "--max-in-flight: must be a whole number"),
        (("e/v1", "m", "--max-in-flight", "2"), "URL: must be an http"),
        (("http://e/v1", "", "--max-in-flight", "2"), "MODEL: must be the name"),
        (("http://e/v1", "m"), "name at least one of --max-in-flight, --max-requests-per-min"),
    ],
)
def test_bad_values_are_refused_by_the_name_of_the_argument(
    cli: Cli, shared: Store, arguments: tuple[str, ...], words: str
) -> None:
    done = cli("limits", "set", *arguments)
    assert done.code == 2
    assert words in done.err
    assert shared.limits.ceilings() == []
