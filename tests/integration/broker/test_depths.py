"""Jobs of each depth go to the queue of their depth, and workers of one depth listen to that alone."""

from celery import Celery

from rlm_dist.broker.app import make_app, message_lists
from rlm_dist.broker.publish import queued, send_root
from rlm_dist.schema import Role
from rlm_dist.settings import Settings
from rlm_dist.store import Store
from tests.support.store_values import LEASE_MS, spec


def root_app(redis_url: str, *, root_depth: int = 0, max_depth: int = 1) -> Celery:
    """The application of a root worker."""
    return make_app(Settings(redis_url=redis_url, root_depth=root_depth, max_depth=max_depth), Role.ROOT)


def test_a_job_goes_to_the_queue_of_its_depth_also_again(redis_url: str) -> None:
    jobs = [spec(f"j{depth}").model_copy(update={"depth": depth}) for depth in range(3)]
    with make_app(Settings(redis_url=redis_url)) as app:
        send_root(app, *jobs)
        send_root(app, *jobs, again=True)
        names = ("rlm.root", "rlm.root.again", "rlm.root.1", "rlm.root.2")
        assert queued(app, *names) == [1, 1, 2, 2]


def test_a_worker_listens_to_the_queues_of_one_depth(redis_url: str) -> None:
    def listens(**fields: int) -> list[str]:
        with root_app(redis_url, **fields) as app:
            return sorted(app.amqp.queues.consume_from)

    assert listens() == ["rlm.root", "rlm.root.again"]
    assert listens(max_depth=3) == ["rlm.root", "rlm.root.again"]
    assert listens(root_depth=2) == ["rlm.root.2"]


def test_the_backlog_has_the_queues_of_all_depths_that_are_served() -> None:
    names = {name.partition(":")[0] for name in message_lists("", 3)}
    assert names == {"rlm.root", "rlm.root.again", "rlm.root.1", "rlm.root.2", "rlm.sub"}


def test_a_depth_is_missing_until_a_worker_announces_it(store: Store) -> None:
    assert store.workers.missing_depths(1) == []
    assert store.workers.missing_depths(3) == [1, 2]
    store.workers.announce_slots("root-1", 1, LEASE_MS, role=Role.ROOT)
    store.workers.announce_slots("root-2", 1, LEASE_MS, role=Role.ROOT, depth=1)
    assert store.workers.missing_depths(3) == [2]
    assert store.workers.live(Role.ROOT) == ["root-1"]
    assert store.workers.live(Role.ROOT, 1) == ["root-2"]
