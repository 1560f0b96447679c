"""The users of a gateway."""
