"""The root worker: runs one job at a time, with its lease, root loop, REPL and calls."""
