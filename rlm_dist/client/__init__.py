"""The Python client: checks and submits jobs and batches, and hands out handles to them; no model calls."""
