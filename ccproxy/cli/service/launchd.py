"""
The launchd agent that keeps a fleet running on macOS.

launchd restarts the supervisor, at most every ten seconds, unless it exits with 0, as after
`ccproxy stop`. It also restarts it after a configuration error: no exit code prevents that.
"""

from __future__ import annotations

import plistlib
from collections.abc import Sequence
from pathlib import Path
from xml.parsers.expat import ExpatError

from ccproxy.cli.service.systemd import unrepresentable
from ccproxy.config.fleet import Fleet

PREFIX = "io.github.ccproxy-fleet."
STOP_SECONDS = 45


def agent_for(fleet: Fleet, *, name: str, command: Sequence[str]) -> str:
    """
    Return the property list of the agent *name*; *command* starts with an absolute path.

    Raises:
        CcproxyError: If a path contains a control character, which XML cannot represent.
    """
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
    try:
        return plistlib.dumps(agent).decode()
    except ValueError as error:
        raise unrepresentable(fleet.file) from error


def table_of(agent: bytes) -> Path | None:
    """Return the table of the fleet that *agent* runs, or None if it is not a ccproxy agent."""
    try:
        arguments = plistlib.loads(agent)["ProgramArguments"]
        return Path(arguments[arguments.index("--config") + 1])
    except (ExpatError, ValueError, TypeError, LookupError, AttributeError):
        return None
