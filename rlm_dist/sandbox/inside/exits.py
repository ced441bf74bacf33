"""Ends of a REPL process that the host tells apart from those that model-written code makes."""

EXIT_MEMORY = 71
EXIT_BROKEN = 72
SERVER_DIED = "the fork-server died"
