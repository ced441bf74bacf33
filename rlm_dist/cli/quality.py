"""``rlm-dist bench quality``: how right methods and models are on tasks with known answers, and at what cost.

A run lives in a folder. The same command takes a run up that was stopped; ``report`` shows one as far as it
is, and ``compare`` sets two runs, or two methods of one, side by side.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from rlm_dist.bench.quality_runs.comparison import QualityDifference, difference_lines, differences
from rlm_dist.bench.quality_runs.folder import RunFolder, RunRecord
from rlm_dist.bench.quality_runs.methods import AUTO, BASE, RLM, QualityMethod, chosen_methods
from rlm_dist.bench.quality_runs.models import find_root_model
from rlm_dist.bench.quality_runs.report import (
    PlotPoint,
    QualityReport,
    cost_series,
    is_simulated,
    make_report,
    report_lines,
    score_series,
)
from rlm_dist.bench.quality_runs.running import RunProgress, is_complete, queue_of, run_methods
from rlm_dist.bench.quality_runs.tasks import TASKS, TaskChoice
from rlm_dist.cli import options
from rlm_dist.cli.one_job import endpoint_of
from rlm_dist.cli.oracle import check_oracle, separate_cluster, serve_oracle
from rlm_dist.cli.output import CANCELLED, Output, money, table
from rlm_dist.cli.session import note_missing_workers, presence
from rlm_dist.cli.small_model import for_small_model
from rlm_dist.client.client import Client
from rlm_dist.client.options import read_options
from rlm_dist.errors import InputError, SettingsError
from rlm_dist.local.home import is_up
from rlm_dist.operations.plots import has_matplotlib, plot_against_length
from rlm_dist.sandbox.packages import find
from rlm_dist.schema import PromptFamily
from rlm_dist.settings import Settings, load_settings
from rlm_dist.simulated.server import SUB_MODEL

quality = typer.Typer(
    help="Run tasks with known answers: is a method right, at what cost, and how far does it scale?",
    invoke_without_command=True,
    rich_markup_mode=None,
)
DEFAULT_METHODS = f"{RLM},{BASE}"
_SETTINGS = (
    *("sub_model", "max_iterations", "max_output_chars", "early_final", "ask_at_limit"),
    *("temperature", "sub_temperature", "reasoning_effort", "sub_reasoning_effort"),
)
_LINE_S = 10.0
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run.")]


Tasks = Annotated[str | None, typer.Option(metavar="NAMES", help=f"With commas: {', '.join(TASKS)}.")]
Data = Annotated[
    list[str] | None,
    typer.Option(metavar="[TASK=]PATH", help="A labelled set, your own tasks, …; may be repeated."),
]
Tokens = Annotated[str | None, typer.Option(metavar="LENGTHS", help="Tokens of the inputs, with commas.")]
Ablate = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Compare rlm with: prompts, early-final, ask-at-limit, compaction."),
]
Window = Annotated[
    int | None, typer.Option(min=1_000, help="Tokens of the root model's window. [default: as published]")
]
Oracle = Annotated[bool, typer.Option("--oracle", help="Simulate models that know the truth; no model runs.")]
ErrorRate = Annotated[
    float, typer.Option(min=0, max=1, help="Share of lines, sentences or files that the oracle misreads.")
]
RunPath = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="The folder of the run.")
]


@quality.callback()
@options.takes_job_options
def run(
    context: typer.Context,
    task: Tasks = None,
    data: Data = None,
    tokens: Tokens = None,
    items: Annotated[int, typer.Option(min=1, help="Items of each task at each length.")] = 10,
    method: Annotated[str, typer.Option(metavar="NAMES", help="Methods, with commas.")] = DEFAULT_METHODS,
    ablate: Ablate = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the items and of the intervals.")] = 0,
    window: Window = None,
    output: RunPath = None,
    job: options.JobOptions = options.NO_JOB_OPTIONS,
    cache: options.Cache = None,
    prompts: options.Prompts = None,
    local: options.Local = False,
    oracle: Oracle = False,
    error_rate: ErrorRate = 0.0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run the methods on the items and report; the same command takes up what was stopped."""
    if context.invoked_subcommand is not None:
        return
    if output is None:
        raise InputError(("-o: name a folder for the run",))
    names = _names(task)
    sources, lengths = _data(data or (), names), _lengths(tokens)
    choice = TaskChoice(tasks=names, data=sources, tokens=lengths, items=items, seed=seed)
    asked = {**dict(job), **options.given(cache=cache)}
    read_options(asked)
    given = _given_settings(local=local, oracle=oracle)
    defaults = _recorded(given, prompts or ("small" if local else None))
    methods = chosen_methods(_names(method), _names(ablate), {**defaults, **asked})
    _check_options(asked, methods, local=local, oracle=oracle, error_rate=error_rate)
    if oracle:
        defaults |= {"sub_model": SUB_MODEL, "error_rate": error_rate}
    settings = _with_libraries(given, {name for each in methods for name in each.libraries})
    out, folder = Output(as_json=as_json, quiet=quiet), RunFolder(output)
    with folder.held(), ExitStack() as held:
        if oracle:
            settings = held.enter_context(serve_oracle(settings, choice, folder.path, error_rate=error_rate))
        elif local:  # the record of the run has its name
            settings, _ = held.enter_context(endpoint_of(settings, out, local=True, prompts=prompts))
        _check_endpoints(settings, {each.name for each in methods if each.own_model or each.name == AUTO})
        root = find_root_model(settings, asked.get("model"), window)
        chosen = tuple(each.name for each in methods)
        wanted = RunRecord(choice=choice, methods=chosen, root=root, options=asked, settings=defaults)
        record = folder.begin(wanted)
        if not is_complete(folder, record):
            if not local:
                settings, check = held.enter_context(endpoint_of(settings, out, local=False, prompts=prompts))
                check()
            _run(settings, folder, record, out)
        report = make_report(folder)
    _finish(folder, report, out)


