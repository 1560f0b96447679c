"""Recorded exchanges as test cases without private text."""
