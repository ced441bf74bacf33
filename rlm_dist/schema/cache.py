"""The part of a caller in a call that several jobs may share."""

from enum import StrEnum


class CacheRole(StrEnum):
    """Who makes a call that is not in the cache: the caller, or another one, for whom it waits."""

    LEADER = "lead"
    FOLLOWER = "wait"
