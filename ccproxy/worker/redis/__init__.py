"""The key pool in Redis: one state for the replicas of an entry on several hosts."""
