"""local.redis."""
