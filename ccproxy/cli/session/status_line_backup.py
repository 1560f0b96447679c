"""The user's own status line, which ccproxy's has replaced in Claude Code's settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ccproxy.cli.session.claude_settings import read_user_settings, write_user_settings
from ccproxy.files import read_json, write_atomically


class StatusLineBackup:
    """The `statusLine` of a settings file that --install has replaced."""

    def __init__(self, state: Path, settings: Path) -> None:
        self._path = state / "claude" / "statusline.saved"
        self._name = str(settings)

    def keep(self, line: object) -> None:
        """Save *line*; None if there was none."""
        write_atomically(self._path, json.dumps({**self._read(), self._name: line}) + "\n")

    def take(self) -> object:
        """Return the saved line; None if there is none."""
        return self._read().get(self._name)

    def _read(self) -> dict[str, Any]:
        try:
            lines = read_json(self._path)
        except (OSError, ValueError):
            return {}
        return lines if isinstance(lines, dict) else {}


def remove_status_line(state: Path, settings: Path) -> None:
    """Put the line back that ccproxy's has replaced in the file *settings*."""
    document = read_user_settings(settings)
    document.pop("statusLine", None)
    if (before := StatusLineBackup(state, settings).take()) is not None:
        document["statusLine"] = before
    write_user_settings(settings, document)
