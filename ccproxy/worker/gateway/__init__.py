"""The gateway of a team: users in place of one client key, and Claude Code's sign-in."""
