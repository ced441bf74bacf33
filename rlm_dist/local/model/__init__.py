"""A small model on this machine, for a first run and for tests without an endpoint (extra ``local``)."""

from rlm_dist.local.model.catalogue import DEFAULT, MODELS, Model
from rlm_dist.local.model.endpoint import LocalEndpoint, local_endpoint, serve
from rlm_dist.local.model.pull import pull, weights

__all__ = ["DEFAULT", "MODELS", "LocalEndpoint", "Model", "local_endpoint", "pull", "serve", "weights"]
