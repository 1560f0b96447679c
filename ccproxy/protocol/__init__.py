"""Wire formats, without I/O: Messages, Chat Completions, Responses, SSE and headers."""
