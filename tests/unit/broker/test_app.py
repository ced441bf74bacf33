"""The settings of Celery that differ between the roles."""

import pytest

from rlm_dist.broker.app import make_app
from rlm_dist.schema import Role
from rlm_dist.settings import Settings

SETTINGS = Settings(redis_url="redis://127.0.0.1:1/0")


def test_a_root_worker_holds_no_message_without_a_free_slot_and_acknowledges_at_once() -> None:
    with make_app(SETTINGS, Role.ROOT) as app:
        assert app.conf.worker_disable_prefetch
        assert not app.conf.task_acks_late


@pytest.mark.parametrize("role", [None, *Role])
def test_a_task_that_fails_is_acknowledged_and_not_delivered_again(role: Role | None) -> None:
    with make_app(SETTINGS, role) as app:
        assert app.conf.task_acks_on_failure_or_timeout
        assert not app.conf.task_reject_on_worker_lost
