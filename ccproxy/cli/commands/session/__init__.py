"""Commands of the group 'session'."""
