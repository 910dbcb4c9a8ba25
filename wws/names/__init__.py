"""Names: records that their owners sign, leases that keep them, pins that remember whose they were."""
