"""Claude Code's status line: a separate entry point that imports little and never fails."""
