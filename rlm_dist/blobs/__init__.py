"""Stored bytes, found by the hash of their content: contexts, long texts and answers; may import store."""
