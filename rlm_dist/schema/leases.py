"""How long a lease lasts, how often its holder renews it and how often others check it; the same for all."""

LEASE_MS = 10_000
RENEW_S = 1.0
SWEEP_S = 3.0
