"""Settings for the services that run alongside a proxy: Redis, metrics and trace collectors."""
