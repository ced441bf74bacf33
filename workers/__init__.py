"""The Celery applications of the two kinds of worker."""
