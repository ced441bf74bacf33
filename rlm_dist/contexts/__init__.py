"""Contexts: their encoding, the files that they are read from, and a worker's cache of them."""