def _given_settings(*, local: bool, oracle: bool) -> Settings:
    """The settings of this command, for the model that it asks."""
    settings = load_settings()
    if oracle:
        return separate_cluster(settings)
    return for_small_model(settings) if local else settings


def _check_options(
    asked: options.JobOptions,
    methods: Sequence[QualityMethod],
    *,
    local: bool,
    oracle: bool,
    error_rate: float,
) -> None:
    """Refuse options that would have no effect, and what the oracle cannot play."""
    problems = []
    if local and oracle:
        problems.append("--oracle: there is one model in a run; leave out --oracle or --local")
    if error_rate and not oracle:
        problems.append("--error-rate: is that of --oracle")
    if "max_depth" in asked:
        problems.append(f"--max-depth: the method sets it: {RLM} is depth 1, {RLM}-depth-2 depth 2")
    if problems:
        raise InputError(tuple(problems))
    if oracle:
        check_oracle(methods, asked)


def _run(settings: Settings, folder: RunFolder, record: RunRecord, out: Output) -> None:
    alone = settings.redis_url is None and not is_up(settings.home)
    if alone:
        settings = settings.model_copy(update={"broker_prefix": queue_of(record)})
    with Client(settings) as client, out.panel(every_s=_LINE_S) as show:
        if alone:
            out.note("starting a root and a sub worker")
        else:
            note_missing_workers(client.store, out)
        try:
            run_methods(client, folder, record, lambda progress: show(_progress_line(progress)))
        except KeyboardInterrupt:
            out.note(f"interrupted; the same command goes on from here: {folder.path} has what has ended")
            raise typer.Exit(CANCELLED) from None


def _progress_line(progress: RunProgress) -> str:
    mean = f", score {100 * progress.score / progress.ended:.1f}" if progress.ended else ""
    paid = f", {money(progress.cost)}" if progress.ended else ""
    return f"{progress.method}: {progress.ended} of {progress.total} jobs have ended{mean}{paid}"


@quality.command("report")
def report_(folder: Folder, as_json: options.Json = False) -> None:
    """Show a run as far as it is, and draw its plots."""
    run_folder = RunFolder(folder)
    _finish(run_folder, make_report(run_folder), Output(as_json=as_json))


@quality.command("compare")
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER [FOLDER]", help="One run, or two.")],
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Two, with commas: of one run, or the first of one and second of two."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show differences by item of two methods of a run, or of the methods that two runs share."""
    out, names = Output(as_json=as_json), _names(method)
    if len(folders) > 2:
        raise InputError(("compare: give one run or two",))
    runs = [RunFolder(folder) for folder in folders]
    records = [each.record() for each in runs]
    found: list[QualityDifference] = []
    for first, second in _pairs(records, names):
        rows = [
            [row for row in each.rows() if row.method == name]
            for each, name in ((runs[0], first), (runs[-1], second))
        ]
        labels = (_label(records[0], first, len(runs)), _label(records[-1], second, len(runs)))
        found += differences(rows[0], rows[1], names=labels, seed=records[0].choice.seed)
    simulated = any(
        is_simulated(record, [batch.models for batch in each.batches().values()])
        for each, record in zip(runs, records, strict=True)
    )
    document = {"simulated": simulated, "differences": [each.model_dump() for each in found]}
    out.result(document, lambda: list(difference_lines(found, table, simulated=simulated)))


