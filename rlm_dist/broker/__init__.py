"""The Celery application, its queues and the publishing of tasks; may import schema and settings."""
