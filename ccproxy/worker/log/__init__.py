"""What a worker logs, and where."""
