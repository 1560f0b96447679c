"""Commands of the group 'fleet'."""
