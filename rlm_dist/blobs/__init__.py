"""Contexts and long texts, stored as bytes under their content hash."""
