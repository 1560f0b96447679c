"""OpenTelemetry traces of requests, for a collector of the user's."""
