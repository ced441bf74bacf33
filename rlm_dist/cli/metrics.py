"""``rlm-dist metrics``: numbers for scalers and monitors."""

import typer

from rlm_dist.broker.app import message_lists
from rlm_dist.cli import options
from rlm_dist.cli.output import Output, table
from rlm_dist.cli.session import open_stores
from rlm_dist.settings import load_settings

metrics = typer.Typer(help="Numbers for scalers and monitors.", no_args_is_help=True, rich_markup_mode=None)


@metrics.command("backlog")
def backlog(as_json: options.Json = False) -> None:
    """Show what waits and runs: jobs, calls and messages by queue, and the slots of the live workers."""
    settings = load_settings()
    with open_stores(settings) as (store, _):
        lists = message_lists(settings.broker_prefix, settings.max_depth)
        found = store.backlog.read(lists, settings.max_depth)
    rows = [(name, f"{number:,}") for name, number in found.fields().items()]
    Output(as_json=as_json).result(found, lambda: list(table([("NAME", "NUMBER"), *rows])))
