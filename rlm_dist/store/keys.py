"""The names of all Redis keys of the store; no other module makes one.

"J" stands for ``rlm:job:<job id>``, "B" for ``rlm:batch:<batch id>``, "L" for ``rlm:limits:<scope id>`` (a
scope is an endpoint and model), "P" for ``RLM_BROKER_PREFIX``. Retention is ``RLM_RETENTION_S``.

=====================  ======  =======================  ==================================================
key                    type    TTL                      holds
=====================  ======  =======================  ==================================================
J                      hash    retention from the end   id, spec, state, epoch, owner, isolation, lease_ms,
                                                        outcome, queued_ms, started_ms, ended_ms, cancel,
                                                        batch (the key B), max_nanousd, max_tokens,
                                                        max_sub_calls, recoveries (workers that died with
                                                        it), recovered_epoch (the last epoch that took it
                                                        over from such a worker), ended_entry, diverged
                                                        (cells of its last replay),
                                                        since_ms (when it started, or last went on after it
                                                        was parked), ran_ms (how long it ran before that),
                                                        stopping (the epoch that is about to end it), bytes
                                                        (stored in its journal, requests, results and trace,
                                                        and in blobs for them), max_bytes, name (the user's
                                                        for it), turns (begun so far), reason (why it has no
                                                        answer), tags (JSON, of a single job),
                                                        live_children (if it ever had a child); of a child:
                                                        parent (the key J of the job above it), depth, again
                                                        (ended without an answer before a job above it was
                                                        retried)
J:ledger               hash    as J                     totals and lines; see ``ledger``
J:calls                hash    as J                     call id → state; see ``lua/prelude_calls.lua``
J:requests             hash    as J                     sub-call id → request
J:results              hash    as J                     call id → result
J:journal              list    as J                     journal entries in order
J:trace                stream  as J                     events in order, field ``e``
J:replies              stream  as J                     ids of the calls settled last, field ``c``, and their
                                                        results if they are short, field ``r``
J:done                 stream  as J                     one entry once the job is final: wakes waiters
J:blobs                set     as J                     keys of the blobs that the job uses
J:tokens               zset    as J                     tokens of the latest writes, to recognize repeats
J:charges              list    as J                     each charge in the ledger; see ``ledger``
J:children             zset    as J                     ids of its children in the order of their creation
J:tools                hash    as J                     id of a tool's call → result
B                      hash    retention from its last  digest, total, created_ms, sealed, paused,
                               job's end, or from its   pause_reason, cancelled, max_nanousd, max_tokens,
                               creation while empty     tags (JSON), and ``n:<state>`` with the number of
                                                        jobs in that state; if it has a webhook: webhook
                                                        (the URL), webhooks (the key of the list of due
                                                        ones), webhook_tries, webhook_state, ended_ms
B:ledger               hash    as B                     as J:ledger, over all jobs
B:jobs                 zset    as B                     job ids by line number
B:by:<order>           zset    as B                     job ids by state and order; see
                                                        ``lua/prelude_lists.lua``, also for the next two
B:reasons              hash    as B                     why jobs ended without an answer, each with a number
B:names                zset    as B                     the jobs' names, each with its job id
B:ended                stream  as B                     jobs in order of their end: id ``j``, run time ``ms``,
                                                        ``n`` nano-dollars and ``t`` tokens spent by then
rlm:jobs, rlm:batches  zset    none: pruned             ids by creation time
rlm:queued             zset    none: empties itself     waiting jobs by the time they were last sent
rlm:leases             zset    none: empties itself     running jobs by the end of their lease
rlm:webhooks           zset    none: empties itself     ended batches (B) by when their webhook is due
rlm:slots              hash    longest ttl announced    sub worker → its slots
rlm:slots:until        zset    longest ttl announced    sub worker → end of its announcement
rlm:slots:root         hash    longest ttl announced    as rlm:slots, of the processes of root workers
rlm:slots:root:until   zset    longest ttl announced    as rlm:slots:until, of the processes of root workers
rlm:slots:root.<d>     hash    longest ttl announced    as rlm:slots:root, of workers for jobs of depth d ≥ 1
rlm:slots:root.<d>     zset    longest ttl announced    as rlm:slots:root:until, likewise
:until
P + rlm:backlog        hash    a lease's length         a number by name; see ``schema.backlog``
P + rlm:backlog:by     string  a few seconds            the worker that wrote it last
rlm:turn:<task>        string  the task's period        the worker that did it last; see ``WorkerStore``
rlm:requests           hash    longest ttl announced    worker → end of its announcement, and by job the
                                                        number of its requests under way at endpoints
L                      hash    1 hour from last report  what all workers together may call there now; see
                                                        ``lua/prelude_limits.lua``
L:holders              hash    longest lease            process → its calls in flight, and its share
L:history              hash    1 hour from last report  by minute, for the last 60: limit, calls, refusals,
                                                        latencies; see ``lua/prelude_limits_history.lua``
rlm:ceilings           hash    none: until taken back   scope id → ceilings that an operator has set; see
                                                        ``lua/prelude_limits_ceilings.lua``
rlm:limits             zset    1 hour from last report  scope ids by about the time of their last report
rlm:away               hash    5 min from last report   scope id → URL of the endpoint, if nothing answers
rlm:cache:<digest>     string  ``RLM_CACHE_TTL_S``      result of a call that several jobs may share
rlm:cache:<digest>:by  string  its lease                the process that is making such a call
rlm:blob:<sha>         hash    owned by ``blobs``       persisted while jobs use it, else retention
rlm:blob:<sha>:jobs    set     vanishes when empty      jobs in progress that use the blob
rlm:blob:<sha>:users   zset    retention from last end  jobs that ended and use it, by the end of their
                                                        retention
=====================  ======  =======================  ==================================================

The scripts of jobs and calls get ``job_keys`` as their KEYS: the hash of a job. They find the keys of the
batch and blobs by reading it; suffixes, and the names of the lists of all jobs, are spelled again in
``lua/prelude.lua``.
"""

