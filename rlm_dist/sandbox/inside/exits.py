"""Exit codes of the REPL process that the host tells apart from those of model-written code."""

EXIT_MEMORY = 71
EXIT_BROKEN = 72
