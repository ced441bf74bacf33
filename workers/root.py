"""The root worker: ``celery -A workers.root worker``."""

from rlm_dist.celery_app import make_app
from rlm_dist.models import Role
from rlm_dist.tasks import add_root_task
from rlm_dist.worker_start import worker_settings

settings = worker_settings(Role.ROOT)
app = make_app(settings, Role.ROOT)
add_root_task(app, settings)
