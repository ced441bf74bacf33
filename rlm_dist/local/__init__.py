"""Redis, worker processes and a small model on this machine; may import broker, settings and schema."""
