"""Code shared by the two converted dialects, Chat Completions and Responses."""
