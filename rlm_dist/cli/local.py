"""``rlm-dist model`` and ``rlm-dist demo``: the small model on this machine, and the first run."""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from rlm_dist.cli import options
from rlm_dist.cli.follow import follow
from rlm_dist.cli.output import DONE, FAILED, Output
from rlm_dist.client.client import Client
from rlm_dist.errors import Cancelled, InputError
from rlm_dist.local.model import DEFAULT, MODELS, local_endpoint, pull, weights
from rlm_dist.operations.demo import Demo, Question, make_demo
from rlm_dist.schema import JobState, Result, Wire
from rlm_dist.settings import Settings, load_settings
from rlm_dist.simulated import SimulatedEndpoint

model = typer.Typer(help="The small model on this machine.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", help="A name known here, or the file of a model.")]
_MB = 1_000_000
_GB = 1_000_000_000


class DemoAnswer(Wire):
    """One question of the demonstration with its answer and the truth beside it."""

    question: str
    truth: str
    right: bool
    result: Result


@model.command("pull")
def pull_model(
    source: Annotated[
        str, typer.Argument(metavar="NAME", help="A name known here, a .gguf file, or org/repo:file.gguf.")
    ] = DEFAULT.name,
    sha256: Annotated[str | None, typer.Option(help="What the file must hash to.")] = None,
    as_json: options.Json = False,
) -> None:
    """Fetch a small model's weights into RLM_HOME, and check their hash."""
    out = Output(as_json=as_json)
    path = _pull(source, load_settings().home, out, sha256=sha256)
    out.result({"model": source, "path": str(path)}, lambda: [str(path)])


@model.command("serve")
def serve_model(
    name: Name = DEFAULT.name,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    as_json: options.Json = False,
) -> None:
    """Serve a model that was pulled, as an OpenAI-compatible endpoint on 127.0.0.1, until Ctrl-C."""
    with suppress(KeyboardInterrupt), local_endpoint(load_settings().home, name, port=port) as endpoint:
        shown = {"url": endpoint.url, "model": endpoint.model, "pid": endpoint.pid}
        Output(as_json=as_json).result(
            shown, lambda: [f"{endpoint.model}: {endpoint.url}", "Ctrl-C stops it."]
        )
        threading.Event().wait()


def demo(
    simulated: Annotated[bool, typer.Option("--simulated", help="A scripted model: no download.")] = False,
    name: Annotated[
        str, typer.Option("--model", metavar="NAME", help="The small model to use.")
    ] = DEFAULT.name,
    as_json: options.Json = False,
) -> None:
    """Answer questions over the Python library's source on this machine, the truth beside each answer."""
    out = Output(as_json=as_json)
    given = load_settings()
    with ExitStack() as held:
        settings = held.enter_context(_endpoint(given, name, out, simulated=simulated))
        prepared = make_demo()
        size = f"{len(prepared.text) / _MB:.1f} million characters"
        out.note(f"the text: {prepared.files} source files of Python's own library, {size}")
        client = held.enter_context(Client(settings))
        out.note("starting a root and a sub worker")
        answered = list(_ask(client, prepared, out))
    document = {"simulated": simulated, "model": settings.model, "answers": answered}
    out.result(document, lambda: _summary(answered, simulated=simulated))
    raise typer.Exit(DONE if all(each.result.state is JobState.SUCCEEDED for each in answered) else FAILED)


def _ask(client: Client, prepared: Demo, out: Output) -> Iterator[DemoAnswer]:
    for question in prepared.questions:
        out.note(f"\nquestion: {question.text}")
        job = client.submit(prepared.text, question.text)
        result = follow(job, out)
        if result.state is JobState.CANCELLED:  # by Ctrl-C, which is meant for the whole demonstration
            raise Cancelled(job.id)
        answered = _judged(question, result)
        out.note(
            f"answer: {result.answer}  truth: {question.truth}  {'right' if answered.right else 'WRONG'}"
        )
        yield answered


def _judged(question: Question, result: Result) -> DemoAnswer:
    right = question.is_right(result.answer)
    return DemoAnswer(question=question.text, truth=question.truth, right=right, result=result)


def _summary(answered: list[DemoAnswer], *, simulated: bool) -> Iterator[str]:
    if simulated:
        yield "SIMULATED: a script played the models; the workers, the queue and the REPL are real."
    for each in answered:
        costs = each.result.costs
        yield f"{'right' if each.right else 'WRONG'}  {each.question}"
        yield f"       answer {each.result.answer}, truth {each.truth}"
        yield (
            f"       {each.result.iterations} turns, {costs.sub_llm_calls} sub-calls, "
            f"{costs.root_llm_tokens + costs.sub_llm_tokens:,} tokens, {each.result.timing.run_s or 0:.1f} s"
        )
    yield f"{sum(each.right for each in answered)} of {len(answered)} right"


@contextmanager
def _endpoint(given: Settings, name: str, out: Output, *, simulated: bool) -> Iterator[Settings]:
    """Settings of a cluster apart: the demonstration's jobs must not go to workers with another model."""
    apart = given.model_copy(update={"redis_url": None, "blob_url": None, "home": given.home / "demo"})
    if simulated:
        out.note("SIMULATED: no model is asked; a script plays root and sub model")
        with SimulatedEndpoint() as endpoint:
            yield _asking(apart, endpoint.url, "auto")
        return
    with small_model(apart, out, name=name, weights_home=given.home) as settings:
        yield settings


@contextmanager
def small_model(
    given: Settings, out: Output, *, name: str = DEFAULT.name, weights_home: Path | None = None
) -> Iterator[Settings]:
    """Serve a small model, fetched first where it is missing; yield settings that ask it for everything."""
    home = weights_home or given.home
    _ensure_pulled(name, home, out)
    with local_endpoint(home, name) as local:
        out.note(f"serving {local.model} on this machine: its answers take seconds to minutes")
        yield _asking(given, local.url, local.model).model_copy(update={"prompts": "small"})


def _asking(given: Settings, url: str, name: str) -> Settings:
    """Settings that ask one endpoint on this machine for everything, and show it no key and no header.

    Each value is named, not left out: workers inherit what the environment says of those that are not.
    """
    nothing = SecretStr("none")
    models = {"model": name, "sub_model": name, "api_key": nothing, "sub_api_key": nothing}
    no_headers = {"extra_headers": SecretStr("{}"), "sub_extra_headers": SecretStr("{}")}
    urls = {"api_url": url, "sub_api_url": url, "endpoints": Path(os.devnull)}
    return given.model_copy(update={**models, **no_headers, **urls})


def _ensure_pulled(name: str, home: Path, out: Output) -> None:
    """Fetch the weights of a model known by name where they are missing, saying their size first."""
    try:
        weights(home, name)
    except InputError:
        known = next((each for each in MODELS if each.name == name), None)
        if known is None:
            raise
        out.note(f"fetching {name} ({known.size_bytes / _GB:.2f} GB, {known.licence}) into {home}")
        _pull(name, home, out)


def _pull(source: str, home: Path, out: Output, *, sha256: str | None = None) -> Path:
    with out.panel() as show:

        def progress(done: int, total: int) -> None:
            share = f"{100 * done // total} % of {total / _GB:.2f} GB" if total else "of a size not known yet"
            show(f"{source}: {share}")

        return pull(source, home=home, sha256=sha256, progress=progress)
