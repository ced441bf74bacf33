"""The Celery application: queues, acknowledgement, serializer and worker command lines; no tasks.

Roots and subs have queues and processes of their own, so that a root which waits for its sub-calls can
never keep them from running. Celery's result back end is not used: the store has what
a call or a job came to.

* ``rlm.root``: prefork, acknowledged when started, one message taken at a time. A lost worker's job is found
  by its lapsed lease, not by the broker. Jobs that were taken up before are sent to ``rlm.root.again``, which
  gets every other free process, so that they do not wait behind all that is queued.
* ``rlm.sub``: threads, acknowledged when done, prefetch 1. A redelivered message finds its calls settled or
  leased and does nothing.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

# Both load a part of themselves when it is first named, which takes long: not before it is used.
import celery
import kombu

from rlm_dist.errors import SettingsError
from rlm_dist.models import JobSpec, Priority, Role
from rlm_dist.settings import Settings

ROOT_TASK = ROOT_QUEUE = "rlm.root"
AGAIN_QUEUE = "rlm.root.again"
SUB_TASK = SUB_QUEUE = "rlm.sub"

# How old a message in a worker's hands may be before it counts as lost; workers keep theirs young.
_VISIBILITY_S = 60
_APPS = {Role.ROOT: "workers.root", Role.SUB: "workers.sub"}
# By which kombu names the lists of a queue; the lowest number is taken first.
_PRIORITIES: dict[Priority, int] = {"high": 0, "normal": 3, "low": 6}
_QUEUES = {Role.ROOT: (ROOT_QUEUE, AGAIN_QUEUE), Role.SUB: (SUB_QUEUE,)}


def make_app(settings: Settings, role: Role | None = None) -> celery.Celery:
    """Make the application of a worker of ``role``, or (None) of a process that only sends.

    Raises:
        SettingsError: where no ``RLM_REDIS_URL`` is set; a worker has no embedded server of its own.
    """
    if settings.redis_url is None:
        raise SettingsError(("RLM_REDIS_URL: a worker needs the address of the Redis server",))
    app = celery.Celery("rlm_dist", broker=broker_url(settings.redis_url), set_as_current=False)
    app.conf.update(
        # What a worker takes from without -Q; the queue that it only sends to is made when it is needed.
        task_queues=[queue(name) for name in _QUEUES[role or Role.ROOT]],
        task_default_queue=_QUEUES[role or Role.ROOT][0],
        task_routes={ROOT_TASK: {"queue": ROOT_QUEUE}, SUB_TASK: {"queue": SUB_QUEUE}},
        task_serializer="json",
        event_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=role is Role.SUB,
        task_reject_on_worker_lost=False,
        worker_pool="threads" if role is Role.SUB else "prefork",
        worker_concurrency=settings.sub_concurrency if role is Role.SUB else settings.root_concurrency,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=role is Role.ROOT,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # Events of sub tasks cost a tenth of a sub worker's time: Flower turns them on where it runs.
        worker_send_task_events=role is Role.ROOT,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_publish_retry_policy={"max_retries": 120, "interval_start": 0.1, "interval_max": 2.0},
        broker_transport_options=_transport_options(settings, role),
    )
    return app


def broker_url(redis_url: str) -> str:
    """Kombu's form of a redis-py address: UNIX sockets and TLS are spelled differently there."""
    parts = urlsplit(redis_url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "unix":
        query["virtual_host"] = query.pop("db", "0")
        return f"redis+socket://{parts.netloc}{parts.path}?{urlencode(query)}"
    if parts.scheme == "rediss":
        query.setdefault("ssl_cert_reqs", "required")
        return urlunsplit(parts._replace(query=urlencode(query)))
    return redis_url


def worker_argv(
    role: Role, settings: Settings, *, concurrency: int | None = None, name: str | None = None
) -> list[str]:
    """The command line of a worker of ``role``; its application knows the right queue, pool and size."""
    return [
        *(sys.executable, "-m", "celery", "-A", _APPS[role], "worker"),
        *(("-c", str(concurrency)) if concurrency else ()),
        *("-n", f"{name or role}@%h", "-l", settings.log_level),
        *("--without-gossip", "--without-mingle"),
    ]


def send_root(app: celery.Celery, *specs: JobSpec, again: bool = False) -> None:
    """Put jobs on a queue of the root workers, each at its priority; sending one twice does no harm.

    ``again`` is for jobs that had their turn in the queue before.
    """
    with app.producer_pool.acquire(block=True) as producer, producer.batch():  # type: ignore[attr-defined]  # newer than the stubs
        publish = _publisher(app, producer, ROOT_TASK, AGAIN_QUEUE if again else ROOT_QUEUE)
        for spec in specs:
            publish([spec.id], f"job={spec.id}", "{}", _PRIORITIES[spec.priority])


def send_sub(app: celery.Celery, job_id: str, turn: int, chunks: Sequence[Sequence[str]]) -> None:
    """Put calls of a job on the queue of the sub workers, each chunk as one task.

    Raises:
        kombu.exceptions.OperationalError, redis.RedisError: where the broker cannot be reached.
    """
    with app.producer_pool.acquire(block=True) as producer:
        publish = _publisher(app, producer, SUB_TASK, SUB_QUEUE)

        def publish_all() -> None:
            for chunk in chunks:
                calls = f"calls={len(chunk)} first={chunk[0]}"
                publish([job_id, list(chunk)], f"job={job_id} turn={turn}", calls, 0)

        uncertain: type[Exception] = kombu.exceptions.BatchPublishError  # type: ignore[attr-defined]  # newer than the stubs
        try:
            with producer.batch():  # type: ignore[attr-defined]  # newer than the stubs
                publish_all()
        except uncertain:  # nobody knows how many went out; to send one twice does no harm
            publish_all()


def _publisher(
    app: celery.Celery, producer: kombu.Producer, task: str, queue_name: str
) -> Callable[[list[Any], str, str, int], None]:
    """A function that sends one task: its arguments, what Flower shows of them (two texts), its priority.

    The messages are those of ``send_task``, which takes three times as long for each: it finds the route and
    declares the queue again and again.
    """
    make: Any = app.amqp.create_task_message  # unknown to the stubs
    # The same for all messages; Celery and kombu would look them up for each.
    common = {"kwargs": {}, "ignore_result": True, "origin": f"gen{os.getpid()}@{socket.gethostname()}"}
    serializer = app.conf.task_serializer

    def publish(args: list[Any], argsrepr: str, kwargsrepr: str, priority: int) -> None:
        message = make(kombu.uuid(), task, args=args, argsrepr=argsrepr, kwargsrepr=kwargsrepr, **common)
        producer.publish(
            message.body,
            exchange="",
            routing_key=queue_name,
            serializer=serializer,
            headers=message.headers,
            priority=priority,
            **message.properties,
        )

    return publish


def queued(app: celery.Celery, *queues: str) -> list[int]:
    """How many messages wait in each of these queues."""
    with app.producer_pool.acquire(block=True) as producer:
        channel: Any = producer.channel  # the stubs know no declaring by a channel
        return [int(channel.queue_declare(name).message_count) for name in queues]


def queue(name: str) -> kombu.Queue:
    """A queue bound under its own name; Celery would bind all of them to the default one's."""
    return kombu.Queue(name, kombu.Exchange(name, type="direct"), routing_key=name)


def _transport_options(settings: Settings, role: Role | None) -> dict[str, object]:
    suffix = role or "client"
    return {
        "global_keyprefix": settings.broker_prefix,
        "priority_steps": list(_PRIORITIES.values()),
        "socket_timeout": 30.0,
        "socket_connect_timeout": 5.0,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "client_name": f"rlm-{suffix}-broker",
        # The shortest visibility timeout among the users of one unacked key wins, so each role has its own.
        "unacked_key": f"rlm.unacked.{suffix}",
        "unacked_index_key": f"rlm.unacked_index.{suffix}",
        "unacked_mutex_key": f"rlm.unacked_mutex.{suffix}",
        "visibility_timeout": _VISIBILITY_S,
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 5,
    }
