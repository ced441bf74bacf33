"""Sessions in the store; the tests play the workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from rlm_dist.client.client import Client
from rlm_dist.contexts.cache import ContextCache
from rlm_dist.contexts.encoding import encode
from rlm_dist.errors import InputError, NotFound
from rlm_dist.schema import session_job_id
from rlm_dist.settings import Settings
from rlm_dist.store import connect, keys
from tests.support.played_jobs import answered, play

RETENTION_S = 1000


@pytest.fixture
def server(redis_url: str, admin_url: str) -> Iterator[redis.Redis]:
    with connect(admin_url, client_name="test") as server:
        yield server


@pytest.fixture
def client(server: redis.Redis, redis_url: str, tmp_path: Path) -> Iterator[Client]:
    settings = Settings(redis_url=redis_url, home=tmp_path, blob_url="redis", retention_s=RETENTION_S)
    with Client(settings) as client:
        yield client


def test_each_query_is_a_job_that_names_its_place(client: Client) -> None:
    with client.session("text", model="m", max_usd=1.5) as session:
        first = session.submit("One?")
        play(client.store, first.id, answered("1"))
        session.add("a.txt", "added")
        second = session.submit("Two?", max_iterations=3)
    place = second.record().spec.session
    assert place is not None
    assert (place.id, place.position, place.earlier_jobs) == (session.id, 1, [first.id])
    assert [(file.name, file.context.info.chars) for file in place.added] == [("a.txt", 5)]
    assert place.options == {"model": "m", "max_usd": "1.5"}
    assert first.record().spec.context == second.record().spec.context
    specs = [job.record().spec for job in session.jobs()]
    assert [spec.limits.max_iterations for spec in specs] == [20, 3]
    assert [spec.limits.max_nanousd for spec in specs] == [1_500_000_000] * 2


def test_a_query_waits_for_the_one_before(client: Client) -> None:
    session = client.session("text")
    first = session.submit("One?")
    with pytest.raises(InputError, match="its query 1 has not ended yet"):
        session.submit("Two?")
    with pytest.raises(TimeoutError):
        session.ask("Two?", timeout=0.01)
    assert client.reopen_session(session.id).jobs()[0].id == first.id
    play(client.store, first.id, answered("1"))
    assert session.submit("Two?").id == session_job_id(session.id, 1)


def test_of_two_who_ask_at_once_one_is_refused(client: Client) -> None:
    session = client.session("text")
    play(client.store, session.submit("One?").id, answered("1"))
    other = client.reopen_session(session.id)
    other.submit("Two?")
    with pytest.raises(InputError, match="another process has asked meanwhile"):
        session.submit("Another two?")


def test_a_closed_session_takes_nothing_here(client: Client) -> None:
    with client.session("text") as session:
        pass
    for use in (lambda: session.submit("One?"), lambda: session.add("a", "b")):
        with pytest.raises(InputError, match="it was closed here"):
            use()
    with pytest.raises(NotFound, match=f"no such session: {session.id}"):
        client.reopen_session(session.id)  # it had no query


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 201])
def test_a_bad_name_is_refused(client: Client, name: str) -> None:
    with pytest.raises(InputError, match="name: must be one line"):
        client.session("text").add(name, "value")


def test_added_contexts_are_numbered_after_the_first_ones(client: Client, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    session = client.session(["one", "two"])
    assert [session.add("list", ["x"]), session.add_file(tmp_path / "a.txt")] == ["context_1", "context_2"]


def test_a_query_restarts_the_retention_of_the_earlier_ones(client: Client, server: redis.Redis) -> None:
    session = client.session("the context")
    session.add("a.txt", "added")
    first = session.submit("One?")
    play(client.store, first.id, answered("1"))
    own_keys = list(server.scan_iter(f"{keys.job(first.id)}*"))
    blobs = [str(blob) for blob in server.smembers(keys.job(first.id, "blobs"))]
    assert len(blobs) == 2
    for key in (*own_keys, *blobs, *(f"{blob}:users" for blob in blobs)):
        server.expire(key, 10)
    session.submit("Two?")
    assert all(server.ttl(key) > RETENTION_S - 100 for key in own_keys)
    assert [server.ttl(blob) for blob in blobs] == [-1, -1]  # the second query uses them
    assert all(server.zscore(f"{blob}:users", first.id) for blob in blobs)


def test_a_session_whose_retention_is_over_is_named(client: Client, server: redis.Redis) -> None:
    session = client.session("text")
    first = session.submit("One?")
    play(client.store, first.id, answered("1"))
    server.delete(keys.job(first.id))
    for use in (lambda: session.submit("Two?"), lambda: client.reopen_session(session.id)):
        with pytest.raises(NotFound, match=f"no such session: {session.id}"):
            use()


def test_the_contexts_of_a_session_are_one_file_for_its_repl(client: Client, tmp_path: Path) -> None:
    refs = [client.store_encoded(encode(value)) for value in ("first", ["a", "b"])]
    cache = ContextCache(tmp_path / "contexts", client.blobs)
    with cache.hold(*refs) as path:
        assert path.read_bytes() == b"".join(piece for ref in refs for piece in client.blobs.read(ref.sha256))
        assert path.name not in {ref.sha256 for ref in refs}
    with cache.hold(refs[0]) as path:
        assert path.name == refs[0].sha256


def test_options_whose_work_could_not_be_run_again_are_refused(client: Client) -> None:
    session = client.session("text")
    with pytest.raises(InputError) as refused:
        session.submit("q", max_depth=2, samples=3, tools=["lookup"])
    named = [problem.partition(":")[0] for problem in refused.value.problems]
    assert named == ["max_depth", "samples", "tools"]
