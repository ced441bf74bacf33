"""Submits jobs and batches and reads their results; may import store, blobs, contexts, broker and local.

It never imports llm, engine, sandbox or a worker: to submit a job loads no model SDK.
"""
