"""Code that the two converted dialects, Chat Completions and Responses, share."""
