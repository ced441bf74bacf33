"""Celery and its broker: the application and its queues, sending tasks, and fixes of Celery and kombu."""
