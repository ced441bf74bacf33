"""How many calls all processes together may make in one scope (an endpoint and model), and each one's share.

A process reports its calls in flight and those it wants, and gets a share, which it holds under a lease.
Within its share it starts and ends calls without asking Redis. ``lua/limits_share.lua`` deals out the shares,
``lua/prelude_limits_cuts.lua`` and ``prelude_limits_raises.lua`` find how many calls the endpoint takes, and
``lua/prelude_limits_circuit.lua`` stops the calls while the endpoint does not answer.
"""

from collections.abc import Mapping

from rlm_dist.schema.limits import Ceilings, Report, Scope, ScopeState, Share
from rlm_dist.store import keys
from rlm_dist.store.connection import StorePart


class LimitStore(StorePart):
    """The part of the store for the shared limits."""

    def share(self, scope: Scope, holder: str, report: Report, ceilings: Ceilings, lease_ms: int) -> Share:
        """Hand in the report of the process ``holder``; return what it may do now."""
        limits = (ceilings.in_flight, ceilings.requests_per_min, ceilings.tokens_per_min)
        allowed, epoch, blocked_ms, starts, wait_ms, away_ms, try_ms = self._script(
            "limits_share",
            keys.limit_keys(scope.id),
            *share_arguments(scope, holder, report, limits, lease_ms),
        )
        return share_of(allowed, epoch, blocked_ms, starts, wait_ms, away_ms, try_ms)

    def away_urls(self) -> set[str]:
        """The URLs of the endpoints that do not answer at present."""
        return set(self._reach(lambda: self._client.hvals(keys.AWAY)))

    def scopes(self) -> list[ScopeState]:
        """What the workers believe about each scope that they have called lately."""
        ids: list[str] = self._reach(lambda: self._client.zrange(keys.SCOPES, 0, -1))

        def read() -> list[dict[str, str]]:
            pipe = self._client.pipeline(transaction=False)
            for scope_id in ids:
                for key in keys.limit_keys(scope_id)[:2]:
                    pipe.hgetall(key)
            return list(pipe.execute())

        now_ms = self._now_ms()
        hashes = self._reach(read) if ids else []
        states = [
            _state(fields, holders, now_ms)
            for fields, holders in zip(hashes[::2], hashes[1::2], strict=True)
            if fields
        ]
        return sorted(states, key=lambda state: (state.url, state.model))


def share_arguments(
    scope: Scope, holder: str, report: Report, limits: tuple[int | None, ...], lease_ms: int
) -> list[str | int]:
    """The arguments of ``lua/limits_share.lua``."""
    return [
        *(scope.id, scope.url, scope.model, holder, lease_ms),
        *("" if limit is None else limit for limit in limits),
        *(report.number, report.in_flight, report.wanted, report.waiting),
        *(report.epoch, report.started, report.refused, report.answered, report.late),
        *(round(report.retry_after_s * 1000), report.ended, round(report.blocked_s * 1000)),
        *(int(report.heard), round(report.failing_s * 1000), report.extra_tokens),
        *report.waiting_tokens,
    ]


def share_of(
    allowed: int, epoch: int, blocked_ms: int, starts: int, wait_ms: int, away_ms: int, try_ms: int
) -> Share:
    """The share that ``lua/limits_share.lua`` returned."""
    return Share(
        in_flight=allowed,
        epoch=epoch,
        blocked_s=blocked_ms / 1000,
        starts=None if starts < 0 else starts,
        wait_s=wait_ms / 1000,
        away_s=away_ms / 1000,
        try_s=try_ms / 1000,
    )


def _state(fields: Mapping[str, str], holders: Mapping[str, str], now_ms: int) -> ScopeState:
    live = [columns for text in holders.values() if int((columns := text.split())[1]) > now_ms]
    numbers = {name: float(value) for name, value in fields.items() if name not in ("url", "model")}
    # Estimate the last 60 s from the counts of the stored minute and the end of the minute before it.
    age = now_ms / 60_000 - numbers.get("minute", 0)
    now_part, before_part = (1.0, 1 - age) if age < 1 else (max(0.0, 2 - age), 0.0)
    ended = now_part * numbers.get("ended", 0) + before_part * numbers.get("before", 0)
    refused = now_part * numbers.get("ended_refused", 0) + before_part * numbers.get("before_refused", 0)
    away_ms = int(numbers.get("away_ms", 0))
    return ScopeState(
        url=fields["url"],
        model=fields["model"],
        limit=int(numbers["cap"]),
        found=numbers.get("epoch", 0) > 0,
        in_flight=sum(int(columns[2]) for columns in live),
        waiting=sum(int(columns[6]) for columns in live),
        ended_last_minute=round(ended),
        refused_last_minute=round(refused),
        blocked_s=max(0.0, (numbers.get("blocked_ms", 0) - now_ms) / 1000),
        away_since_ms=away_ms or None,
        next_try_s=max(0.0, (numbers.get("next_ms", 0) - now_ms) / 1000) if away_ms else 0.0,
    )
