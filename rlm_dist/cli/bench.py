"""``rlm-dist bench``: what the system costs, measured on this machine."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from rlm_dist.bench import density as densities
from rlm_dist.bench import fair as fairness
from rlm_dist.bench import files
from rlm_dist.bench import rate as rates
from rlm_dist.bench import soak as soaks
from rlm_dist.bench import start as starts
from rlm_dist.bench import tree as trees
from rlm_dist.bench.beside_peers import missing
from rlm_dist.bench.machine import description
from rlm_dist.bench.quality.labelled import load_labelled
from rlm_dist.bench.quality_oracle import scale
from rlm_dist.bench.rows import Group, cells
from rlm_dist.bench.speed import measure
from rlm_dist.cli import options
from rlm_dist.cli.output import FAILED, Output, table
from rlm_dist.cli.quality import quality
from rlm_dist.operations.plots import check_plot, plot_shares

bench = typer.Typer(
    help="Measure what the system costs on this machine.", no_args_is_help=True, rich_markup_mode=None
)
bench.add_typer(quality, name="quality")
Groups = Annotated[
    list[Group] | None, typer.Option("--group", help="Only the rows of this group; may be repeated.")
]


@bench.command("files")
def bench_files(
    lines: Annotated[int, typer.Option(min=1, help="Lines of the long file.")] = 100_000,
    gigabytes: Annotated[float, typer.Option(min=0, help="Size of the large file.")] = 3.0,
    as_json: options.Json = False,
) -> None:
    """Submit a file of many lines and one of some gigabytes; read results: time and memory of each."""
    out = Output(as_json=as_json)
    measured: list[files.FileRow] = []
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as folder:
        for row in files.measure(Path(folder), lines=lines, gigabytes=gigabytes):
            out.note(f"{row.what}: {row.wall_s:.1f} s, peak {row.peak_mb:,.0f} MB")
            measured.append(row)
    out.result({"rows": measured}, lambda: table(list(files.table_rows(measured))))


@bench.command("speed")
def speed(
    quick: Annotated[bool, typer.Option("--quick", help="A shorter form, in a few minutes.")] = False,
    groups: Groups = None,
    as_json: options.Json = False,
) -> None:
    """Measure speed and memory with the simulated endpoint, beside the bare SDK and others' systems."""
    out = Output(as_json=as_json)
    wanted = groups or tuple(Group)
    unmeasured = missing() if Group.PEERS in wanted else None
    if unmeasured:
        out.note(unmeasured)
    measured = []
    for row in measure(quick=quick, groups=wanted):
        out.note(f"{row.what}: {row.value:.3g} {row.unit} ({row.aim})")
        measured.append(row)
    document = {
        "machine": description(),
        "quick": quick,
        "unmeasured": unmeasured,
        "rows": [row.model_dump() for row in measured],
    }
    out.result(document, lambda: [description(), *table(list(cells(measured)))])


@bench.command("rate")
def rate(plot: options.Plot = None, as_json: options.Json = False) -> None:
    """Measure how well the shared limits follow what endpoints take, beside the SDK and its retries."""
    out = Output(as_json=as_json)
    if plot is not None:
        check_plot(plot)
    measured = []
    for row in rates.measure():
        out.note(f"{row.case}, {row.who}: {row.used:.1%} used, {row.refused_share:.1%} refused")
        measured.append(row)
    if plot is not None:
        plot_shares(
            plot, "used of what an endpoint takes", [(row.case, row.who, row.used) for row in measured]
        )
    out.result({"rows": measured}, lambda: table(list(rates.cells(measured))))


@bench.command("soak")
def soak(
    jobs: Annotated[int, typer.Option(min=1, help="How many jobs, each of 23 model calls.")] = 10_000,
    as_json: options.Json = False,
) -> None:
    """Run a long batch over an endpoint with faults: time, memory, the ledger beside the true count."""
    found = soaks.measure(jobs)
    Output(as_json=as_json).result(found, lambda: table(soaks.rows(found)))
    if found.succeeded < jobs or not found.ledger_agrees:
        raise typer.Exit(FAILED)


@bench.command("density")
def density(
    jobs: Annotated[
        int, typer.Option(min=1, help="How many jobs wait at once: the slots of the one root worker.")
    ] = 64,
    as_json: options.Json = False,
) -> None:
    """Measure what a job holds while it waits for its model, beside others' systems."""
    out = Output(as_json=as_json)
    unmeasured = missing()
    if unmeasured:
        out.note(unmeasured)
    measured: list[densities.Density] = []
    for found in densities.measure(jobs):
        for row in found:
            out.note(f"{row.who}: {row.each_mb:.1f} MB a live job, {row.added_mb:.1f} of it added")
        measured.extend(found)
    document = {"machine": description(), "unmeasured": unmeasured, "rows": densities.documents(measured)}
    out.result(document, lambda: [description(), *table(list(densities.rows(measured)))])


@bench.command("tree")
def tree(
    width: Annotated[int, typer.Option(min=2, help="How many children each job has.")] = 20,
    as_json: options.Json = False,
) -> None:
    """Run a job with children and grandchildren over 4 slots a depth: its time by its bound."""
    found = trees.measure(width)
    Output(as_json=as_json).result(found, lambda: table(list(trees.rows(found))))


@bench.command("fair")
def fair(
    jobs: Annotated[int, typer.Option(min=1, help="How many small jobs.")] = 50,
    huge_calls: Annotated[int, typer.Option(min=1, help="Sub-calls of the huge job.")] = 10_000,
    as_json: options.Json = False,
) -> None:
    """Run small jobs alone and beside a huge one: how much longer does each take?"""
    found = fairness.measure(jobs, huge_calls)
    Output(as_json=as_json).result(found, lambda: table(list(fairness.rows(found))))


@bench.command("start")
def start(
    times: Annotated[int, typer.Option(min=1, help="How often each command runs.")] = 5,
    as_json: options.Json = False,
) -> None:
    """Measure how long commands take from nothing: --help, status, and a whole run on this machine."""
    found = starts.measure(times)
    document = {"machine": description(), "rows": found}
    Output(as_json=as_json).result(document, lambda: [description(), *table(list(starts.rows(found)))])


@bench.command("quality-scale")
def quality_scale(
    data: Annotated[str, typer.Option(metavar="PATH", help="A labelled set, such as TREC's questions.")],
    tokens: Annotated[int, typer.Option(min=1024, help="Length of the window in OOLONG's count.")] = 2**22,
    kind: Annotated[str, typer.Option(help="Kind of question: count_label, most_label, …")] = "count_label",
    error_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of lines that are misread.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the window and of the errors.")] = 0,
    kill: Annotated[bool, typer.Option(help="Kill a sub worker and the root worker meanwhile.")] = True,
    as_json: options.Json = False,
) -> None:
    """Ask one question over millions of tokens of a simulated model: score, cost, time, recovery."""
    found = scale.measure(
        load_labelled(data), tokens=tokens, kind=kind, error_rate=error_rate, seed=seed, kill=kill
    )
    Output(as_json=as_json).result(found, lambda: table(scale.rows(found)))
