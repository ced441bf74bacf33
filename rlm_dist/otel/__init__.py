"""OpenTelemetry: one trace for each job, over the client, the root worker and the sub workers."""
