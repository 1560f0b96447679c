"""Providers as data: presets, quirks, model cards and prices. Pure."""
