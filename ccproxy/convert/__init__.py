"""THE MEANING: Messages to Chat Completions and back. Pure."""
