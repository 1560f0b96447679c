"""The I/O of the features that ccproxy adds: searches, judgements, descriptions, PDF text."""
