"""
The systemd unit that keeps a fleet running.

The supervisor is the main process. It tells systemd when the fleet is up and that it is alive
(`supervisor/notify.py`), and drains on SIGTERM. What systemd cannot know from that:

* A wrong configuration (exit 78) is not mended by another try.
* The delay between tries grows from 1 s to 30 s, without a limit that gives up for ever.
  RestartSteps= and RestartMaxDelaySec= came with systemd 254; an older one says that it ignores
  them, and tries every second.
* TimeoutStopSec= is longer than a drain.

Every setting of the sandbox that a user's own systemd cannot grant is in the system unit only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError

DRAIN_SECONDS = 30
STOP_SECONDS = 45
START_SECONDS = 90
WATCHDOG_SECONDS = 30
MARK = "# The fleet of "
LONGEST_HOME = 50
"""Bytes. With a longer one the control sockets lie in /tmp, which must then be everybody's."""

_SANDBOX_OF_ALL = """\
UMask=0077
LimitCORE=0
LimitNOFILE=65536
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
"""
_SANDBOX_OF_SYSTEM = """\
ProtectSystem=strict
ProtectHome=read-only
PrivateDevices=yes
PrivateUsers=yes
PrivateIPC=yes
ProtectProc=invisible
ProcSubset=all
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
DevicePolicy=closed
RemoveIPC=yes
CapabilityBoundingSet=
AmbientCapabilities=
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemUser:
    """Whom a system unit runs as: never root, unless the table is root's."""

    name: str
    group: str


def unit_for(fleet: Fleet, *, command: Sequence[str], user: SystemUser | None = None) -> str:
    """
    Return the unit of *fleet*: of the whole system if a *user* is named, else of a user's own.

    *command* begins with an absolute path.

    Raises:
        CcproxyError: If a path holds a line end, which no unit can.

    """
    # systemd refuses a program whose own name needs quotes, but not an argument that does.
    way = ["/usr/bin/env"] if set(command[0]) & set("\\\"'") else []
    words = " ".join(map(quoted, [*way, *command]))
    # With ":" nothing is taken for a variable, so a dollar sign is a dollar sign.
    lines = [
        f"{MARK}{_plain(fleet.file)}",
        "# Made by `ccproxy install-service`, which replaces it; your own settings go into a",
        "# drop-in: systemctl edit.",
        "[Unit]",
        "Description=ccproxy: Claude Code on any model provider",
        "StartLimitIntervalSec=0",
        *(["Wants=network-online.target", "After=network-online.target"] if user else []),
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart=:{words}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        *([f"User={user.name}", f"Group={user.group}"] if user else []),
        "Restart=on-failure",
        "RestartSec=1",
        "RestartSteps=5",
        "RestartMaxDelaySec=30",
        "RestartPreventExitStatus=78",
        "KillMode=mixed",
        f"TimeoutStartSec={START_SECONDS}",
        f"TimeoutStopSec={STOP_SECONDS}",
        f"WatchdogSec={WATCHDOG_SECONDS}",
    ]
    sandbox = _SANDBOX_OF_ALL
    if user is not None:
        is_long = len(os.fsencode(fleet.home)) > LONGEST_HOME
        sandbox += _SANDBOX_OF_SYSTEM + f"PrivateTmp={'no' if is_long else 'yes'}\n"
        sandbox += f"ReadWritePaths={quoted(str(fleet.home))}\n"
    target = "multi-user.target" if user else "default.target"
    return "\n".join(lines) + f"\n{sandbox}\n[Install]\nWantedBy={target}\n"


def table_of(unit: str) -> Path | None:
    """Return the table whose fleet *unit* keeps; None if the unit is not ours."""
    first = unit.partition("\n")[0]
    return Path(first.removeprefix(MARK)) if first.startswith(MARK) else None


def quoted(word: str) -> str:
    """
    Return *word* as systemd reads it back (systemd.syntax(7), systemd.unit(5) for the percent).

    Raises:
        CcproxyError: If it holds a line end.

    """
    text = _plain(word).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'


def _plain(text: str | Path) -> str:
    line = str(text)
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in line):
        raise CcproxyError(f"{line!r} holds a line end or control sign; no service can name it")
    return line
