"""Outgoing HTTP: connections, requests, retries and key selection."""
