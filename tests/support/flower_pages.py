"""A real Flower over a filled store, and what tests read of its pages over HTTP."""

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from rlm_dist.schema import (
    CallRequest,
    CallResult,
    Completion,
    ErrorInfo,
    JobSpec,
    JobState,
    Message,
    Outcome,
    Role,
    Usage,
)
from rlm_dist.schema.events import CellRan, JobStarted, MessageAdded, RootReplied
from rlm_dist.schema.limits import Ceilings, Report, Scope
from rlm_dist.store import OpenCall, Settlement, Spend, Store
from tests.support.command_line import command, next_line
from tests.support.store_values import LEASE_MS, finish_job, spec, start_job

SECRET = "zzcontentzz"  # in every query, prompt, code, output and answer
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202eetirw&\"'"
SCOPE = Scope("http://127.0.0.1:9/v1", "model-<b>")
RUNNING = "jrunning"


class Reply(NamedTuple):
    """What a page answered."""

    code: int
    text: str
    headers: Mapping[str, str]


class Pages:
    """Reads the pages of one Flower, as a browser with one cookie does."""

    def __init__(self, url: str, user: str | None = None) -> None:
        self.url = url
        self._user = user
        self._cookie = ""

    def get(self, path: str) -> Reply:
        """Read a page; redirects are followed."""
        return self._ask(path, None, {})

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Reply:
        """Send a form with the token of an earlier page, if the fields have no other."""
        token = self._cookie.partition("=")[2]
        return self._ask(path, {"_xsrf": token, **fields}, headers)

    def _ask(self, path: str, fields: Mapping[str, str] | None, headers: Mapping[str, str]) -> Reply:
        data = None if fields is None else urllib.parse.urlencode(fields).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=dict(headers))
        if self._user is not None:
            request.add_header("Authorization", f"Basic {base64.b64encode(self._user.encode()).decode()}")
        if self._cookie and "Cookie" not in headers:
            request.add_header("Cookie", self._cookie)
        try:
            answer = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            cookie = answer.headers.get("Set-Cookie", "")
            if cookie.startswith("_xsrf="):
                self._cookie = cookie.partition(";")[0]
            return Reply(answer.status, answer.read().decode(errors="replace"), dict(answer.headers))


@contextmanager
def flower(redis_url: str, *options: str, user: str | None = None, **variables: str) -> Iterator[Pages]:
    """A Flower as a process."""
    basic = {"FLOWER_BASIC_AUTH": user} if user else {}
    variables = {"RLM_REDIS_URL": redis_url, **basic, **variables}
    with command("flower", "--port", "0", "--json", *options, **variables) as process:
        yield Pages(json.loads(next_line(process))["url"], user)
    assert process.returncode == 0


def secret_spec(job_id: str, name: str, batch_id: str | None, index: int) -> JobSpec:
    """A job whose texts all have the secret."""
    fields = {"custom_id": name, "query": f"query {SECRET}", "metadata": {"note": SECRET}}
    return spec(job_id, batch_id=batch_id, index=index).model_copy(update=fields)


def fill(store: Store, batch_id: str, jobs: int, *, seed: int = 0) -> None:
    """A batch of jobs that have ended, every fifth without an answer; the name of the first is hostile."""
    store.batches.create(batch_id, "digest", jobs)
    for n in range(jobs):
        job_id = f"j{batch_id}{n:06}"
        store.jobs.create([secret_spec(job_id, HOSTILE if n == 0 else f"name-{n:06}", batch_id, n)])
        epoch = start_job(store, job_id, "root@host:1", LEASE_MS, "landlock")
        assert epoch is not None
        charge(store, job_id, epoch, (n + seed) % 7 + 1)
        failed = n % 5 == 4
        error = ErrorInfo(type="ValueError", message=f"said {SECRET}") if failed else None
        outcome = Outcome(
            state=JobState.FAILED if failed else JobState.SUCCEEDED,
            answer=None if failed else f"answer {SECRET} {n + (seed if n % 3 == 0 else 0)}",
            error=error, iterations=n % 4 + 1,
        )  # fmt: skip
        assert finish_job(store, job_id, epoch, outcome)
    store.batches.seal(batch_id)


def charge(store: Store, job_id: str, epoch: int, cents: int) -> None:
    """Make one sub-call of a job that costs this much; its prompt and answer have the secret."""
    call, nanousd = f"{job_id}c", cents * 10**7
    usage = Usage(input_tokens=10, output_tokens=2)
    request = CallRequest(role=Role.SUB, model="m", messages=(Message(role="user", content=f"ask {SECRET}"),))
    result = CallResult(
        completion=Completion(text=f"reply {SECRET}", model="m", usage=usage, finish_reason="stop"),
        seconds=0.2,
    )
    store.calls.open(job_id, epoch, [OpenCall(call, request.model_dump_json(), 12, nanousd, Role.SUB)])
    store.calls.claim(job_id, [call], "sub-1", LEASE_MS)
    spent = Spend("m", usage, nanousd)
    store.calls.settle(job_id, "sub-1", [Settlement(call, Role.SUB, result.model_dump_json(), spent)])


def run_one(store: Store, batch_id: str = "live") -> None:
    """A job that is running, with one turn in its trace."""
    store.batches.create(batch_id, "digest", 1)
    job = secret_spec(RUNNING, HOSTILE, batch_id, 0)
    store.jobs.create([job])
    store.batches.seal(batch_id)
    assert start_job(store, RUNNING, "root@host:1", 10**7, "landlock")
    started = JobStarted(
        job_id=RUNNING, epoch=1, worker="root@host:1", model="m", sub_model="s", prompts="coder",
        isolation="landlock", context=job.context.info,
    )  # fmt: skip
    say(store, started, MessageAdded(turn=0, role="user", text=f"prompt {SECRET}"))
    turn(store, 1)


def turn(store: Store, number: int) -> None:
    """Add a turn to the trace of the running job."""
    usage = Usage(input_tokens=10, output_tokens=2)
    say(
        store,
        RootReplied(turn=number, model="m", usage=usage, finish_reason="stop", seconds=0.5),
        MessageAdded(turn=number, role="assistant", text=f"reply {SECRET} {HOSTILE}"),
        CellRan(
            turn=number, block=0, code=f"print('{SECRET}')", output=f"{SECRET} {HOSTILE}", error=None,
            seconds=0.1, calls=0, failed_calls=0, state_lost=False,
        ),
        MessageAdded(turn=number, role="user", text=f"told {SECRET}"),
    )  # fmt: skip


def say(store: Store, *events: object) -> None:
    """Add events to the trace of the running job."""
    now = store.connection.now_ms()
    store.journals.append_events(
        RUNNING,
        [json.dumps({**event.model_dump(), "at_ms": now}) for event in events],  # type: ignore[attr-defined]
    )


def use_endpoint(store: Store) -> None:
    """Let one process report calls at an endpoint."""
    report = Report(number=1, in_flight=3, wanted=5, waiting=2, started=40, refused=1, answered=39, ended=40)
    store.limits.share(SCOPE, "holder", report, Ceilings(in_flight=50), LEASE_MS)
