"""Model names, routing rules, and the choice of the entry that answers a request."""
