"""root_worker."""
