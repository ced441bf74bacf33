"""``celery -A APP worker`` without Celery's other commands, run as ``-m`` with the module and the options.

``celery`` loads all of its commands and those of every package that adds one, Flower among them: a quarter of
the time that a worker takes to start.
"""

import gc
import sys
from importlib import import_module

from celery.bin.base import CLIContext
from celery.bin.worker import worker


def main() -> None:
    """Become the worker of the application in the module that is named first."""
    module, *options = sys.argv[1:]
    gc.disable()  # it would visit all that is loaded again and again, and find nothing
    app = import_module(module).app
    gc.enable()
    context = CLIContext(app=app, no_color=True, workdir=None)
    try:
        worker.main(args=options, prog_name="celery worker", obj=context, auto_envvar_prefix="CELERY_WORKER")
    finally:
        gc.freeze()  # the last collections would visit all that is loaded


if __name__ == "__main__":
    main()
