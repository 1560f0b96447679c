"""The key pool in Redis: one shared state for the replicas of an entry on several hosts."""
