"""Commands of the group 'inspect'."""
