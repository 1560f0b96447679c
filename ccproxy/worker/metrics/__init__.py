"""GET /metrics for Prometheus, on a separate address."""
