"""The requests of our pages, as handlers of Flower: its users, prefix and read-only mode hold for them.

Each page is made in a thread. A request that changes something needs Flower's token against forged requests,
whether or not Flower asks for a password, and is refused in read-only mode.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

import tornado.web
from flower.views import BaseHandler  # type: ignore[import-untyped]  # Flower ships no types
from tornado.iostream import StreamClosedError

from rlm_dist.client.client import Client
from rlm_dist.errors import InputError, NotFound, RLMError, Unreachable
from rlm_dist.one_line import one_line
from rlm_dist.operations.flower import batch_page, batches_page, compare_page, endpoints_page, job_page
from rlm_dist.operations.flower.access import PageAccess, PageThreads
from rlm_dist.operations.flower.frame import PAGE, Links, templates
from rlm_dist.operations.flower.live import LiveHub, Version

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEARTBEAT_S = 15.0
_STREAM_S = 1800.0
_CODES: dict[type[RLMError], HTTPStatus] = {
    InputError: HTTPStatus.BAD_REQUEST,
    NotFound: HTTPStatus.NOT_FOUND,
    Unreachable: HTTPStatus.SERVICE_UNAVAILABLE,
}


class PageServices(NamedTuple):
    """What all our handlers share."""

    access: PageAccess
    threads: PageThreads
    hub: LiveHub


class _SeenWorker(Protocol):
    """What Flower has learned of a worker from its events."""

    @property
    def pid(self) -> int | None:
        """The id of its process."""


def worker_name(process: str, workers: Mapping[str, _SeenWorker]) -> str | None:
    """The Celery name of the worker that is, or has started, the process ``<role>@<host>:<pid>``.

    A process that runs one job alone is no worker: it has a name only if its worker is the only one of its
    role on its host.
    """
    role, _, place = process.partition("@")
    host, _, pid = place.rpartition(":")
    of_host = [name for name in workers if name.startswith(role) and name.endswith(f"@{host}")]
    found = [name for name in of_host if str(workers[name].pid) == pid] or of_host
    return found[0] if len(found) == 1 else None


class PageHandler(BaseHandler):  # type: ignore[misc]  # Flower ships no types
    """A page of ours; ``tab`` is its entry of the navigation."""

    tab = ""

    def initialize(self, services: PageServices) -> None:
        """Take what all handlers share."""
        self.access, self.threads, self.hub = services

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")

    def check_xsrf_cookie(self) -> None:
        super().check_xsrf_cookie()
        tornado.web.RequestHandler.check_xsrf_cookie(self)  # Flower leaves it out unless OAuth is used

    @property
    def links(self) -> Links:
        """Addresses under Flower's prefix."""
        return Links(self.application.options.url_prefix)

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed."""
        return bool(self.application.options.read_only)

    def text(self, name: str) -> str:
        """An argument as it was sent; '' if it was not."""
        return str(self.get_argument(name, "", escape=False))

    async def page(
        self, template: str, title: str, data: Callable[[], dict[str, Any]], *, viewer: bool = False
    ) -> None:
        """Answer with a page made from a template and the ``data``, which is read in a thread."""
        shown = {
            "links": self.links, "content": self.access.content, "read_only": self.read_only,
            "xsrf": self.xsrf_token.decode("ascii"), "worker_link": self.worker_link,
        }  # fmt: skip
        body = await self.threads.run(lambda: templates().get_template(template).render(**shown, **data()))
        self.frame(title, body, viewer=viewer)

    def frame(self, title: str, body: str, *, viewer: bool = False) -> None:
        """Answer with a body in Flower's frame."""
        self.render(
            PAGE, title=one_line(title), body=body.encode("utf-8", "backslashreplace").decode(),
            tab=self.tab, viewer=viewer, ours=lambda name: self.links.page(f"static/{name}"),
        )  # fmt: skip

    def worker_link(self, owner: str | None) -> str | None:
        """Flower's page of the worker whose process has this name; None if that is not one it knows."""
        process = (owner or "").removeprefix(self.access.settings.broker_prefix)
        name = worker_name(process, dict(self.application.events.state.workers))
        return self.links.worker(name) if name else None

    def refuse_if_read_only(self) -> None:
        """End the request with 403 in read-only mode."""
        if self.read_only:
            raise tornado.web.HTTPError(403, "Flower is read-only: start it with --read-write to allow this")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with a page that says what is wrong; it has no traceback and no text of a job."""
        if not hasattr(self, "_current_user"):
            self.current_user = None
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        if isinstance(error, RLMError) and type(error) in _CODES:
            status_code, message = _CODES[type(error)], str(error)
        elif isinstance(error, tornado.web.HTTPError) and status_code != 500:
            message = error.get_message() or ""
        else:
            message = ""
        if status_code == 401:
            super().write_error(status_code, **kwargs)
            return
        self.set_status(status_code)
        reason = HTTPStatus(status_code).phrase
        body = templates().get_template("error.html").render(code=status_code, reason=reason, message=message)
        self.frame(reason, body)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, RLMError):
            super().log_exception(typ, value, tb)


class BatchesHandler(PageHandler):
    """The list of batches."""

    tab = "batches"

    @tornado.web.authenticated
    async def get(self) -> None:
        shown = self.text("n") or str(batches_page.SHOWN)
        if not (shown.isascii() and shown.isdecimal() and 1 <= int(shown[:9]) <= batches_page.MOST_SHOWN):
            raise InputError((f"n: must be a number from 1 to {batches_page.MOST_SHOWN}",))
        await self.page("batches.html", "Batches", lambda: batches_page.batches(self.access, int(shown)))


class BatchHandler(PageHandler):
    """One batch."""

    tab = "batches"

    @tornado.web.authenticated
    async def get(self, batch_id: str) -> None:
        chosen = batch_page.JobFilter.read(self.text)
        await self.page(
            "batch.html", f"Batch {batch_id}", lambda: batch_page.batch(self.access, batch_id, chosen)
        )


class BatchActionHandler(PageHandler):
    """Asks whether to pause, resume, cancel or retry a batch, and does it."""

    tab = "batches"

    @tornado.web.authenticated
    async def get(self, batch_id: str, action: str) -> None:
        self.refuse_if_read_only()
        await self.page(
            "confirm.html",
            f"{action.capitalize()} batch {batch_id}",
            lambda: {
                "action": action, "batch": self.access.store.batches.get(batch_id),
                "target": self.links.batch_action(batch_id, action), "back": self.links.batch(batch_id),
            },
        )  # fmt: skip

    @tornado.web.authenticated
    async def post(self, batch_id: str, action: str) -> None:
        self.refuse_if_read_only()
        await self.threads.run(lambda: self._do(batch_id, action))
        self.redirect(self.links.batch(batch_id), status=303)

    def _do(self, batch_id: str, action: str) -> None:
        with Client(self.access.settings) as client:
            batch = client.batch(batch_id)
            do: dict[str, Callable[[], object]] = {
                "pause": batch.pause, "resume": batch.resume, "cancel": batch.cancel, "retry": batch.retry,
            }  # fmt: skip
            do[action]()


class JobsHandler(PageHandler):
    """The jobs that run now."""

    tab = "jobs"

    @tornado.web.authenticated
    async def get(self) -> None:
        await self.page("jobs.html", "Jobs", lambda: batches_page.jobs(self.access))


class JobHandler(PageHandler):
    """One job; with ``live=1`` it leaves out the rows of many sub-calls."""

    tab = "jobs"

    @tornado.web.authenticated
    async def get(self, job_id: str) -> None:
        bound = {"most_rows": job_page.LIVE_ROWS} if self.text("live") else {}
        task = self.links.task(job_id) if job_id in self.application.events.state.tasks else None
        await self.page(
            "job.html",
            f"Job {job_id}",
            lambda: {**job_page.job(self.access, job_id, **bound), "task": task},
            viewer=True,
        )


class JobCancelHandler(PageHandler):
    """Asks whether to cancel a job, and does it."""

    tab = "jobs"

    @tornado.web.authenticated
    async def get(self, job_id: str) -> None:
        self.refuse_if_read_only()
        await self.page(
            "confirm.html",
            f"Cancel job {job_id}",
            lambda: {
                "action": "cancel", "job": self.access.store.jobs.get(job_id),
                "target": self.links.cancel(job_id), "back": self.links.job(job_id),
            },
        )  # fmt: skip

    @tornado.web.authenticated
    async def post(self, job_id: str) -> None:
        self.refuse_if_read_only()
        await self.threads.run(lambda: self.access.store.jobs.cancel(job_id))
        self.redirect(self.links.job(job_id), status=303)


class EndpointsHandler(PageHandler):
    """The endpoints and their ceilings."""

    tab = "endpoints"

    @tornado.web.authenticated
    async def get(self) -> None:
        await self.page("endpoints.html", "Endpoints", lambda: endpoints_page.endpoints(self.access))

    @tornado.web.authenticated
    async def post(self) -> None:
        self.refuse_if_read_only()
        url, model, changes = self.text("url"), self.text("model"), endpoints_page.ceiling_changes(self.text)
        await self.threads.run(lambda: self.access.store.limits.set_ceilings(url, model, changes))
        self.redirect(self.links.page("endpoints"), status=303)


class CompareHandler(PageHandler):
    """Two batches side by side."""

    tab = "compare"

    @tornado.web.authenticated
    async def get(self) -> None:
        a, b, after, only = (self.text(name) for name in ("a", "b", "after", "only"))
        await self.page(
            "compare.html",
            "Compare",
            lambda: compare_page.compare(self.access, a, b, after=after, only=bool(only)),
        )


class EventsHandler(PageHandler):
    """A stream of server-sent events that says when a page has changed."""

    @tornado.web.authenticated
    async def get(self, kind: str, name: str) -> None:
        look = _look(self.access, kind, name)
        await self.threads.run(look)  # 404 for what does not exist
        stream = self.hub.join(f"{kind}/{name}", lambda: self.threads.run(look))
        if stream is None:
            raise tornado.web.HTTPError(503, "too many pages are open")
        self._stream = stream
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")
        deadline = asyncio.get_running_loop().time() + _STREAM_S
        try:
            while asyncio.get_running_loop().time() < deadline:
                if await self._send_next():
                    break
        except StreamClosedError:
            pass
        finally:
            self.hub.leave(stream)

    async def _send_next(self) -> bool:
        """Send the next change, or a sign of life; True if there will be no other."""
        stream = self._stream
        with suppress(TimeoutError):
            await asyncio.wait_for(stream.changed.wait(), _HEARTBEAT_S)
        final = False
        if stream.changed.is_set():
            stream.changed.clear()
            final = bool(stream.version and stream.version.final)
            self.write(f"event: {'final' if final else 'changed'}\ndata: 1\n\n")
        else:
            self.write(": still here\n\n")
        await self.flush()
        return final

    def on_connection_close(self) -> None:
        if hasattr(self, "_stream"):
            self.hub.leave(self._stream)


def _look(access: PageAccess, kind: str, name: str) -> Callable[[], Version]:
    if name:
        named = {"batches": batches_page.batch_version, "jobs": job_page.job_version}
        return lambda: named[kind](access, name)
    if kind == "endpoints":
        return lambda: Version(str(access.store.connection.now_ms() // 2000))
    return lambda: {"batches": batches_page.batches_version, "jobs": batches_page.jobs_version}[kind](access)


class PageFileHandler(tornado.web.RequestHandler):
    """Our styles and scripts."""

    def initialize(self, files: dict[str, tuple[str, str]]) -> None:
        """Take the files: their type and text by name."""
        self._files = files

    def get(self, name: str) -> None:
        kind, text = self._files[name]
        self.set_header("Content-Type", f"{kind}; charset=utf-8")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-cache")  # an unchanged one is answered by its ETag
        self.write(text)


def routes(services: PageServices, files: dict[str, tuple[str, str]], prefix: str | None) -> list[Any]:
    """The handlers of our pages, under Flower's prefix."""
    start = f"/{prefix.strip('/')}" if prefix else ""
    shared = {"services": services}
    names = "|".join(name.replace(".", r"\.") for name in files)
    name = r"([A-Za-z0-9._-]{1,128})"
    pages: list[tuple[str, type[tornado.web.RequestHandler]]] = [
        (r"/rlm/?", BatchesHandler),
        (r"/rlm/batches", BatchesHandler),
        (r"/rlm/(batches|jobs|endpoints)/events()", EventsHandler),
        (rf"/rlm/(batches|jobs)/{name}/events", EventsHandler),
        (rf"/rlm/batches/{name}/(pause|resume|cancel|retry)", BatchActionHandler),
        (rf"/rlm/batches/{name}", BatchHandler),
        (r"/rlm/jobs", JobsHandler),
        (rf"/rlm/jobs/{name}/cancel", JobCancelHandler),
        (rf"/rlm/jobs/{name}", JobHandler),
        (r"/rlm/endpoints", EndpointsHandler),
        (r"/rlm/compare", CompareHandler),
    ]
    return [
        (rf"{start}/rlm/static/({names})", PageFileHandler, {"files": files}),
        *((start + pattern, handler, shared) for pattern, handler in pages),
    ]
