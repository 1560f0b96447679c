"""Notices from a gateway to its users."""
