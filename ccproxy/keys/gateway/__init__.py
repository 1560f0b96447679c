"""Notices of a gateway to its users."""
