"""``rlm-dist model`` and ``rlm-dist demo``: the small model on this machine, and the demonstration."""

import os
import shlex
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
from rlm_dist.operations.demo import Demo, DemoTurns, make_demo
from rlm_dist.operations.trace_text import calls
from rlm_dist.schema import JobState, Result, Wire
from rlm_dist.settings import Settings, load_settings
from rlm_dist.simulated import SimulatedEndpoint

model = typer.Typer(help="The small model on this machine.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", help="A built-in model's name, or a model file.")]
_MB = 1_000_000
_GB = 1_000_000_000


class DemoAnswer(Wire):
    """One question of the demonstration with its answer and the right answer."""

    question: str
    truth: str
    right: bool
    result: Result


@model.command("pull")
def pull_model(
    source: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A built-in model's name, a .gguf file, or org/repo:file.gguf."),
    ] = DEFAULT.name,
    sha256: Annotated[str | None, typer.Option(help="The expected SHA-256 of the file.")] = None,
    as_json: options.Json = False,
) -> None:
    """Download a small model's weights into RLM_HOME and check their hash."""
    out = Output(as_json=as_json)
    path = _pull(source, load_settings().home, out, sha256=sha256)
    out.result({"model": source, "path": str(path)}, lambda: [str(path)])


@model.command("serve")
def serve_model(
    name: Name = DEFAULT.name,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free port.")] = 8080,
    as_json: options.Json = False,
) -> None:
    """Serve a pulled model as an OpenAI-compatible endpoint on 127.0.0.1, until Ctrl-C."""
    with suppress(KeyboardInterrupt), local_endpoint(load_settings().home, name, port=port) as endpoint:
        document = {"url": endpoint.url, "model": endpoint.model, "pid": endpoint.pid}
        Output(as_json=as_json).result(
            document, lambda: [f"{endpoint.model}: {endpoint.url}", "Ctrl-C stops it."]
        )
        threading.Event().wait()


def demo(
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Use a scripted model; no download.")
    ] = False,
    name: Annotated[
        str, typer.Option("--model", metavar="NAME", help="The small model to use.")
    ] = DEFAULT.name,
    as_json: options.Json = False,
) -> None:
    """Answer questions about the source of Python's library on this machine; show the right answers, too."""
    out = Output(as_json=as_json)
    given = load_settings()
    with ExitStack() as resources:
        settings = resources.enter_context(_endpoint(given, name, out, simulated=simulated))
        content = make_demo()
        size = f"{len(content.text) / _MB:.1f} million characters"
        out.note(f"the text: {content.files} source files of Python's own library, {size}")
        client = resources.enter_context(Client(settings))
        out.note("starting a root and a sub worker")
        answers = list(_ask(client, content, out))
    document = {"simulated": simulated, "model": settings.model, "answers": answers}
    out.result(document, lambda: _summary(answers, simulated=simulated))
    for line in _next_steps(given, answers[-1].result.id, simulated=simulated):
        out.note(line)
    raise typer.Exit(DONE if all(answer.result.state is JobState.SUCCEEDED for answer in answers) else FAILED)


def _ask(client: Client, content: Demo, out: Output) -> Iterator[DemoAnswer]:
    for question in content.questions:
        out.note(f"\nquestion: {question.text}")
        job = client.submit(content.text, question.text)
        result = follow(job, out, DemoTurns().lines)
        if result.state is JobState.CANCELLED:  # by Ctrl-C, which ends the whole demonstration
            raise Cancelled(job.id)
        right = question.is_right(result.answer)
        out.note(f"answer: {result.answer}  truth: {question.truth}  {'right' if right else 'WRONG'}")
        yield DemoAnswer(question=question.text, truth=question.truth, right=right, result=result)


