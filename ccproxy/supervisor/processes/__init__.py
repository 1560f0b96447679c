"""Processes: identity, start, signals and exit."""
