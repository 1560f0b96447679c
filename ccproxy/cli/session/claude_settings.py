"""
Claude Code's settings files: which of their variables override a session's.

`env` in a settings.json overrides the environment that Claude Code was started with. `--settings`
overrides the user's and the project's files, but not the managed file of an administrator.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccproxy.cli.session.claude_environment import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A variable to which *file* gives another value than the session."""

    file: Path
    variable: str
    is_managed: bool
    """True for an administrator's file, which nothing overrides."""


def find_conflicts(
    session: Session, *, environ: Mapping[str, str], cwd: Path
) -> tuple[Conflict, ...]:
    """Return the conflicts of *session* with the settings files that apply in the folder *cwd*."""
    return tuple(
        Conflict(file=file, variable=name, is_managed=is_managed)
        for file, is_managed in _files(environ, cwd)
        for name, value in _env_of(file).items()
        if name in session and str(value) != (session[name] or "")
    )


def _files(environ: Mapping[str, str], cwd: Path) -> Iterator[tuple[Path, bool]]:
    home = Path(environ.get("HOME") or Path.home())
    user = Path(environ.get("CLAUDE_CONFIG_DIR") or home / ".claude")
    project = cwd / ".claude"
    yield user / "settings.json", False
    if project != user:
        yield project / "settings.json", False
    yield project / "settings.local.json", False
    is_mac = sys.platform == "darwin"
    system = Path("/Library/Application Support/ClaudeCode" if is_mac else "/etc/claude-code")
    yield system / "managed-settings.json", True


def _env_of(file: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # Claude Code reports an unreadable file itself
    env = settings.get("env") if isinstance(settings, dict) else None
    return env if isinstance(env, dict) else {}
