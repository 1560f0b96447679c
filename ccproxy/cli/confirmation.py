"""Asks for confirmation before a change that the user may not want."""

from __future__ import annotations

import sys

import click

from ccproxy.errors import UsageError


class Declined(click.Abort):
    """The user answered no."""


def confirm(question: str, *, yes: bool, fix: str) -> None:
    """
    Ask *question* unless *yes* is set; *fix* is a command line that does not ask.

    Raises:
        Declined: If the user answers no.
        UsageError: If stdin is not a terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"stdin is not a terminal, so the command cannot prompt\n  fix: {fix}")
    if not click.confirm(question, err=True):
        raise Declined
