"""Conversion between the Messages API and Chat Completions."""
