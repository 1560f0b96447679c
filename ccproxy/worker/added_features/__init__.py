"""The I/O of what ccproxy adds to a provider: searches, judgements, descriptions, PDF texts."""
