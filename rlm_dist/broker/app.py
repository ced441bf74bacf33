"""The Celery application: queues, acknowledgement, serializer and worker command lines; no tasks."""

from __future__ import annotations

import sys
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

# Imported whole: both load their slow parts only when an attribute is first used.
import celery
import kombu

from rlm_dist.errors import SettingsError
from rlm_dist.schema import Priority, Role
from rlm_dist.settings import Settings

ROOT_TASK = ROOT_QUEUE = "rlm.root"
AGAIN_QUEUE = "rlm.root.again"
SUB_TASK = SUB_QUEUE = "rlm.sub"
# The age at which a message that a worker holds counts as lost; a live worker keeps renewing its own.
_VISIBILITY_S = 60
APPS = {Role.ROOT: "rlm_dist.root_worker.app", Role.SUB: "rlm_dist.sub_worker.app"}
# kombu names the lists of a queue by these numbers. The list of 0 has the name of the queue itself, so it is
# that of the normal priority: LLEN, and every tool that knows only names, then sees the jobs of most users.
_PRIORITIES: dict[Priority, int] = {"high": 3, "normal": 0, "low": 6}
_SUB_POOL = "rlm_dist.broker.pool:DeferredEndPool"
_LIST_SEPARATOR = "\x06\x16"  # kombu's


def make_app(settings: Settings, role: Role | None = None) -> celery.Celery:
    """Make the application of a worker of ``role``, or (None) of a process that only sends.

    Raises:
        SettingsError: if ``RLM_REDIS_URL`` is not set; a worker does not start an embedded server.
    """
    if settings.redis_url is None:
        raise SettingsError(("RLM_REDIS_URL: a worker needs the address of the Redis server",))
    app = celery.Celery("rlm_dist", broker=broker_url(settings.redis_url), set_as_current=False)
    app.conf.update(
        # The queues that a worker takes from without -Q; a queue that it only sends to is made on demand.
        task_queues=[queue(name) for name in _queues(settings, role)],
        task_default_queue=_queues(settings, role)[0],
        task_routes={ROOT_TASK: {"queue": ROOT_QUEUE}, SUB_TASK: {"queue": SUB_QUEUE}},
        task_serializer="json",
        event_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=role is Role.SUB,
        task_reject_on_worker_lost=False,
        worker_pool=_SUB_POOL if role is Role.SUB else "threads",
        worker_concurrency=settings.sub_concurrency if role is Role.SUB else settings.root_concurrency,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=role is Role.ROOT,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # Events of sub tasks cost a tenth of a sub worker's time; Flower turns them on while it runs.
        worker_send_task_events=role is Role.ROOT,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_publish_retry_policy={"max_retries": 120, "interval_start": 0.1, "interval_max": 2.0},
        broker_transport_options=_transport_options(settings, role),
    )
    return app


def root_queue(depth: int, *, again: bool = False) -> str:
    """The queue of the jobs of a depth; ``again`` is for those that have been through it, at depth 0."""
    if depth:
        return f"{ROOT_QUEUE}.{depth}"
    return AGAIN_QUEUE if again else ROOT_QUEUE


def root_queues(depth: int) -> tuple[str, ...]:
    """The queues from which a root worker of a depth takes jobs: of one, or all its slots could wait."""
    return (ROOT_QUEUE, AGAIN_QUEUE) if depth == 0 else (root_queue(depth),)


def _queues(settings: Settings, role: Role | None) -> tuple[str, ...]:
    if role is Role.SUB:
        return (SUB_QUEUE,)
    return root_queues(settings.root_depth if role is Role.ROOT else 0)


def broker_url(redis_url: str) -> str:
    """Kombu's form of a redis-py address; it spells UNIX sockets and TLS differently."""
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
    """The command line of a worker of ``role``; its application sets the right queue, pool and size.

    The worker imports modules from its current folder too, so this is to be one that nobody else can write.
    """
    return [
        *(sys.executable, "-P", "-m", "celery", "-A", APPS[role], "worker"),
        *(("-c", str(concurrency)) if concurrency else ()),
        *worker_options(settings, name or role),
    ]


def worker_options(settings: Settings, name: str) -> list[str]:
    """The options that every worker gets; ``name`` is the part of its name before the host."""
    return ["-n", f"{name}@%h", "-l", settings.log_level, "--without-gossip", "--without-mingle"]


def queue(name: str) -> kombu.Queue:
    """A queue bound under its own name; Celery would bind all queues under the name of the default one."""
    return kombu.Queue(name, kombu.Exchange(name, type="direct"), routing_key=name)


def priority_lists(name: str) -> dict[Priority, str]:
    """The Redis lists of a queue by priority, without ``RLM_BROKER_PREFIX``."""
    return {
        priority: f"{name}{_LIST_SEPARATOR}{step}" if step else name for priority, step in _PRIORITIES.items()
    }


def message_lists(prefix: str, max_depth: int = 1) -> dict[str, str]:
    """All Redis lists of messages with this ``RLM_BROKER_PREFIX``, by ``<queue>:<priority>``.

    Those of root workers are for jobs of less depth than ``max_depth``.
    """
    lists = {
        f"{name}:{priority}": f"{prefix}{key}"
        for depth in range(max_depth)
        for name in root_queues(depth)
        for priority, key in priority_lists(name).items()
    }
    return {**lists, f"{SUB_QUEUE}:normal": f"{prefix}{SUB_QUEUE}"}


def _transport_options(settings: Settings, role: Role | None) -> dict[str, object]:
    suffix = role or "client"
    return {
        "global_keyprefix": settings.broker_prefix,
        # A worker takes from the lists in this order (see kombu_fixes). Processes that only send use kombu's
        # own channel, which needs the numbers sorted.
        "priority_steps": list(_PRIORITIES.values()) if role else sorted(_PRIORITIES.values()),
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
