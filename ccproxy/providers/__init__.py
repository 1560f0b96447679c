"""Data about providers: presets, quirks, model cards and prices, read only from its own files."""