def _summary(answers: list[DemoAnswer], *, simulated: bool) -> Iterator[str]:
    if simulated:
        yield "SIMULATED: a script played the models; the workers, the queue and the REPL are real."
    for answer in answers:
        costs = answer.result.costs
        yield f"{'right' if answer.right else 'WRONG'}  {answer.question}"
        yield f"       answer {answer.result.answer}, truth {answer.truth}"
        yield (
            f"       {calls(answer.result.iterations, 'turn')}, {calls(costs.sub_llm_calls)}, "
            f"{costs.root_llm_tokens + costs.sub_llm_tokens:,} tokens, "
            f"{answer.result.timing.run_s or 0:.1f} s"
        )
    yield f"{sum(answer.right for answer in answers)} of {len(answers)} right"


def _next_steps(given: Settings, job_id: str, *, simulated: bool) -> Iterator[str]:
    without = "env -u RLM_REDIS_URL " if given.redis_url is not None else ""
    home = shlex.quote(str(_home(given)))
    local = "rlm-dist demo" if simulated else "rlm-dist run --local --context FILE --query TEXT"
    yield "\nnext:"
    yield f"  look at a job again: {without}RLM_HOME={home} rlm-dist trace {job_id}"
    yield f"  {'a real small model' if simulated else 'a text of your own'}: {local}"
    yield "  a model of your own: set RLM_API_URL, RLM_API_KEY and RLM_MODEL, and ask rlm-dist doctor"
    yield "  many questions: rlm-dist up, and rlm-dist submit FILE.jsonl; see docs/batches.md"


def _home(given: Settings) -> Path:
    """The home of the demonstration's cluster, where its jobs can be looked at afterwards."""
    return given.home / "demo"


@contextmanager
def _endpoint(settings: Settings, name: str, out: Output, *, simulated: bool) -> Iterator[Settings]:
    """Settings of a separate cluster: the demonstration's jobs must not go to workers with another model."""
    separate = settings.model_copy(update={"redis_url": None, "blob_url": None, "home": _home(settings)})
    if simulated:
        out.note("SIMULATED: no model is called; a script plays the root and the sub model")
        with SimulatedEndpoint() as endpoint:
            yield _with_endpoint(separate, endpoint.url, "auto")
        return
    with small_model(separate, out, name=name, weights_home=settings.home) as local_settings:
        yield local_settings


@contextmanager
def small_model(
    settings: Settings, out: Output, *, name: str = DEFAULT.name, weights_home: Path | None = None
) -> Iterator[Settings]:
    """Serve a small model, downloading it if it is missing; yield settings that use it for all calls."""
    home = weights_home or settings.home
    _ensure_pulled(name, home, out)
    with local_endpoint(home, name) as local:
        out.note(f"serving {local.model} on this machine: its answers take seconds to minutes")
        yield _with_endpoint(settings, local.url, local.model).model_copy(update={"prompts": "small"})


def _with_endpoint(settings: Settings, url: str, name: str) -> Settings:
    """Settings that send all calls to one endpoint on this machine, without keys and extra headers.

    Every value is set explicitly: workers take the values that are not set from the environment.
    """
    no_key = SecretStr("none")
    models = {"model": name, "sub_model": name, "api_key": no_key, "sub_api_key": no_key}
    no_headers = {"extra_headers": SecretStr("{}"), "sub_extra_headers": SecretStr("{}")}
    urls = {"api_url": url, "sub_api_url": url, "endpoints": Path(os.devnull)}
    return settings.model_copy(update={**models, **no_headers, **urls})


def _ensure_pulled(name: str, home: Path, out: Output) -> None:
    """Download the weights of a built-in model if they are missing, after saying how large they are."""
    try:
        weights(home, name)
    except InputError:
        entry = next((entry for entry in MODELS if entry.name == name), None)
        if entry is None:
            raise
        out.note(f"downloading {name} ({entry.size_bytes / _GB:.2f} GB, {entry.licence}) to {home}")
        _pull(name, home, out)


def _pull(source: str, home: Path, out: Output, *, sha256: str | None = None) -> Path:
    with out.panel() as show:

        def progress(bytes_read: int, total: int) -> None:
            share = (
                f"{100 * bytes_read // total} % of {total / _GB:.2f} GB" if total else "size not known yet"
            )
            show(f"{source}: {share}")

        return pull(source, home=home, sha256=sha256, progress=progress)
