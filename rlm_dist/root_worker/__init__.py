"""Runs jobs, one root loop each; may import worker, engine, sandbox and what worker may."""
