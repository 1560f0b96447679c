"""OpenTelemetry traces of requests, sent to the user's collector."""
