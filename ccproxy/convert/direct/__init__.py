"""Direct mode: the provider serves the Messages API itself."""
