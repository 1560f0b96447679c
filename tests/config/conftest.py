"""Fixtures for the user's files."""

from tests.user_files import complaints, here, templates, write

__all__ = ["complaints", "here", "templates", "write"]
