"""Reads the user's files into immutable values."""
