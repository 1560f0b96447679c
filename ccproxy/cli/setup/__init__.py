"""Adding providers: prompts, files and the test request."""
