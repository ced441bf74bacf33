"""The root worker's Celery application: ``celery -A rlm_dist.root_worker.app worker``."""

from rlm_dist.broker.app import make_app
from rlm_dist.root_worker.task import add_root_task
from rlm_dist.schema import Role
from rlm_dist.worker.startup import worker_settings

settings = worker_settings(Role.ROOT)
app = make_app(settings, Role.ROOT)
add_root_task(app, settings)
