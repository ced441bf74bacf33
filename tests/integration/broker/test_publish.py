"""Messages are built by hand for speed, and equal Celery's own; tools rely on their ids, stamps and lists."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import celery
import pytest
import redis

from rlm_dist.broker.app import (
    AGAIN_QUEUE,
    ROOT_QUEUE,
    ROOT_TASK,
    SUB_QUEUE,
    make_app,
    message_lists,
    priority_lists,
)
from rlm_dist.broker.kombu_fixes import repair_broker
from rlm_dist.broker.publish import SubTasks, queued, send_root, send_sub
from rlm_dist.broker.task_ids import job_of_root_task
from rlm_dist.otel.spans import HEADER
from rlm_dist.schema import JobSpec, Priority, Role
from rlm_dist.settings import Settings
from rlm_dist.store import Store, connect
from tests.support.store_values import spec


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the broker."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def app(redis_url: str) -> Iterator[celery.Celery]:
    """An application that only sends."""
    with make_app(Settings(redis_url=redis_url)) as app:
        yield app


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    """A store on the same server."""
    with connect(redis_url, client_name="test") as client:
        yield Store(client, retention_s=1000)


def with_priority(job_id: str, priority: Priority) -> JobSpec:
    """A job of this priority."""
    return spec(job_id).model_copy(update={"priority": priority})


def messages(client: redis.Redis, key: str) -> list[Any]:
    """The messages of a list as kombu writes them, the oldest first."""
    found = [json.loads(raw) for raw in reversed(client.lrange(key, 0, -1))]
    for message in found:
        message["body"] = json.loads(base64.b64decode(message["body"]))
        assert message["properties"].pop("delivery_tag")
    return found


def sent(client: redis.Redis, key: str) -> Any:
    """The one message of a list, without what is unused (for replies) or in its headers too."""
    (message,) = messages(client, key)
    for name in ("reply_to", "argsrepr", "kwargsrepr"):
        message["properties"].pop(name, None)
    return message


def headers(client: redis.Redis, key: str) -> list[dict[str, Any]]:
    """The headers of the messages of a list, the oldest first."""
    return [message["headers"] for message in messages(client, key)]


def test_a_message_is_that_of_celerys_send_task(app: celery.Celery, client: redis.Redis) -> None:
    app.send_task(
        ROOT_TASK, args=["j1"], task_id="j1", queue=ROOT_QUEUE, priority=0, ignore_result=True,
        argsrepr="job=j1", kwargsrepr="id=j1", shadow=ROOT_TASK, stamped_headers=["job"], job="j1",
    )  # fmt: skip
    expected = sent(client, ROOT_QUEUE)
    client.delete(ROOT_QUEUE)
    send_root(app, spec("j1"))
    message = sent(client, ROOT_QUEUE)
    assert message == expected
    assert message["properties"]["correlation_id"] == message["headers"]["id"] == "j1"
    send_root(app, spec("j1"), again=True)
    assert sent(client, AGAIN_QUEUE)["body"] == expected["body"]


def test_a_root_task_has_its_jobs_id_and_names_its_batch_and_its_line(
    app: celery.Celery, client: redis.Redis
) -> None:
    send_root(app, spec("j1", batch_id="nightly").model_copy(update={"custom_id": "q7"}))
    (header,) = headers(client, ROOT_QUEUE)
    assert (header["id"], header["root_id"], header["parent_id"]) == ("j1", "j1", None)
    assert header["shadow"] == "rlm.root nightly"
    assert header["kwargsrepr"] == "batch=nightly id=q7"
    assert sorted(header["stamped_headers"]) == ["batch", "job"]
    assert header["stamps"] == {"job": "j1", "batch": "nightly"}


def test_a_job_that_is_sent_again_has_another_task_id_that_names_it(
    app: celery.Celery, client: redis.Redis
) -> None:
    """Workers remember revoked task ids for hours: a job that is retried must not have such an id."""
    send_root(app, spec("j1"), again=True)
    send_root(app, spec("j1"), retried=True)
    ids = [headers(client, queue)[0]["id"] for queue in (AGAIN_QUEUE, ROOT_QUEUE)]
    assert len({"j1", *ids}) == 3
    assert [job_of_root_task(task_id) for task_id in ids] == ["j1", "j1"]


def test_sub_tasks_are_numbered_within_their_job_and_belong_to_its_root_task(
    app: celery.Celery, client: redis.Redis
) -> None:
    first = SubTasks(spec("j1", batch_id="nightly"), epoch=1, root_task_id="j1")
    send_sub(app, first, 0, [["a", "b"], ["c"]])
    send_sub(app, first, 1, [["a"]])
    send_sub(app, SubTasks(spec("j1"), epoch=2, root_task_id="j1.r17"), 1, [["c"]])
    found = headers(client, SUB_QUEUE)
    assert [header["id"] for header in found] == ["j1.1", "j1.2", "j1.3", "j1.2-1"]
    assert [header["root_id"] for header in found] == ["j1", "j1", "j1", "j1.r17"]
    assert [header["parent_id"] for header in found] == ["j1", "j1", "j1", "j1.r17"]
    assert [header["stamps"].get("job") for header in found] == ["j1"] * 4
    assert found[0]["stamps"]["batch"] == "nightly"
    assert (found[0]["shadow"], found[3]["shadow"]) == ("rlm.sub nightly", "rlm.sub")
    assert [job_of_root_task(header["id"]) for header in found] == [None] * 4


def test_a_sub_task_names_the_cell_that_asked_for_it_only_if_there_is_one(
    app: celery.Celery, client: redis.Redis
) -> None:
    tasks = SubTasks(spec("j1"), epoch=1, root_task_id="j1")
    send_sub(app, tasks, 0, [["a"]])
    send_sub(app, tasks, 0, [["b"], ["c"]], traceparent="00-1-2-01")
    assert [header.get(HEADER) for header in headers(client, SUB_QUEUE)] == [None, "00-1-2-01", "00-1-2-01"]


def test_the_list_of_a_queues_name_holds_the_jobs_of_normal_priority(
    app: celery.Celery, client: redis.Redis
) -> None:
    submitted: tuple[Priority, ...] = ("low", "normal", "high", "normal")
    send_root(app, *(with_priority(f"j{n}", priority) for n, priority in enumerate(submitted)))
    assert client.llen(ROOT_QUEUE) == 2
    lists = priority_lists(ROOT_QUEUE)
    assert {priority: client.llen(key) for priority, key in lists.items()} == {
        "high": 1,
        "normal": 2,
        "low": 1,
    }
    assert queued(app, ROOT_QUEUE) == [4]


def test_a_worker_takes_by_priority_then_by_age(redis_url: str, app: celery.Celery) -> None:
    submitted: tuple[Priority, ...] = ("low", "normal", "high", "low", "high", "normal")
    send_root(app, *(with_priority(f"j{n}", priority) for n, priority in enumerate(submitted)))
    repair_broker()
    with make_app(Settings(redis_url=redis_url), Role.ROOT) as worker, worker.connection() as link:
        queue = link.SimpleQueue(ROOT_QUEUE)
        taken = [queue.get(timeout=5) for _ in submitted]
        assert [message.headers["id"] for message in taken] == ["j2", "j4", "j1", "j5", "j0", "j3"]
        for message in taken:
            message.ack()
        queue.close()


def test_a_batch_that_is_cancelled_leaves_no_messages(
    app: celery.Celery, client: redis.Redis, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other batches' messages stay, in their order, wherever they are in the list."""
    monkeypatch.setattr("rlm_dist.store.batches._MESSAGES_AT_ONCE", 7)
    kept = []
    for batch in ("b1", "b2"):
        store.batches.create(batch, "digest")
    for n in range(60):
        name = f"j{n}"
        batch_id = "b1" if n % 3 or n in range(20, 40) else "b2"
        job = with_priority(name, "high" if n < 5 else "normal").model_copy(
            update={"batch_id": batch_id, "index": n, "custom_id": '"batch": "b1"'}
        )
        store.jobs.create([job])
        send_root(app, job)
        send_root(app, job, again=True)
        kept += [name] if batch_id == "b2" else []
    store.batches.cancel("b1", message_lists)
    high, normal = priority_lists(ROOT_QUEUE)["high"], ROOT_QUEUE
    assert [header["stamps"]["job"] for key in (high, normal) for header in headers(client, key)] == kept
    assert [
        header["stamps"]["job"] for header in headers(client, priority_lists(AGAIN_QUEUE)["high"])
    ] == kept[:2]
    store.batches.cancel("b2")
    assert len(headers(client, normal)) == len(kept) - 2


def test_messages_under_the_prefix_of_the_jobs_are_removed(
    client: redis.Redis, store: Store, redis_url: str
) -> None:
    store.batches.create("b1", "digest")
    job = spec("j1", batch_id="b1").model_copy(update={"broker_prefix": "rlm.mine."})
    store.jobs.create([job])
    with make_app(Settings(redis_url=redis_url, broker_prefix="rlm.mine.")) as app:
        send_root(app, job)
    assert client.llen(f"rlm.mine.{ROOT_QUEUE}") == 1
    store.batches.cancel("b1", message_lists)
    assert client.llen(f"rlm.mine.{ROOT_QUEUE}") == 0
