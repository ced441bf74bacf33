"""The templates: hostile texts stay text, what is not known is not invented, nothing is fetched."""

import itertools
import json
import re

import pytest
from markupsafe import Markup

from rlm_dist.operations.viewer.model import trajectory
from rlm_dist.operations.viewer.render import duration, json_script, policy, static, usd
from rlm_dist.operations.viewer.text import python_code, visible
from rlm_dist.operations.viewer.trace_page import JOB_COLUMNS, file_name, index_html, job_html, job_row
from rlm_dist.schema import BatchRecord, BatchState, ErrorInfo, JobState
from rlm_dist.schema.events import ChildrenAnswered, ToolCalled
from tests.support.trajectories import (
    HOSTILE,
    MODELS,
    START_MS,
    at,
    made,
    pages,
    ran,
    record,
    replied,
    started,
)


def page(text: str = "", *, count: int = 3, content: bool = True, **fields: object) -> str:
    job = made(count, text, content=content, **fields)
    return "".join(job_html(job, pages(job, count, text)))


def scripts(html: str) -> list[tuple[str, str]]:
    """The attributes and text of each script element."""
    return re.findall(r"<script([^>]*)>(.*?)</script>", html, re.DOTALL)


def test_a_hostile_text_is_neither_markup_nor_hidden() -> None:
    html = page(HOSTILE, error=ErrorInfo(type=HOSTILE, message=HOSTILE))
    code = [body for attributes, body in scripts(html) if "json" not in attributes]
    assert code == [static("viewer.js")]
    assert "<img" not in html
    assert not set("\x00\x1b\u202e\u202c") & set(html)
    assert "&lt;/script&gt;&lt;script&gt;window.ran = 1" in html


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "\u2028\u2029", "\ud800", "&lt;", "]]>"])
def test_data_cannot_end_its_element_and_comes_back(text: str) -> None:
    script = str(json_script([text]))
    assert script.isascii()
    assert not set("<>&") & set(script)
    assert json.loads(script) == [text]


def test_characters_that_hide_are_shown_by_name() -> None:
    shown = str(visible("a\x1b[31mb\u202ec\ud800\x9b\tד\n👨\u200d👩"))
    assert [re.sub("<.*?>", "", box) for box in re.findall(r"<span.*?</span>", shown)] == [
        "ESC", "RLO", "U+D800", "CSI"
    ]  # fmt: skip
    assert "\t" in shown
    assert "ד\n👨\u200d👩" in shown
    assert str(visible("<b>&")) == "&lt;b&gt;&amp;"


def test_code_is_coloured_and_complete() -> None:
    code = "def f(x):\n    return '<b>' + \"\u202e\"  # ok\n\n"
    html = str(python_code(code))
    assert '<span class="k">def</span>' in html
    assert Markup(re.sub("<.*?>", "", html)).unescape() == code.replace("\u202e", "RLO")
    assert "<span" not in str(python_code("x = 1\n" * 20_000))


def test_the_policy_allows_this_script_and_style_and_no_network() -> None:
    html = page()
    assert policy().startswith("default-src 'none'; script-src 'sha256-")
    for word in ("unsafe", "http", "*", "connect-src", "'self'"):
        assert word not in policy()
    assert html.index("Content-Security-Policy") < html.index("<style>")
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:,|index\.html)""", html)
    assert " style=" not in html


def test_without_content_no_text_of_the_job_is_in_the_page() -> None:
    html = page(" SECRET", content=False, answer=" SECRET")
    assert "SECRET" not in html
    assert "rlm-texts" not in html.replace(static("viewer.js"), "")
    assert "Content is not shown" in html


def test_limits_recoveries_divergence_and_no_isolation_are_said() -> None:
    html = page(
        state=JobState.FAILED, error=ErrorInfo(type="timeout", message="too late"), answer=None,
        diverged_cells=2, isolation="none",
    )  # fmt: skip
    for words in (
        "too late",
        "Replay diverged",
        "No isolation",
        "Root attempts failed",
        "ended without an answer",
    ):
        assert words in html


def test_a_waiting_job_has_a_page() -> None:
    html = page(count=0, state=JobState.QUEUED, started_ms=None, since_ms=None)
    assert "There is no answer yet." in html


def test_headings_are_in_order_and_ids_unique() -> None:
    html = page(HOSTILE)
    levels = [int(level) for level in re.findall(r"<h([1-6])", html.replace(static("viewer.js"), ""))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = re.findall(r' id="([^"]+)"', html.replace(static("viewer.js"), ""))
    assert len(ids) == len(set(ids))


def test_the_index_lists_each_job_with_its_file() -> None:
    batch = BatchRecord(
        id="night-3", state=BatchState.COMPLETED, counts={JobState.SUCCEEDED: 1}, total=1, sealed=True,
        created_ms=START_MS,
    )  # fmt: skip
    row = job_row(record(answer=f"Anna {HOSTILE}"), "j.html", content=True, now_ms=START_MS)
    html = "".join(index_html(batch, [row], content=True))
    ((_, data),) = [pair for pair in scripts(html) if "rlm-rows" in pair[0]]
    (shown,) = [dict(zip(JOB_COLUMNS, values, strict=True)) for values in json.loads(data)]
    assert (shown["file"], shown["custom_id"], shown["turns"]) == ("j.html", "letters-0042", 3)
    assert (shown["nanousd"], shown["ran_ms"]) == (432_100_000, 95_000)
    assert shown["note"].startswith("Anna ")
    assert job_row(record(), "j.html", content=False, now_ms=START_MS)[-1] is None
    failed = record(state=JobState.FAILED, answer=None, error=ErrorInfo(type="auth", message="SECRET"))
    assert job_row(failed, "j.html", content=False, now_ms=START_MS)[-1] == "auth"


@pytest.mark.parametrize("job_id", ["../../etc/passwd", "index", ".hidden", "a/b", "", "x" * 300, "a b"])
def test_a_name_that_is_not_plain_becomes_a_digest(job_id: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}\.html", file_name(job_id))


def test_a_plain_name_is_that_of_the_file() -> None:
    assert file_name("j4f0c2a9-1") == "j4f0c2a9-1.html"


def test_amounts_that_are_not_known_are_not_shown_as_nothing() -> None:
    assert (usd(None), usd(0), usd(0.00012)) == ("unknown", "$0.00", "$0.0001")
    assert [duration(s) for s in (None, 0.25, 12.34, 95, 7265)] == [
        "–",
        "250 ms",
        "12.3 s",
        "1 min 35 s",
        "2 h 1 min",
    ]


def test_child_jobs_tools_and_calls_in_vain_are_said_in_their_block() -> None:
    cell = ran(0, calls=3).model_copy(update={"unused_calls": 2})
    called = ToolCalled(name="find", call_id="t", seconds=0.5, ok=False, arguments=HOSTILE, result="no")
    asked = ChildrenAnswered(turn=0, children=3, failed=0, seconds=1.0, job_ids="")
    events = [at(0, started()), at(10, replied(0)), at(20, called), at(25, asked), at(30, cell)]
    shown = "".join(job_html(trajectory(record(), events, MODELS, now_ms=START_MS, content=True), iter(())))
    assert '<a href="#children">3 child jobs</a>' in shown
    assert "2 issued ahead and not used" in shown
    assert '1 tool call <span class="bad">1 failed</span>' in shown
    assert 'class="calls"' not in shown  # it made no sub-call
    assert "<img" not in shown
