"""The table of commands, and a group that loads only the module of the command that is named.

``--help`` and completion show the table; to load every command takes ten times as long.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group


class CommandEntry(NamedTuple):
    """Where a command is (``module:attribute`` of this package), and its help, which is its docstring."""

    place: str
    help: str


COMMANDS = {
    "run": CommandEntry(
        "run:run",
        "Answer one query over a context. Without RLM_REDIS_URL it starts what it needs, and stops it.",
    ),
    "submit": CommandEntry(
        "batches:submit",
        "Enqueue a batch and print its id. Models and limits are for the lines that do not set their own.",
    ),
    "status": CommandEntry(
        "status:status",
        "Show one job or batch, or list the newest, running ones first; --watch alone shows the newest one.",
    ),
    "list": CommandEntry(
        "listing:list_",
        "List batches or jobs, the newest first; the jobs of a batch by line or in another order.",
    ),
    "top": CommandEntry(
        "top:top",
        "Show what runs now, batches and jobs, until Ctrl-C; without a terminal, show it once.",
    ),
    "results": CommandEntry(
        "batches:results",
        "Write a batch's results as JSON lines, in order of submission, as far as they are there.",
    ),
    "export": CommandEntry(
        "export:export",
        "Write the trajectories of a batch's jobs as JSON lines for training; they hold prompts and answers.",
    ),
    "wait": CommandEntry(
        "wait:wait",
        "Wait until a job or batch has ended. The exit code is 0 only if every job has its answer.",
    ),
    "cost": CommandEntry(
        "cost:cost",
        "Show calls, tokens and money of a job or batch by role and model, or of all of them by tag.",
    ),
    "metrics": CommandEntry("metrics:metrics", "Numbers for scalers and monitors."),
    "limits": CommandEntry(
        "limits:limits", "What the workers may ask of each endpoint and model, and ceilings for all of them."
    ),
    "cancel": CommandEntry(
        "control:cancel", "Cancel a job, or all jobs of a batch. Jobs that have ended stay as they are."
    ),
    "pause": CommandEntry(
        "control:pause",
        "Pause a batch: start no more of its jobs and sub-calls, and let calls under way finish.",
    ),
    "resume": CommandEntry("control:resume", "Resume a paused batch."),
    "retry": CommandEntry(
        "retry:retry",
        "Rerun the jobs of a batch that have no answer; the calls they paid for are kept and still count.",
    ),
    "finish": CommandEntry(
        "control:finish",
        "Fail the running jobs of a batch that have made no progress for a while; leave the others running.",
    ),
    "delete": CommandEntry(
        "delete:delete",
        "Remove a job or batch that has ended: answers, costs, trace, and contexts that no other job uses.",
    ),
    "trace": CommandEntry(
        "trace:trace", "Show the trajectory of a job: messages, code, outputs, sub-calls, times and costs."
    ),
    "worker": CommandEntry(
        "worker:worker",
        "Run a worker: celery -A rlm_dist.ROLE_worker.app worker, with the right queue, pool and options.",
    ),
    "flower": CommandEntry(
        "monitor:flower",
        "Show batches, jobs, endpoints, workers and tasks in the browser.\n\n"
        "Set FLOWER_BASIC_AUTH=user:password to require a password.",
    ),
    "up": CommandEntry(
        "monitor:up",
        "Run a whole cluster on this machine until Ctrl-C: Redis (if none is set), workers and Flower.",
    ),
    "model": CommandEntry("local:model", "The small model on this machine."),
    "demo": CommandEntry(
        "local:demo",
        "Answer questions about the source of Python's library on this machine; show the right answers, too.",
    ),
    "doctor": CommandEntry(
        "doctor:doctor",
        "Check settings, Redis, workers, blob store, sandbox, model endpoint and versions.",
    ),
    "env": CommandEntry(
        "env:env",
        'Print what Celery\'s own commands need: eval "$(rlm-dist env)". It has the password of Redis.',
    ),
    "simulate": CommandEntry(
        "simulate:simulate",
        "Serve scripted models under an address, which it prints as JSON, until Ctrl-C: "
        "for trying and tests.",
    ),
    "bench": CommandEntry("bench:bench", "Measure what the system costs on this machine."),
}


@contextmanager
def without_collections() -> Iterator[None]:
    """Collect no garbage while modules are loaded: a third of their time, for nothing.

    Nor is what has been loaded visited later, at the latest when the process ends.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class LazyGroup(TyperGroup):
    """A group whose commands are entries of the table until one of them is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The name of the command, the loaded command, and its arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            with without_collections():
                command = load_command(str(name))
        return name, command, rest


def load_command(name: str) -> Any:
    """The command of this name, from its module."""
    module, _, attribute = COMMANDS[name].place.partition(":")
    command = getattr(import_module(f"rlm_dist.cli.{module}"), attribute)
    if isinstance(command, typer.Typer):
        return get_group(command)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name)(command)
    return get_command(alone)


def not_loaded() -> None:
    """Stands for each command in the group; ``LazyGroup`` replaces it."""