def _pairs(records: Sequence[RunRecord], names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of methods to compare, of the first run and the last one."""
    first, last = records[0].methods, records[-1].methods
    if names:
        if len(names) != 2:
            raise InputError(("--method: name two methods, with a comma",))
        missing = [name for name, known in zip(names, (first, last), strict=True) if name not in known]
        if missing:
            raise InputError((f"--method: not in the run: {', '.join(missing)}",))
        return [(names[0], names[1])]
    if len(records) == 2:
        common = [(name, name) for name in first if name in last]
        if not common:
            raise InputError(("compare: the runs have no method in common; name two with --method",))
        return common
    if len(first) < 2:
        raise InputError(("compare: the run has one method; give a second run",))
    return [(first[0], other) for other in first[1:]]


def _label(record: RunRecord, method: str, runs: int) -> str:
    return f"{record.id} {method}" if runs == 2 else method


def _finish(folder: RunFolder, report: QualityReport, out: Output) -> None:
    """Store the report, draw it and show it."""
    folder.write_value("report.json", report)
    if not report.rows:
        pass
    elif has_matplotlib():
        _draw(folder, report)
    else:
        out.note("no plots: they need pip install 'rlm-dist[plot]'")
    out.result(report, lambda: list(report_lines(report, table)))


def _draw(folder: RunFolder, report: QualityReport) -> None:
    mark = " (simulated models)" if report.simulated else ""
    drawn: tuple[tuple[str, str, Callable[[QualityReport, str], Mapping[str, list[PlotPoint]]]], ...] = (
        ("score", "score in %, with 95 % intervals", score_series),
        ("cost", "mean cost of a job in USD, up to the 95th percentile", cost_series),
    )
    for task in dict.fromkeys(row.task for row in report.rows):
        safe = "".join(char if char.isalnum() or char in "-_" else "_" for char in task)
        for what, label, series_of in drawn:
            series = {
                name: [(point.tokens, point.value, point.low, point.high) for point in points]
                for name, points in series_of(report, task).items()
            }
            if series:
                plot_against_length(folder.path / f"{what}-{safe}.svg", f"{task}{mark}", label, series)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))


def _lengths(text: str | None) -> tuple[int, ...]:
    try:
        lengths = tuple(int(name.replace("_", "")) for name in _names(text))
    except ValueError:
        raise InputError(("--tokens: must be whole numbers with commas, such as 8192,32768",)) from None
    if any(length < 1 for length in lengths):
        raise InputError(("--tokens: must be at least 1",))
    return lengths


def _data(sources: Sequence[str], tasks: Sequence[str]) -> dict[str, str]:
    """The sources by task, with full paths; one without a task is for all of them."""
    found: dict[str, str] = {}
    for source in sources:
        task, equals, path = source.partition("=")
        named = bool(equals) and task in TASKS
        full = _absolute(path if named else source)
        found |= dict.fromkeys([task] if named else tasks, full)
    return found


def _absolute(source: str) -> str:
    """A source by its full path, so that a run is taken up again from any folder."""
    return source if source.startswith("hf:") else str(Path(source).expanduser().absolute())


def _with_libraries(settings: Settings, names: set[str]) -> Settings:
    """The settings whose own workers let code import these libraries; others have to have them.

    Raises:
        InputError: they are not installed here.
    """
    if not names:
        return settings
    try:
        find(sorted(names))
    except SettingsError:
        needed = f"the REPL needs {', '.join(sorted(names))}"
        raise InputError((f"--method codeact-bm25: {needed}: pip install 'rlm-dist[quality]'",)) from None
    packages = tuple(dict.fromkeys([*settings.sandbox_packages, *sorted(names)]))
    return settings.model_copy(update={"sandbox_packages": packages})


def _check_endpoints(settings: Settings, own_model: set[str]) -> None:
    """Check that sub-calls reach the root model's endpoint, for methods that ask it so."""
    if own_model and settings.endpoints is None and settings.sub_url != settings.api_url:
        shown = ", ".join(sorted(own_model))
        problem = "asks the root model by sub-calls, which go to RLM_SUB_API_URL here"
        raise InputError((f"--method {shown}: {problem}; leave it unset, or list both in RLM_ENDPOINTS",))


def _recorded(settings: Settings, prompts: PromptFamily | None) -> dict[str, Any]:
    """The settings that change answers, without secrets."""
    up = presence(settings.home) if settings.redis_url is None else None
    family = settings.with_prompts(prompts or (up.prompts if up else None)).prompt_family
    return {**{name: getattr(settings, name) for name in _SETTINGS}, "prompts": family}
