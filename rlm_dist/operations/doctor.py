"""Checks what a deployment needs; each check reports what it found and, if it failed, how to fix it.

The checks are independent: one that fails hides none of the others. They change nothing, except that a probe
text is stored once in the blob store; it expires like any other.
"""

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

import redis

from rlm_dist.blobs.store import Blobs
from rlm_dist.errors import BlobError, CallError, RLMError, Unreachable
from rlm_dist.llm.endpoints import Endpoint, endpoints_of
from rlm_dist.llm.failures import shown_url
from rlm_dist.local.cluster import no_worker
from rlm_dist.local.open_files import OpenFiles, open_files
from rlm_dist.schema import CallResult, Role, Wire
from rlm_dist.settings import Settings, UnknownVariable
from rlm_dist.store import reaching
from rlm_dist.worker.prompt_file import read_prompts

Status = Literal["ok", "warning", "failed"]
_OLDEST_REDIS = (6, 2)
_PACKAGES = ("rlm-dist", "celery", "kombu", "redis", "openai", "flower")
_PROBE = "rlm-dist doctor"


class Check(Wire):
    """What one check found."""

    name: str
    status: Status
    detail: str
    hint: str = ""
    unreachable: bool = False


class OpenStores(NamedTuple):
    """The stores while they are open; ``blobs`` opens the blob store when called, as that alone may fail."""

    client: redis.Redis
    blobs: Callable[[], Blobs]


@dataclass(frozen=True, kw_only=True)
class Probes:
    """How the checks reach Redis, endpoints and the sandbox.

    ``models`` lists the models that an endpoint serves; ``limits`` returns the workers' current view of each
    endpoint, one line each. ``missing_workers`` returns the roles of which no worker is alive,
    ``missing_depths`` the depths of child jobs that RLM_MAX_DEPTH promises and no worker serves. ``call``, if
    set, makes one real call of an endpoint's model.
    """

    stores: Callable[[], AbstractContextManager[OpenStores]]
    models: Callable[[Endpoint], list[str]]
    sandbox: Callable[[], str]
    limits: Callable[[redis.Redis], Sequence[str]]
    missing_workers: Callable[[redis.Redis], Sequence[Role]] = lambda _: ()
    missing_depths: Callable[[redis.Redis], Sequence[int]] = lambda _: ()
    call: Callable[[Endpoint], CallResult] | None = None


def examine(settings: Settings, probes: Probes) -> Iterator[Check]:
    """Run all checks, one after another."""
    if isinstance(settings.prompts, Path):
        yield _guarded("prompt file", lambda: _prompt_file(settings))
    yield from _stores(settings, probes)
    yield _guarded("sandbox", lambda: _sandbox(probes.sandbox()))
    root, sub = endpoints_of(settings, Role.ROOT), endpoints_of(settings, Role.SUB)
    root_urls = {endpoint.url for endpoint in root}
    called: set[tuple[str, str]] = set()
    for endpoint in root:
        same = [one for one in sub if one.url == endpoint.url]
        yield _endpoint("model endpoint", endpoint, _wanted(endpoint, *same), probes)
        yield from _calls("model call", endpoint, called, probes)
    for endpoint in sub:
        if endpoint.url not in root_urls:
            yield _endpoint("sub model endpoint", endpoint, _wanted(endpoint), probes)
        yield from _calls("sub model call", endpoint, called, probes)
    yield check_open_files(open_files(settings.sub_concurrency))
    yield Check(name="versions", status="ok", detail=_versions())


def check_variables(unknown: Sequence[UnknownVariable]) -> Check:
    """Whether a variable is misspelt."""
    if not unknown:
        return Check(name="settings", status="ok", detail="every RLM_ variable is a setting")
    names = ", ".join(variable.name for variable in unknown)
    hints = [f"Rename {name} to {nearest}." if nearest else f"Remove {name}." for name, nearest in unknown]
    return Check(name="settings", status="warning", detail=f"{names}: not a setting", hint="\n".join(hints))


def check_open_files(files: OpenFiles) -> Check:
    """Whether a sub worker on this machine could make as many calls at once as it has slots."""
    if not files.fits:
        return Check(name="open files", status="failed", detail="too few are allowed", hint=files.why_not)
    detail = f"a sub worker needs {files.needs:,}, and may open {files.hard:,}"
    return Check(name="open files", status="ok", detail=detail)


