"""The team gateway: users instead of a single client key, and sign-in for Claude Code."""
