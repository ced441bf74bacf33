"""The store while Redis is cut off, forgets scripts, restarts, fills up or refuses."""

import threading
from pathlib import Path

import pytest
import redis

from rlm_dist.errors import SettingsError, Unreachable
from rlm_dist.schema import JobState, Outcome
from rlm_dist.store import CallState, Store, connect
from tests.support.redis_servers import RedisServer, flavours, free_port, running, url_of
from tests.support.store_values import (
    LEASE_MS,
    at_once,
    counted,
    finish_job,
    opens,
    running_job,
    settlement,
    spec,
)

THREADS = 8
ROUNDS = 15


def test_a_server_that_forgot_the_scripts_is_told_again(store: Store, redis_admin: redis.Redis) -> None:
    epoch = running_job(store)
    redis_admin.script_flush()
    store.calls.open("j", epoch, opens("a"))
    redis_admin.script_flush()
    assert store.jobs.create([spec("k"), spec("l")]) == [True, True]
    redis_admin.script_flush()
    assert store.calls.settle("j", "sub-1", [settlement("a")]) == [True]


def test_a_server_that_forgets_a_script_again_and_again_is_told_until_it_runs(
    store: Store, redis_client: redis.Redis, redis_admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = Store(redis_client, retention_s=1000, patience_s=30)
    load, loaded = redis_client.script_load, []

    def load_and_forget(script: str) -> object:
        """Load a script, which the server has forgotten before it can be run; but for the third time."""
        loaded.append(load(script))
        if len(loaded) < 3:
            redis_admin.script_flush()
        return loaded[-1]

    redis_admin.script_flush()
    monkeypatch.setattr(redis_client, "script_load", load_and_forget)
    assert patient.workers.fair_window().workers == 0
    assert len(loaded) == 3


def test_sums_stay_exact_while_connections_are_cut(
    store: Store, redis_client: redis.Redis, each_redis_server: RedisServer
) -> None:
    """Each thread cuts all connections now and then, whatever the other threads do with theirs."""
    epoch = running_job(store)
    one_at_a_time = threading.Lock()
    killed = []

    def cut(killer: redis.Redis) -> None:
        with one_at_a_time:
            killed.append(killer.client_kill_filter(_type="normal", skipme=True))

    def work(number: int) -> int:
        with connect(each_redis_server.url, client_name="victim") as client:
            patient = Store(client, retention_s=1000, patience_s=30)
            won = 0
            for index in range(ROUNDS):
                name = f"{number}-{index}"
                (state,) = patient.calls.open("j", epoch, opens(name, nanousd=9))
                assert state in (CallState.NEW, CallState.PENDING)
                won += patient.calls.claim("j", [name], f"sub-{number}", LEASE_MS) == [f"request {name}"]
                assert patient.calls.settle("j", f"sub-{number}", [settlement(name, nanousd=3)]) == [True]
                patient.jobs.note_cache_hits("j", 1)
                patient.journals.append_events("j", [name])
                if index % 3 == number % 3:
                    cut(killer)
            return won

    with redis.Redis.from_url(each_redis_server.admin_url, client_name="killer") as killer:
        won = at_once(THREADS, work)
    calls, costs = THREADS * ROUNDS, store.jobs.costs("j")
    assert sum(killed) > THREADS
    assert sum(won) == costs.sub_llm_calls == costs.cache_hits == calls
    assert costs.duplicate_paid_calls == 0
    assert costs.total_cost == calls * 3 / 1e9
    assert len(store.journals.read_events("j")) == calls
    assert redis_client.hget("rlm:job:j:ledger", "reserved_nanousd") == "0"


def test_a_patient_store_outlives_a_restart(tmp_path: Path) -> None:
    binary, port = flavours()["valkey"], free_port()
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with connect(url_of(port), client_name="test") as client:
        store = Store(client, retention_s=1000, patience_s=30)
        with running(binary, tmp_path, *options, port=port):
            epoch = running_job(store)
            store.calls.open("j", epoch, opens("a"))
        settled: list[bool] = []
        settling = threading.Thread(
            target=lambda: settled.extend(store.calls.settle("j", "sub-1", [settlement("a")]))
        )
        settling.start()
        with running(binary, tmp_path, *options, port=port):
            settling.join(timeout=30)
            assert settled == [True]
            assert store.calls.answers("j", ["a"]) == ["result a"]
            assert finish_job(store, "j", epoch, Outcome(state=JobState.SUCCEEDED)) is True


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    url = f"redis://user:secret@127.0.0.1:{free_port()}/0"
    with connect(url, client_name="test") as client, pytest.raises(Unreachable) as caught:
        Store(client, retention_s=1000).jobs.get("j")
    text = str(caught.value)
    assert "Redis at 127.0.0.1:" in text
    assert "RLM_REDIS_URL" in text
    assert "secret" not in text


def test_a_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no.sock"
    with connect(f"unix://{path}?password=secret", client_name="test") as client:
        store = Store(client, retention_s=1000)
        with pytest.raises(Unreachable) as caught:
            store.jobs.create([spec()])
    assert str(path) in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_socket_with_a_password_works(tmp_path: Path) -> None:
    path = tmp_path / "r.sock"
    options = ("--unixsocket", str(path), "--requirepass", "secret")
    with running(flavours()["valkey"], tmp_path, *options, rules=False):
        for url in (f"unix://{path}?password=secret", f"unix://:secret@{path}"):
            with connect(url, client_name="named") as client:
                assert client.client_getname() == "named"
        with connect(f"unix://{path}?password=wrong", client_name="test") as client:
            store = Store(client, retention_s=1000)
            with pytest.raises(Unreachable, match="refuses the user name or password"):
                store.workers.fair_window()


def test_a_bad_address_is_a_bad_setting() -> None:
    with pytest.raises(SettingsError, match="RLM_REDIS_URL") as caught:
        connect("redis://:secret@host:port/0", client_name="test")
    assert "secret" not in str(caught.value)


def test_a_full_server_refuses_clearly_and_changes_nothing(store: Store, redis_admin: redis.Redis) -> None:
    redis_admin.config_set("maxmemory", 1)
    with pytest.raises(Unreachable, match="no memory left"):
        store.jobs.create([spec()])
    redis_admin.config_set("maxmemory", 0)
    assert list(redis_admin.scan_iter("rlm:*")) == []


def test_a_replica_refuses_clearly(tmp_path: Path) -> None:
    with (
        running(flavours()["valkey"], tmp_path, "--replicaof", f"127.0.0.1 {free_port()}") as server,
        connect(server.url, client_name="test") as client,
        pytest.raises(Unreachable, match="read-only"),
    ):
        Store(client, retention_s=1000).jobs.create([spec()])


def test_many_threads_share_one_client(store: Store) -> None:
    store.jobs.create([spec()])
    assert counted(at_once(150, lambda _: store.jobs.get("j").state), JobState.QUEUED) == 150