def check_lines(checks: list[Check]) -> Iterator[str]:
    """Checks as lines of plain text."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        yield f"{check.name.ljust(width)}  {check.status.ljust(7)}  {check.detail}"
        for line in check.hint.splitlines():
            yield f"{' ' * width}           {line}"


def _prompt_file(settings: Settings) -> Check:
    texts = read_prompts(settings.prompts)
    assert texts is not None
    detail = f"{settings.prompts} has a prompt family, sha256 {texts.sha256[:12]}"
    return Check(name="prompt file", status="ok", detail=detail)


def _stores(settings: Settings, probes: Probes) -> Iterator[Check]:
    embedded = settings.redis_url is None
    try:
        with probes.stores() as stores:
            yield _guarded("redis", lambda: _redis(stores.client, embedded=embedded))
            yield _guarded("blob store", lambda: _blobs(stores.blobs()))
            yield _guarded("workers", lambda: _workers(probes.missing_workers(stores.client)))
            if settings.max_depth > 1:
                yield _guarded(
                    "child jobs", lambda: _depths(settings.max_depth, probes.missing_depths(stores.client))
                )
            for line in probes.limits(stores.client):
                status: Status = "warning" if "endpoint away" in line else "ok"
                yield Check(name="endpoint limits", status=status, detail=line)
    except RLMError as error:
        yield _failed("redis", error)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except RLMError as error:
        return _failed(name, error)


def _failed(name: str, error: RLMError) -> Check:
    if isinstance(error, Unreachable):
        detail = f"{error.address} cannot be reached: {error.detail}"
        return Check(name=name, status="failed", detail=detail, hint=error.hint, unreachable=True)
    if isinstance(error, CallError):
        hint = "Set RLM_API_KEY." if error.fatal else "Fix RLM_API_URL."
        return Check(name=name, status="failed", detail=str(error), hint=hint)
    hint = "Fix RLM_BLOB_URL, or leave it unset." if isinstance(error, BlobError) else ""
    return Check(name=name, status="failed", detail=str(error), hint=hint)


def _redis(client: redis.Redis, *, embedded: bool) -> Check:
    with reaching(client):
        info = client.info()
    redis_version = str(info["redis_version"])
    name = f"{info.get('server_name', 'redis')} {info.get('valkey_version', redis_version)}"
    if tuple(int(part) for part in redis_version.split(".")[:2]) < _OLDEST_REDIS:
        hint = "Celery 5.7 needs Redis 6.2 or newer."
        return Check(name="redis", status="failed", detail=f"{name} is too old", hint=hint)
    hints = []
    if info.get("maxmemory_policy", "noeviction") != "noeviction":
        hints.append("Set maxmemory-policy noeviction: any other policy lets Redis delete jobs and costs.")
    if not info.get("aof_enabled"):
        hints.append("Set appendonly yes: without it, a restart of Redis loses every job.")
    detail = f"{name}, append-only file {'on' if info.get('aof_enabled') else 'off'}"
    if embedded:  # which program it is matters only here; another host's paths are of no use
        detail += f", run here from {info.get('executable', 'an unknown place')}"
    return Check(name="redis", status="warning" if hints else "ok", detail=detail, hint="\n".join(hints))


def _blobs(blobs: Blobs) -> Check:
    sha256 = blobs.put_text(_PROBE)
    if blobs.get_text(sha256) != _PROBE:
        raise BlobError(sha256, "the text that was read back differs from the one that was stored")
    return Check(name="blob store", status="ok", detail="a text was written and read back")


def _workers(missing: Sequence[Role]) -> Check:
    if not missing:
        return Check(name="workers", status="ok", detail="workers of both roles are alive")
    detail = ", ".join(f"no {role} worker is running" for role in missing)
    hint = "Run rlm-dist up, or rlm-dist worker root and rlm-dist worker sub."
    return Check(name="workers", status="warning", detail=detail, hint=hint)


def _depths(max_depth: int, missing: Sequence[int]) -> Check:
    if missing:
        detail = f"jobs with a max_depth of {max_depth} are refused: no root worker is alive for some depths"
        hint = no_worker(missing, f"RLM_MAX_DEPTH={max_depth}")
        return Check(name="child jobs", status="failed", detail=detail, hint=hint)
    return Check(name="child jobs", status="ok", detail=f"workers for every depth up to {max_depth - 1}")


def _sandbox(level: str) -> Check:
    if level != "off":
        return Check(name="sandbox", status="ok", detail=level)
    hint = "Run only models and contexts that you trust with this host, or put root workers in containers."
    detail = "isolation: none (RLM_SANDBOX=off); model-written code runs as a plain process of this user"
    return Check(name="sandbox", status="warning", detail=detail, hint=hint)


def _wanted(*endpoints: Endpoint) -> list[str]:
    """The models that are asked for by name at endpoints of one address."""
    names = dict.fromkeys(endpoint.named("auto") for endpoint in endpoints)
    return [name for name in names if name != "auto"]


def _endpoint(name: str, endpoint: Endpoint, wanted: Sequence[str], probes: Probes) -> Check:
    def check() -> Check:
        models = probes.models(endpoint)
        names = ", ".join(models[:3]) + (f" and {len(models) - 3} more" if len(models) > 3 else "")
        address = shown_url(endpoint.url)
        detail = f"{address} serves {names}" if names else f"{address} lists no models"
        missing = [model for model in wanted if models and model not in models]
        if missing:
            hint = "Set RLM_MODEL and RLM_SUB_MODEL to names that it lists, or to auto."
            detail = f"{detail}, but not {', '.join(missing)}"
            return Check(name=name, status="warning", detail=detail, hint=hint)
        return Check(name=name, status="ok", detail=detail)

    return _guarded(name, check)


def _calls(name: str, endpoint: Endpoint, called: set[tuple[str, str]], probes: Probes) -> Iterator[Check]:
    """The check that the model answers, if calls are to be made and this one was not made yet."""
    call, key = probes.call, (endpoint.url, endpoint.named("auto"))
    if call is None or key in called:
        return
    called.add(key)

    def check() -> Check:
        result = call(endpoint)
        model = result.completion.model if result.completion else endpoint.model
        detail = f"{model} at {shown_url(endpoint.url)} answered in {result.seconds:.1f} s"
        return Check(name=name, status="ok", detail=detail)

    yield _guarded(name, check)


def _versions() -> str:
    return ", ".join(
        [f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in _PACKAGES)]
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a checkout
        return "not installed"
