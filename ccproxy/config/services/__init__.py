"""Settings of what runs next to a proxy: Redis, and the collectors of metrics and traces."""
