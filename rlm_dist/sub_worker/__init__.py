"""sub_worker."""
