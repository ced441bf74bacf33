"""How long a lease lasts, and how often its holder renews it and others check it; the same for all workers."""

LEASE_MS = 10_000
RENEW_S = 1.0
SWEEP_S = 3.0
