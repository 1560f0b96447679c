"""GET /metrics for Prometheus, at an address of its own."""
