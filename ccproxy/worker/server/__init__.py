"""Incoming HTTP: application, endpoints, authentication, event stream and access record."""
