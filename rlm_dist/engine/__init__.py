"""The loop of a root model, which does no I/O; may import schema."""
