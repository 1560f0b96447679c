"""
The launchd agent that keeps a fleet running on a Mac.

launchd starts it again unless it ended well (`ccproxy stop` does), ten seconds after the last
start at the earliest, also after a wrong configuration: it knows no exit code that means "do
not". XML quoting is plistlib's business.
"""

from __future__ import annotations

import plistlib
from collections.abc import Sequence
from pathlib import Path

from ccproxy.config.fleet import Fleet

PREFIX = "io.github.ccproxy-fleet."
STOP_SECONDS = 45


def agent_for(fleet: Fleet, *, name: str, command: Sequence[str]) -> bytes:
    """Return the property list of the agent *name*; *command* begins with an absolute path."""
    agent = {
        "Label": PREFIX + name,
        "ProgramArguments": list(command),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": STOP_SECONDS,
        "Umask": 0o077,
        "HardResourceLimits": {"Core": 0},
        "SoftResourceLimits": {"Core": 0, "NumberOfFiles": 8192},
        "StandardOutPath": str(fleet.logs / "service.out"),
        "StandardErrorPath": str(fleet.logs / "service.out"),
    }
    return plistlib.dumps(agent)


def table_of(agent: bytes) -> Path | None:
    """Return the table whose fleet *agent* keeps; None if it is not ours."""
    try:
        words = plistlib.loads(agent)["ProgramArguments"]
        return Path(words[words.index("--config") + 1])
    except (plistlib.InvalidFileException, ValueError, KeyError, IndexError, AttributeError):
        return None
