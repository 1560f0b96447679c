"""What the two converted dialects, Chat Completions and Responses, do in the same way."""
