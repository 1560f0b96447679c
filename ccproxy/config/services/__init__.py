"""Settings of the services next to a proxy: Redis, and the collectors of metrics and traces."""
