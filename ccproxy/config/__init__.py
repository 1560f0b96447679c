"""The user's files, read into frozen values."""
