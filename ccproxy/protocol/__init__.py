"""Wire formats: Messages, Chat Completions, server-sent events and headers. Pure."""
