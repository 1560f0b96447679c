"""HTTP in: application, endpoints, authentication, event stream and access record."""
