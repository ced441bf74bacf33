"""The sub worker: ``celery -A workers.sub worker -Q rlm.sub -P threads``."""

from rlm_dist.celery_app import make_app
from rlm_dist.models import Role
from rlm_dist.settings import load_settings
from rlm_dist.tasks import add_sub_task

settings = load_settings()
app = make_app(settings, Role.SUB)
add_sub_task(app, settings)
