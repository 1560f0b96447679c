"""Messages API to Chat Completions and back."""
