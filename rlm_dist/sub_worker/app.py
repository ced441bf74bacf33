"""The sub worker's Celery application: ``celery -A rlm_dist.sub_worker.app worker``."""

from rlm_dist.broker.app import make_app
from rlm_dist.schema import Role
from rlm_dist.sub_worker.task import add_sub_task
from rlm_dist.worker.startup import worker_settings

settings = worker_settings(Role.SUB)
app = make_app(settings, Role.SUB)
add_sub_task(app, settings)
