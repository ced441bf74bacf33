"""A context: read from files, encoded, and cached by each worker; may import blobs and schema."""
