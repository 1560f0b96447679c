"""The demo provider."""
