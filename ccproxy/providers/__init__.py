"""Providers as data: presets, quirks, model cards and prices. Reads only its own files."""
