"""Requests that another entry of the fleet answers."""
