"""Commands of the group 'setup'."""
