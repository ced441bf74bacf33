"""A small model on this machine (extra ``local``); may import what ``local`` may."""

from rlm_dist.local.model.catalogue import DEFAULT, MODELS, Model
from rlm_dist.local.model.endpoint import SLOT_TOKENS, SLOTS, LocalEndpoint, local_endpoint, serve
from rlm_dist.local.model.pull import pull, weights

__all__ = [
    "DEFAULT",
    "MODELS",
    "SLOTS",
    "SLOT_TOKENS",
    "LocalEndpoint",
    "Model",
    "local_endpoint",
    "pull",
    "serve",
    "weights",
]
