"""
Claude Code's `statusLine` setting: ccproxy's command, wrapped around the user's. Pure.

Claude Code shows the status line of only one settings file. So the user's own command becomes an
argument of ours, which runs it and prints its lines first.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MODULE = "ccproxy.statusline"
WRAP = "--wrap"
HOME = "--home"
REFRESH_SECONDS = 5
"""Claude Code drops the output of a command that runs for longer than this."""


def status_program(python: str, home: Path, label: str = "") -> str:
    """
    Return the command line of ccproxy's status line, for the fleet at *home*.

    Without a *label*, the session's environment names the proxy. `-P` keeps the project's folder
    out of Python's search path.
    """
    words = [python, "-P", "-m", MODULE, HOME, str(home)]
    return shlex.join([*words, *(["--label", label] if label else [])])


def status_setting(program: str, own: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the setting for *program*, which wraps the user's *own* command if there is one."""
    if own is None:
        return {"type": "command", "command": program, "refreshInterval": REFRESH_SECONDS}
    command = str(own["command"])
    if is_ours(own):  # installed by `ccproxy statusline --install`
        command = wrapped_command(command)
    wrap = f" {WRAP} {shlex.quote(command)}" if command else ""
    return {"refreshInterval": REFRESH_SECONDS, **own, "command": program + wrap}


def status_command(setting: object) -> Mapping[str, Any] | None:
    """Return a `statusLine` setting if Claude Code runs its command, or None."""
    if not isinstance(setting, Mapping) or setting.get("type") != "command":
        return None
    return setting if isinstance(setting.get("command"), str) and setting["command"] else None


def is_ours(setting: object) -> bool:
    """Return True if a `statusLine` setting runs our program."""
    own = status_command(setting)
    return own is not None and MODULE in own["command"]


def wrapped_command(command: str) -> str:
    """Return the user's command that our *command* wraps; empty if there is none."""
    return _value_of(WRAP, command)


def home_of(command: str) -> str:
    """Return the home folder of the fleet in our *command*; empty if there is none."""
    return _value_of(HOME, command)


def _value_of(option: str, command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    return words[words.index(option) + 1] if option in words[:-1] else ""
