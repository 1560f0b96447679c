"""Adding providers: questions, files and the trial request."""
