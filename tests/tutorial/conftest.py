"""One cluster for the whole tour: an embedded Valkey, a root and a sub worker, a simulated endpoint."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rlm_dist import Settings
from rlm_dist.local.cluster import hold_up, with_redis, workers
from rlm_dist.schema import Message
from rlm_dist.simulated import Fault, SimulatedEndpoint, scripts

_DRAFT = """```repl
answer["content"] = "The first half."
answer["content"] += llm_query("And the second?") + llm_query("And the third?")
answer["ready"] = True
```"""

_TYPED = [
    f"```repl\nFINAL({{'name': 'Queequeg', 'quotes': [{quote!r}]}})\n```"
    for quote in ("Queequeg is my friend.", "My friend is Queequeg.")
]


def root_model(messages: Sequence[Message]) -> str:
    """Answer as the scripted model does, but write a draft before the sub-calls if asked for a summary."""
    if "JSON Schema" in messages[1].content:
        return _TYPED["Not in the context" in messages[-1].content]
    return _DRAFT if "Summarise" in scripts.query_text(messages) else scripts.reply(messages)


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Run what ``rlm-dist up`` runs, until the last test of the tour has ended."""
    home = tmp_path_factory.mktemp("tutorial")
    prices = home / "prices.json"
    prices.write_text('{"*": {"input": 1, "output": 4}}')
    silence = Fault(kind="hang", contains="a secret that nobody tells")
    with SimulatedEndpoint(root=root_model, faults=[silence]) as endpoint:
        settings = Settings(api_url=endpoint.url, home=home / "data", prices=prices, root_concurrency=2)
        with hold_up(settings.home), with_redis(settings) as resolved, workers(resolved, roots=1, subs=1):
            yield settings


@pytest.fixture(autouse=True)
def environment(cluster: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that a user would export, and start in an empty folder."""
    monkeypatch.delenv("RLM_REDIS_URL", raising=False)
    for name, value in cluster.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
