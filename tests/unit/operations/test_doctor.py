"""The doctor: each check is independent and says how to fix what failed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import fakeredis
import pytest

from rlm_dist.blobs.backends import RedisBackend
from rlm_dist.blobs.store import Blobs
from rlm_dist.cli.doctor import verdict
from rlm_dist.errors import BlobError, CallError, RLMError, Unreachable
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.local.open_files import OpenFiles
from rlm_dist.operations.doctor import Check, OpenStores, Probes, check_lines, check_open_files, examine
from rlm_dist.schema import CallResult, Completion, Usage
from rlm_dist.settings import Settings


class ServerInfo(fakeredis.FakeRedis):
    """A server whose ``INFO`` is what the test sets."""

    facts: dict[str, object]

    def info(self, *_: object, **__: object) -> dict[str, object]:
        return self.facts


def probes(
    *,
    facts: dict[str, object] | None = None,
    down: RLMError | None = None,
    blob_error: RLMError | None = None,
    endpoint_error: RLMError | None = None,
    models: list[str] | None = None,
    limits: Sequence[str] = (),
) -> Probes:
    @contextmanager
    def stores() -> Iterator[OpenStores]:
        if down is not None:
            raise down
        server = ServerInfo(decode_responses=True)
        server.facts = {
            "redis_version": "7.2.4",
            "aof_enabled": 1,
            "maxmemory_policy": "noeviction",
            **(facts or {}),
        }

        def blobs() -> Blobs:
            if blob_error is not None:
                raise blob_error
            return Blobs(RedisBackend(server, retention_s=60))

        yield OpenStores(server, blobs)

    def ask(endpoint: Endpoint) -> list[str]:
        if endpoint_error is not None:
            raise endpoint_error
        return models if models is not None else ["big", "small"]

    return Probes(stores=stores, models=ask, sandbox=lambda: "off", limits=lambda _: limits)


def examined(settings: Settings | None = None, **changes: object) -> dict[str, Check]:
    found = examine(settings or Settings(), probes(**changes))  # type: ignore[arg-type]  # each test gives its own fields
    return {check.name: check for check in found}


def test_the_program_of_the_embedded_server_is_named_and_no_other() -> None:
    facts = {"executable": "/usr/bin/redis-server"}
    here = examined(facts=facts)["redis"].detail
    assert here == "redis 7.2.4, append-only file on, run here from /usr/bin/redis-server"
    there = examined(Settings(redis_url="redis://redis.example/0"), facts=facts)["redis"].detail
    assert there == "redis 7.2.4, append-only file on"


def test_where_all_works_all_is_ok_and_the_missing_lockdown_is_told() -> None:
    checks = examined()
    assert {name: check.status for name, check in checks.items()} == {
        "redis": "ok",
        "workers": "ok",
        "blob store": "ok",
        "open files": "ok",
        "sandbox": "warning",
        "model endpoint": "ok",
        "versions": "ok",
    }
    assert checks["sandbox"].detail.startswith("isolation: none")
    assert checks["model endpoint"].detail == "http://localhost:8080/v1 serves big, small"
    assert verdict(list(checks.values())) == 0


def test_a_redis_that_is_down_hides_no_other_check() -> None:
    checks = examined(down=Unreachable("Redis", "localhost:6379", "refused", "Start it."))
    assert checks["redis"].detail == "localhost:6379 cannot be reached: refused"
    assert checks["redis"].hint == "Start it."
    assert checks["model endpoint"].status == "ok"
    assert verdict(list(checks.values())) == 5


@pytest.mark.parametrize(
    ("facts", "status", "words"),
    [
        ({"redis_version": "6.0.16"}, "failed", "6.2"),
        ({"maxmemory_policy": "allkeys-lru"}, "warning", "noeviction"),
        ({"aof_enabled": 0}, "warning", "appendonly"),
    ],
)
def test_an_unfit_redis_is_told_with_its_mend(facts: dict[str, object], status: str, words: str) -> None:
    check = examined(facts=facts)["redis"]
    assert check.status == status
    assert words in check.hint


def test_a_broken_blob_store_fails_and_redis_does_not() -> None:
    checks = examined(blob_error=BlobError("ab", "no space left"))
    assert checks["redis"].status == "ok"
    assert checks["blob store"].status == "failed"
    assert "RLM_BLOB_URL" in checks["blob store"].hint
    assert verdict(list(checks.values())) == 1


def test_a_refused_key_is_not_unreachable() -> None:
    checks = examined(endpoint_error=CallError("auth", "the key is refused"))
    assert checks["model endpoint"].hint == "Set RLM_API_KEY."
    assert verdict(list(checks.values())) == 1


def test_a_sub_endpoint_of_its_own_is_asked_too() -> None:
    checks = examined(Settings(sub_api_url="http://127.0.0.1:1/v1"), models=["a", "b", "c", "d", "e"])
    assert checks["sub model endpoint"].detail == "http://127.0.0.1:1/v1 serves a, b, c and 2 more"


def test_the_text_form_has_one_line_a_check_and_the_mend_below() -> None:
    checks = [
        Check(name="redis", status="ok", detail="valkey 9"),
        Check(name="blob store", status="failed", detail="full", hint="Make room."),
    ]
    assert list(check_lines(checks)) == [
        "redis       ok       valkey 9",
        "blob store  failed   full",
        "                     Make room.",
    ]


def test_what_workers_believe_of_endpoints_is_shown() -> None:
    line = "http://e/v1 m: endpoint away since 03:12, next try in 20 s"
    check = examined(limits=[line])["endpoint limits"]
    assert (check.status, check.detail) == ("warning", line)
    assert examined(limits=["http://e/v1 m: endpoint limit 40 (found)"])["endpoint limits"].status == "ok"


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        (Settings(), "ok"),
        (Settings(model="big", sub_model="small"), "ok"),
        (Settings(model="gone"), "warning"),
        (Settings(model="big", sub_model="gone"), "warning"),
    ],
)
def test_a_model_that_its_endpoint_does_not_list_is_told(settings: Settings, status: str) -> None:
    (check,) = [one for one in examine(settings, probes()) if one.name == "model endpoint"]
    assert check.status == status
    assert ("but not gone" in check.detail) is (status == "warning")


def test_each_model_is_called_once_if_that_is_wanted() -> None:
    called: list[str] = []

    def call(endpoint: Endpoint) -> CallResult:
        called.append(endpoint.url)
        if "9999" in endpoint.url:
            raise CallError("auth", "the key is refused")
        return CallResult(completion=Completion(text="yes", usage=Usage(), finish_reason="stop", model="big"))

    settings = Settings(sub_api_url="http://localhost:9999/v1")
    checks = {check.name: check for check in examine(settings, replace(probes(), call=call))}
    assert checks["model call"].detail == "big at http://localhost:8080/v1 answered in 0.0 s"
    assert (checks["sub model call"].status, checks["sub model call"].hint) == ("failed", "Set RLM_API_KEY.")
    assert called == ["http://localhost:8080/v1", "http://localhost:9999/v1"]
    assert list(examine(Settings(), replace(probes(), call=call)))
    assert called[2:] == ["http://localhost:8080/v1"]
    assert "model call" not in examined()


@pytest.mark.parametrize(("missing", "status"), [((), "ok"), ((2,), "failed")])
def test_depths_that_are_promised_have_workers(missing: tuple[int, ...], status: str) -> None:
    settings = Settings(max_depth=3)
    found = examine(settings, replace(probes(), missing_depths=lambda _: missing))
    checks = {check.name: check for check in found}
    assert checks["child jobs"].status == status
    assert ("rlm-dist worker root --depth 2" in checks["child jobs"].hint) == bool(missing)
    assert "child jobs" not in {check.name for check in examine(Settings(), probes())}


def test_too_few_open_files_for_the_slots_are_told() -> None:
    check = check_open_files(OpenFiles(needs=8448, soft=1024, hard=4096))
    assert check.status == "failed"
    assert "8,192 calls at once need 8,448 open files" in check.hint
    assert check_open_files(OpenFiles(needs=8448, soft=1024, hard=8448)).status == "ok"
