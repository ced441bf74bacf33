"""The root worker: ``celery -A workers.root worker -Q rlm.root -P prefork``."""

from rlm_dist.celery_app import make_app
from rlm_dist.models import Role
from rlm_dist.settings import load_settings
from rlm_dist.tasks import add_root_task

settings = load_settings()
app = make_app(settings, Role.ROOT)
add_root_task(app, settings)
