"""The role of a caller in a call whose result several jobs share."""

from enum import StrEnum


class CacheRole(StrEnum):
    """Who makes a call that is not in the cache: this caller, or another one for which it waits."""

    LEADER = "lead"
    FOLLOWER = "wait"
