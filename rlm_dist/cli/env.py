"""``rlm-dist env``: the variables by which Celery's own commands find the cluster."""

import shlex

from rlm_dist.cli import options
from rlm_dist.cli.output import Output
from rlm_dist.errors import InputError
from rlm_dist.local.cluster import is_up, with_redis
from rlm_dist.settings import load_settings


def env(as_json: options.Json = False) -> None:
    """Print what Celery's own commands need: eval "$(rlm-dist env)". It has the password of Redis."""
    settings = load_settings()
    if settings.redis_url is None and not is_up(settings.home):
        raise InputError(("no cluster is up for this RLM_HOME; rlm-dist up starts one",))
    with with_redis(settings) as resolved:
        variables = {"RLM_HOME": str(resolved.home), "RLM_REDIS_URL": str(resolved.redis_url)}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    Output(as_json=as_json).result(variables, lambda: lines)
