"""Requests answered by another entry of the fleet."""
