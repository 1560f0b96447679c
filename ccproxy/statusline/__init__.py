"""Claude Code's status line: an entry point of its own, which imports little and never fails."""
