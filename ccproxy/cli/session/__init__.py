"""The environment of a Claude Code session."""
