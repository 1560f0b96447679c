"""
Suggestions for a command that does not exist.

A suggestion never names a command that changes anything: `stat` must not lead to `start`.
"""

from __future__ import annotations

from ccproxy.text import closest

READ_ONLY = (
    *("check", "completion", "doctor", "env", "help", "history", "keys", "logs", "models", "route"),
    *("status", "top", "ui", "usage", "version"),
)
"""Commands that may be suggested for a misspelled name: without arguments they are read-only."""

_INTENDED = {
    "top": ("watch", "monitor", "live"),
    "ui": ("web", "dashboard", "gui"),
    "status": ("stat", "state", "list", "show", "info", "health"),
    "--help": ("commands", "man"),
    "check": ("config", "configure", "settings", "validate", "lint"),
    "init": ("add", "new", "setup", "login", "auth", "providers", "provider"),
    "remove --help": ("rm", "delete", "del"),
    "logs -f": ("tail", "log", "follow"),
    "doctor --online": ("test", "ping"),
    "keys": ("key", "token", "tokens"),
    "models": ("model", "prices", "catalog", "catalogue"),
    "route": ("routes", "routing"),
    "run LABEL -- claude": ("code", "claude", "exec", "use"),
    "env LABEL": ("shell", "activate"),
    "usage": ("cost", "costs", "stats", "spend", "metrics"),
}
"""ccproxy commands, with the names of similar commands in other tools."""

_UPGRADE = ("update", "upgrade", "self-update")


def suggestion(name: str) -> str:
    """Return a suggestion and a fix to append to the error for the unknown command *name*."""
    typed = name.lower()
    if typed in _UPGRADE:
        return "\n  fix: python -m pip install --upgrade ccproxy-fleet, then run: ccproxy reload"
    for line, names in _INTENDED.items():
        if typed in names:
            return f"\n  fix: ccproxy {line}"
    match = closest(name, READ_ONLY)
    if match is None:
        return "\n  fix: ccproxy --help"
    return f' (did you mean "{match}"?)\n  fix: ccproxy {match}'
