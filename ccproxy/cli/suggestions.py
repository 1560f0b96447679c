"""
Suggestions for a command that does not exist.

A suggestion never names a command that changes anything: `stat` must not lead to `start`.
"""

from __future__ import annotations

from ccproxy.cli.command import commands
from ccproxy.text import closest

READ_ONLY = (
    *("check", "completion", "doctor", "env", "help", "history", "keys", "logs", "models", "route"),
    *("status", "top", "ui", "usage", "version"),
)
"""Commands that may be suggested for a misspelled name: without arguments they are read-only."""

_INTENDED = {
    ("watch", "monitor", "top", "live"): ("top", "status --watch"),
    ("ui", "web", "dashboard", "gui"): ("ui", "top", "status --watch"),
    ("stat", "state", "list", "show", "info", "health"): ("status",),
    ("help", "commands", "man"): ("--help",),
    ("config", "configure", "settings", "validate", "lint"): ("check",),
    ("add", "new", "setup", "login", "auth", "providers", "provider"): ("init",),
    ("rm", "remove", "delete", "del"): ("remove --help", "init --help"),
    ("edit",): ("edit --help", "check"),
    ("tail", "log", "follow"): ("logs -f",),
    ("test", "ping", "probe"): ("doctor --online",),
    ("key", "token", "tokens"): ("keys",),
    ("model", "prices", "catalog", "catalogue"): ("models",),
    ("routes", "routing"): ("route",),
    ("code", "claude", "exec", "use"): ("run LABEL -- claude",),
    ("shell", "export", "activate"): ("env LABEL",),
    ("cost", "costs", "stats", "spend", "metrics"): ("usage",),
}
"""Common command names of other tools, and the corresponding commands of ccproxy."""

_UPGRADE = ("update", "upgrade", "self-update")


def suggestion(name: str) -> str:
    """Return the end of the error for the unknown command *name*: a suggestion and a fix."""
    typed = name.lower()
    if typed in _UPGRADE:
        return "\n  fix: python -m pip install --upgrade ccproxy-fleet, then: ccproxy reload"
    for names, lines in _INTENDED.items():
        if typed in names:
            line = next(line for line in lines if _exists(line))
            return f"\n  fix: ccproxy {line}"
    match = closest(name, [name for name in READ_ONLY if name in commands()])
    if match is None:
        return "\n  fix: ccproxy --help"
    return f' (did you mean "{match}"?)\n  fix: ccproxy {match}'


def _exists(line: str) -> bool:
    name = line.split()[0]
    return name.startswith("-") or name in commands()
