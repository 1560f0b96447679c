"""A backup of the user's own status lines, which ccproxy replaces in Claude Code's settings."""

from __future__ import annotations

import json
from pathlib import Path

from ccproxy.cli.session.claude_settings import read_user_settings, write_user_settings
from ccproxy.files import read_object, write_atomically


def keep_status_line(state: Path, settings: Path, line: object) -> None:
    """Save the user's status *line* of the file *settings*; None if there was none."""
    file = _saved_lines(state)
    write_atomically(file, json.dumps({**read_object(file), str(settings): line}) + "\n")


def remove_status_line(state: Path, settings: Path) -> None:
    """Restore the status line that ccproxy has replaced in the file *settings*."""
    document = read_user_settings(settings)
    document.pop("statusLine", None)
    if (before := read_object(_saved_lines(state)).get(str(settings))) is not None:
        document["statusLine"] = before
    write_user_settings(settings, document)


def _saved_lines(state: Path) -> Path:
    return state / "claude" / "statusline.saved"
