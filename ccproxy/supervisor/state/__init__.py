"""State on disk: records, lock and adoption of running workers."""
