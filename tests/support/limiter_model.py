"""A discrete-event model of endpoints and of the processes that call them through the shared limiter.

The endpoint, the network and the clock are modelled. The code that runs is ours: ``permits.Permits`` in each
process, and the Lua scripts of the store over a table that plays Redis. Nothing waits, and nothing depends on
the machine: the same seed gives the same counts.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import lupa.lua51  # type: ignore[import-untyped]  # it ships no types

from rlm_dist.llm.permits import AttemptEnd, Permit, Permits, Waiter
from rlm_dist.schema.limits import Report, Scope, Share
from rlm_dist.store.keys import CEILINGS, limit_keys
from rlm_dist.store.limits import share_arguments, share_of
from rlm_dist.store.scripts import source

SCOPE = Scope("http://e/v1", "m")
LEASE_S = 10.0
_TRIP_S = 0.002
_REFUSAL_S = 0.005

_REDIS = """
local keys, now_ms, written = {}, 0, 0
local function hash(key) keys[key] = keys[key] or {}; return keys[key] end
local commands = {
  TIME = function() return {math.floor(now_ms / 1000), (now_ms % 1000) * 1000} end,
  HGETALL = function(key)
    local flat = {}
    for field, value in pairs(hash(key)) do flat[#flat + 1] = field; flat[#flat + 1] = value end
    return flat
  end,
  HGET = function(key, field) return hash(key)[field] or false end,
  HKEYS = function(key)
    local names = {}
    for field in pairs(hash(key)) do names[#names + 1] = field end
    return names
  end,
  HSET = function(key, ...)
    local pairs_of = {...}
    for index = 1, #pairs_of, 2 do hash(key)[pairs_of[index]] = tostring(pairs_of[index + 1]) end
  end,
  HDEL = function(key, field) hash(key)[field] = nil end,
  ZADD = function(key, score, member) hash(key)[member] = tostring(score) end,
  ZSCORE = function(key, member) return hash(key)[member] or false end,
  ZREMRANGEBYSCORE = function() end,
  PEXPIRE = function() end,
  PTTL = function() return -1 end,
}
redis = {call = function(name, ...) return commands[name](...) end}
function run(script, at_ms, keys_, arguments)
  now_ms = math.floor(at_ms)
  KEYS, ARGV = {}, {}
  for index = 1, #keys_ do KEYS[index] = keys_[index] end
  for index = 1, #arguments do ARGV[index] = tostring(arguments[index]) end
  return script()
end
function fields(key) return hash(key) end
"""


class StoreModel:
    """The store's part of the limiter: the script itself, in a Lua interpreter in this process."""

    def __init__(self) -> None:
        self._lua = lupa.lua51.LuaRuntime()
        self._lua.execute(_REDIS)
        self._script = self._lua.eval(f"function() {source('limits_share')} end")
        self._run = self._lua.globals().run

    def set_ceilings(self, text: str | None) -> None:
        """Set ceilings as an operator does (in flight, requests and tokens a minute), or take them back."""
        ceilings = self._lua.globals().fields(CEILINGS)
        ceilings[SCOPE.id] = None if text is None else f"{text} {SCOPE.url} {SCOPE.model}"

    def share(self, now: float, holder: str, report: Report) -> Share:
        """What the store answers to a report at this time."""
        arguments = share_arguments(SCOPE, holder, report, (None, None, None), round(LEASE_S * 1000))
        to_table = self._lua.table_from
        keys = to_table(limit_keys(SCOPE.id))
        reply = self._run(self._script, 1_000_000_000 + now * 1000, keys, to_table(arguments))
        *numbers, turn, ceilings = reply.values()
        return share_of(*[*map(int, numbers), turn, ceilings])

    def number(self, name: str) -> float:
        """A field of the scope."""
        return float(self._lua.globals().fields(limit_keys(SCOPE.id)[0])[name] or 0)


@dataclass
class EndpointModel:
    """An endpoint that answers in about ``latency_s``.

    It refuses a share ``noise`` of all calls; calls above ``capacity`` at once; those above ``rate`` a second
    with ``burst`` at once; all until ``blocked_until``. It does not answer at all during ``away``.
    """

    latency_s: float
    noise: float = 0.0
    capacity: Callable[[float], float] | None = None
    rate: float | None = None
    burst: float = 20.0
    retry_after_s: float = 1.0
    jitter: float = 0.2
    blocked: tuple[float, float] = (0.0, 0.0)
    away: tuple[float, float] = (0.0, 0.0)
    in_flight: int = 0
    _tokens: float = field(default=0.0, init=False)
    _at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def takes(self, now: float, draw: random.Random) -> bool:
        """Whether the endpoint takes a call that arrives now."""
        if self.rate is not None:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
            self._at = now
        if draw.random() < self.noise or self.blocked[0] <= now < self.blocked[1]:
            return False
        if self.capacity is not None and self.in_flight >= self.capacity(now):
            return False
        if self.rate is not None:
            if self._tokens < 1:
                return False
            self._tokens -= 1
        self.in_flight += 1
        return True

    def answer_s(self, draw: random.Random) -> float:
        """The time that an answer takes."""
        return self.latency_s * (1 + self.jitter * (draw.random() - 0.5))


@dataclass
class Seen:
    """The result of a run; ``answers`` are the times of the answers, ``starts`` those of all requests."""

    seconds: float = 0.0
    answers: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    refused: int = 0
    failed: list[str] = field(default_factory=list)
    given_back: int = 0

    @property
    def refused_share(self) -> float:
        """The share of refused requests among all requests."""
        return self.refused / max(1, len(self.starts))

    def rate(self, begin: float, end: float) -> float:
        """Answers a second between two times."""
        return sum(begin <= at < end for at in self.answers) / (end - begin)


class Process:
    """A process with a number of slots that takes calls from the common supply."""

    def __init__(self, world: "World", name: str, slots: int) -> None:
        self._world = world
        self._name = name
        self._free = slots
        self._due = float("inf")
        self.dead = False
        self.permits = Permits(lambda: world.now, lease_s=LEASE_S)

    def take_calls(self) -> None:
        """Start calls while there are free slots and calls."""
        while not self.dead and self._free and self._world.take():
            self._free -= 1
            self.call()

    def call(self) -> None:
        """Make one attempt of a call that has a slot."""
        permit = self.permits.acquire(1)
        if permit is not None:
            self._send(permit)
        else:
            self.permits.wait(
                Waiter(
                    job_id="j", tokens=1, since=self._world.now, deadline=1e9, elsewhere=False,
                    start=self._send, fail=lambda error: self._world.seen.failed.append(str(error)),
                )
            )  # fmt: skip
        self.look()

    def look(self) -> None:
        """Schedule a report for when it is due."""
        due = self.permits.report_due()
        if due < self._due:
            self._due = due
            self._world.at(max(due, self._world.now), lambda: self._report(due))

    def _report(self, due: float) -> None:
        if due != self._due or self.dead:
            return
        self._due = float("inf")
        if self.permits.report_due() > self._world.now:
            self.look()
            return
        began, report = self._world.now, self.permits.report()

        def arrive() -> None:
            share = self._world.store.share(self._world.now, self._name, report)
            self._world.after(_TRIP_S / 2, lambda: self._take(share, began))

        self._world.after(_TRIP_S / 2, arrive)

    def _take(self, share: Share, began: float) -> None:
        if not self.dead:
            self.permits.take(share, began)
            self.look()

    def _send(self, permit: Permit) -> None:
        world = self._world
        world.seen.starts.append(world.now)
        if world.endpoint.away[0] <= world.now < world.endpoint.away[1]:
            world.after(_REFUSAL_S, lambda: self._unheard(permit))
        elif world.endpoint.takes(world.now, world.draw):
            world.after(world.endpoint.answer_s(world.draw), lambda: self._answered(permit))
        else:
            world.after(_REFUSAL_S, lambda: self._refused(permit))

    def _answered(self, permit: Permit) -> None:
        self._world.endpoint.in_flight -= 1
        if self.dead:
            return
        self._world.seen.answers.append(self._world.now)
        self.permits.release(permit, AttemptEnd.ANSWERED)
        self._free += 1
        self.take_calls()
        self.look()

    def _refused(self, permit: Permit) -> None:
        if self.dead:
            return
        self._world.seen.refused += 1
        told_s = self._world.endpoint.retry_after_s
        if self._world.endpoint.blocked[1] > self._world.now:
            told_s = max(told_s, self._world.endpoint.blocked[1] - self._world.now)
        self.permits.release(permit, AttemptEnd.REFUSED, retry_after_s=told_s)
        self._again(told_s * (1 + 0.2 * self._world.draw.random()))

    def _unheard(self, permit: Permit) -> None:
        if not self.dead:
            self.permits.release(permit, AttemptEnd.UNHEARD)
            self._again(0.1 * self._world.draw.random())

    def _again(self, delay_s: float) -> None:
        """Act as the client does: a call that waits for its own next attempt has no slot."""
        self._free += 1
        self._world.after(delay_s, self._world.put_back)
        self.take_calls()
        self.look()


class World:
    """One run: the processes share ``slots`` and make ``calls`` calls; the clock starts at 0."""

    def __init__(
        self, endpoint: EndpointModel, *, calls: int, slots: int = 256, processes: int = 1, seed: int = 1
    ) -> None:
        self.now = 0.0
        self.endpoint = endpoint
        self.store = StoreModel()
        self.draw = random.Random(seed)
        self.seen = Seen()
        self.left = calls
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.processes = [Process(self, f"p{n}", slots // processes) for n in range(processes)]

    def at(self, when: float, event: Callable[[], None]) -> None:
        """Schedule an event for a time."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, event))

    def after(self, delay_s: float, event: Callable[[], None]) -> None:
        """Schedule an event in ``delay_s`` seconds."""
        self.at(self.now + delay_s, event)

    def take(self) -> bool:
        """Take one of the remaining calls."""
        if not self.left:
            return False
        self.left -= 1
        return True

    def put_back(self) -> None:
        """Return a call, to be made again by any process with a free slot."""
        self.left += 1
        for process in self.draw.sample(self.processes, len(self.processes)):
            process.take_calls()

    def run(self, until: float = 1e9) -> Seen:
        """Run until all calls have been answered, or until a time."""
        for process in self.processes:
            self.at(0.0, process.take_calls)
        calls = self.left
        while self._events and len(self.seen.answers) < calls:
            when, _, event = heapq.heappop(self._events)
            if when > until:
                break
            self.now = when
            event()
        self.seen.seconds = min(self.now, until)
        return self.seen
