"""
Which settings files of Claude Code would win over the environment of a session.

`env` in a settings.json overrides the environment that Claude Code was started with; `--settings`
overrides the user's and the project's files, but not the managed ones of an administrator.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccproxy.cli.session.environment import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A variable that *file* sets otherwise than the session wants it."""

    file: Path
    key: str
    managed: bool
    """Whether an administrator's file sets it, which nothing overrides."""


def find_shadows(session: Session, *, environ: Mapping[str, str], here: Path) -> tuple[Shadow, ...]:
    """Look into the settings files that count in the folder *here*."""
    return tuple(
        Shadow(file=file, key=key, managed=managed)
        for file, managed in _files(environ, here)
        for key, value in _env_of(file).items()
        if key in session and str(value) != (session[key] or "")
    )


def _files(environ: Mapping[str, str], here: Path) -> Iterator[tuple[Path, bool]]:
    home = Path(environ.get("HOME") or Path.home())
    user = Path(environ.get("CLAUDE_CONFIG_DIR") or home / ".claude")
    project = here / ".claude"
    yield user / "settings.json", False
    if project != user:
        yield project / "settings.json", False
    yield project / "settings.local.json", False
    mac = sys.platform == "darwin"
    system = Path("/Library/Application Support/ClaudeCode" if mac else "/etc/claude-code")
    yield system / "managed-settings.json", True


def _env_of(file: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # Claude Code itself says what is wrong with it
    env = settings.get("env") if isinstance(settings, dict) else None
    return env if isinstance(env, dict) else {}
