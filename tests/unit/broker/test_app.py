"""The settings of Celery that differ between the roles."""

import pytest

from rlm_dist.broker.app import make_app
from rlm_dist.schema import Role
from rlm_dist.settings import Settings

SETTINGS = Settings(redis_url="redis://127.0.0.1:1/0")


@pytest.mark.parametrize(("role", "kib"), [(Role.ROOT, 512 * 1024), (Role.SUB, None), (None, None)])
def test_only_a_pool_of_processes_has_a_bound_on_the_memory_of_one(
    role: Role | None, kib: int | None
) -> None:
    with make_app(SETTINGS, role) as app:
        assert app.conf.worker_max_memory_per_child == kib


@pytest.mark.parametrize("role", [None, *Role])
def test_a_task_that_fails_is_acknowledged_and_not_delivered_again(role: Role | None) -> None:
    with make_app(SETTINGS, role) as app:
        assert app.conf.task_acks_on_failure_or_timeout
        assert not app.conf.task_reject_on_worker_lost
