"""Serve OpenAI clients with providers of any dialect."""
