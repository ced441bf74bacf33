"""Ends of a REPL process that the host distinguishes from those that model-written code causes."""

EXIT_MEMORY = 71
EXIT_BROKEN = 72
SERVER_DIED = "the fork-server died"
