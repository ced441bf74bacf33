"""Our pages in Flower's frame: its navigation with our links in it, and the templates of both.

Flower's templates are Tornado's and ours are Jinja's, as those of the viewer. The loader here adds to two of
Flower's: our links to ``navbar.html``, and to ``task.html`` a link to the job of the task.
"""

import json
import re
import time
from functools import cache, partial
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup
from tornado.template import Loader, Template
from tornado.web import UIModule

from rlm_dist.operations.viewer.render import environment

_PACKAGE = "rlm_dist.operations.flower"
_JOB = re.compile(r"job=([A-Za-z0-9]{1,64})\b")
_ADDED = {
    "navbar.html": ('<ul class="app-nav navbar-nav">', "{% module RlmLinks(active_tab) %}"),
    "task.html": ('<div class="detail-actions">', "{% module RlmJobLink(task) %}"),
}
_TABS = (("batches", "Batches"), ("jobs", "Jobs"), ("endpoints", "Endpoints"), ("compare", "Compare"))
PAGE = "rlm_page.html"
_PAGE_SOURCE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="same-origin">
<title>{{ title }} · Flower</title>
<link rel="icon" href="{{ static_url('favicon.ico') }}">
<script src="{{ static_url('js/theme.js') }}"></script>
<link rel="stylesheet" href="{{ static_url('css/bootstrap.min.css') }}">
<link rel="stylesheet" href="{{ static_url('css/flower.css') }}">
<link rel="stylesheet" href="{{ ours('viewer.css') }}">
<link rel="stylesheet" href="{{ ours('pages.css') }}">
</head>
<body class="app-body">
<a class="skip-link" href="#main-content">Skip to main content</a>
{% module Template("navbar.html", active_tab=tab) %}
<main class="app-content rlm-main" id="main-content" tabindex="-1">{% raw body %}</main>
<script src="{{ static_url('js/bootstrap.bundle.min.js') }}"></script>
{% if viewer %}<script src="{{ ours('viewer.js') }}"></script>{% end %}
<script src="{{ ours('pages.js') }}"></script>
</body>
</html>
"""


class FrameLoader(Loader):
    """Flower's templates with our links added, and the frame of our own pages."""

    def _create_template(self, name: str) -> Template:
        if name == PAGE:
            return Template(_PAGE_SOURCE, name=name, loader=self)
        if name not in _ADDED:
            return super()._create_template(name)
        place, added = _ADDED[name]
        with open(f"{self.root}/{name}", encoding="utf-8") as file:
            source = file.read()
        return Template(source.replace(place, place + added, 1), name=name, loader=self)


class RlmLinks(UIModule):
    """Our entries of Flower's navigation, before its own."""

    def render(self, active_tab: str) -> str:
        """The entries as HTML; ``active_tab`` is the one that is open."""
        links = _links(self)
        return "".join(
            Markup('<li class="nav-item"><a class="nav-link{}" href="{}"{}>{}</a></li>').format(
                " active" if tab == active_tab else "",
                links.page(tab),
                Markup(' aria-current="page"') if tab == active_tab else "",
                label,
            )
            for tab, label in _TABS
        )


class RlmJobLink(UIModule):
    """A link from a task to its job."""

    def render(self, task: Any) -> str:
        """The link as HTML; nothing if the task has no job of ours."""
        found = _JOB.match(str(task.args or "").strip("'\"()"))
        if not found:
            return ""
        links = _links(self)
        return Markup('<a class="btn btn-outline-primary" href="{}">Job {}</a>').format(
            links.job(found[1]), found[1]
        )


def _links(module: UIModule) -> "Links":
    application: Any = module.handler.application
    return Links(application.options.url_prefix)


UI_MODULES = {"RlmLinks": RlmLinks, "RlmJobLink": RlmJobLink}


class Links(NamedTuple):
    """Addresses of pages, ours and Flower's; ``prefix`` is Flower's ``url_prefix``."""

    prefix: str | None

    def page(self, name: str, **query: object) -> str:
        """A page of ours; a value that is None or '' is left out of the query."""
        return self._address(f"rlm/{name}", query)

    def batch(self, batch_id: str, **query: object) -> str:
        """The page of a batch."""
        return self._address(f"rlm/batches/{quote(batch_id, safe='')}", query)

    def batch_action(self, batch_id: str, action: str) -> str:
        """The page that asks whether to do something with a batch."""
        return self._address(f"rlm/batches/{quote(batch_id, safe='')}/{action}", {})

    def job(self, job_id: str) -> str:
        """The page of a job."""
        return self._address(f"rlm/jobs/{quote(job_id, safe='')}", {})

    def cancel(self, job_id: str) -> str:
        """The page that asks whether to cancel a job."""
        return self._address(f"rlm/jobs/{quote(job_id, safe='')}/cancel", {})

    def task(self, task_id: str) -> str:
        """Flower's page of a task."""
        return self._address(f"task/{quote(task_id, safe='')}", {})

    def worker(self, name: str) -> str:
        """Flower's page of a worker."""
        return self._address(f"worker/{quote(name, safe='@')}", {})

    def _address(self, path: str, query: dict[str, object]) -> str:
        pairs = {name: value for name, value in query.items() if value not in (None, "", False)}
        start = f"/{self.prefix.strip('/')}" if self.prefix else ""
        return f"{start}/{path}" + (f"?{urlencode(pairs)}" if pairs else "")


@cache
def templates() -> Environment:
    """Our templates and the viewer's, with the viewer's filters."""
    viewer = environment()
    loader = viewer.loader
    assert loader is not None
    made = viewer.overlay(loader=ChoiceLoader([PackageLoader(_PACKAGE), loader]))
    made.filters = {**viewer.filters, "moment": _moment, "tojson_text": partial(json.dumps, indent=2)}
    return made


def _moment(at_ms: int) -> str:
    """A time for readers without a script, which shows it in their own zone."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at_ms / 1000))
