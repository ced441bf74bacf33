"""The sub worker: ``celery -A workers.sub worker``."""

from rlm_dist.celery_app import make_app
from rlm_dist.models import Role
from rlm_dist.tasks import add_sub_task
from rlm_dist.worker_start import worker_settings

settings = worker_settings(Role.SUB)
app = make_app(settings, Role.SUB)
add_sub_task(app, settings)