from rlm_dist.schema import Role

JOBS = "rlm:jobs"
BATCHES = "rlm:batches"
QUEUED = "rlm:queued"
LEASES = "rlm:leases"
WEBHOOKS = "rlm:webhooks"
SCOPES = "rlm:limits"
AWAY = "rlm:away"
CEILINGS = "rlm:ceilings"
REQUESTS = "rlm:requests"
SLOTS = "rlm:slots"
SLOTS_UNTIL = "rlm:slots:until"

_ORDERS = ("index", "cost", "time", "turns", "calls", "reason")
LIST_PARTS = (*(f"by:{order}" for order in _ORDERS), "names", "reasons")
BATCH_PARTS = ("", "ledger", "jobs", "ended", *LIST_PARTS)


def job(job_id: str, part: str = "") -> str:
    """The hash of a job, or one of its other keys."""
    return f"rlm:job:{job_id}:{part}" if part else f"rlm:job:{job_id}"


def batch(batch_id: str, part: str = "") -> str:
    """The hash of a batch, or one of its other keys."""
    return f"rlm:batch:{batch_id}:{part}" if part else f"rlm:batch:{batch_id}"


def blob(sha256: str) -> str:
    """The key of a blob."""
    return f"rlm:blob:{sha256}"


def slots(role: Role, depth: int = 0) -> list[str]:
    """The KEYS of the scripts of slots (``slots_*.lua``), but for the leases: those of workers of a role.

    ``depth`` is that of the jobs of root workers.
    """
    if role is Role.SUB:
        return [SLOTS, SLOTS_UNTIL]
    name = f"rlm:slots:root.{depth}" if depth else "rlm:slots:root"
    return [name, f"{name}:until"]


def turn(task: str) -> str:
    """The key that says which worker last did a task that only one does at a time."""
    return f"rlm:turn:{task}"


def backlog(prefix: str) -> tuple[str, str]:
    """The published backlog, and the lock of its writers."""
    return f"{prefix}rlm:backlog", f"{prefix}rlm:backlog:by"


def cached(digest: str) -> list[str]:
    """The KEYS of every script of a cached result."""
    return [f"rlm:cache:{digest}", f"rlm:cache:{digest}:by"]


def limit_keys(scope_id: str) -> list[str]:
    """The KEYS of every script of a scope's limits, as ``lua/prelude_limits.lua`` names them."""
    scope = f"rlm:limits:{scope_id}"
    return [scope, f"{scope}:holders", AWAY, SCOPES, CEILINGS, f"{scope}:history"]


def job_keys(job_id: str) -> list[str]:
    """The KEYS of every script of a job; ``lua/prelude.lua`` makes the names of the job's other keys."""
    return [job(job_id)]


def batch_keys(batch_id: str) -> list[str]:
    """The KEYS of every script of a batch."""
    return [*(batch(batch_id, part) for part in ("", "ledger", "jobs", "ended")), BATCHES, WEBHOOKS]
