"""Measures what models accept, for `ccproxy probe` and in the background."""
