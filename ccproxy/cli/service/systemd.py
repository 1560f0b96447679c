"""
The systemd unit that keeps a fleet running.

The supervisor is the main process. It notifies systemd when the fleet is ready and sends the
watchdog's keep-alive (`supervisor/notify.py`), and it drains on SIGTERM. The unit adds:

* No restart after a configuration error (exit code 78).
* A restart delay that grows from 1 s to 30 s, without a limit on the number of restarts. Before
  systemd 254, which introduced RestartSteps= and RestartMaxDelaySec=, it is 5 s.
* A TimeoutStopSec= longer than a drain.

Sandbox settings that a user's own systemd instance cannot apply are only in the system unit.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
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
"""Bytes. With a longer path the control sockets are in /tmp, which rules out PrivateTmp=."""

GROWING_DELAY_SINCE = 254
_GROWING_DELAY = ("RestartSec=1", "RestartSteps=5", "RestartMaxDelaySec=30")
_FIXED_DELAY = ("RestartSec=5",)
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
    """The account that a system unit runs as: the owner of the table."""

    name: str
    group: str


def unit_for(
    fleet: Fleet,
    *,
    command: Sequence[str],
    user: SystemUser | None = None,
    version: int | None = None,
) -> str:
    """
    Return the unit of *fleet*: a system unit that runs as *user*, or a user unit without one.

    *command* starts with an absolute path. *version* is systemd's version; None means a recent one.

    Raises:
        CcproxyError: If a path contains a control character or is not UTF-8.
    """
    # systemd rejects a program path that needs quotes, but accepts such an argument.
    prefix = ["/usr/bin/env"] if set(command[0]) & set("\\\"'") else []
    exec_start = " ".join(map(quoted, [*prefix, *command]))
    # The ":" in ExecStart= turns off variable expansion, so that a dollar sign is literal.
    lines = [
        f"{MARK}{_plain(fleet.file)}",
        "# Written by `ccproxy install-service`, which overwrites it. Put your own settings into a",
        "# drop-in file: systemctl edit",
        "[Unit]",
        "Description=ccproxy: Claude Code on any model provider",
        "StartLimitIntervalSec=0",
        *(["Wants=network-online.target", "After=network-online.target"] if user else []),
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart=:{exec_start}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        *([f"User={user.name}", f"Group={user.group}"] if user else []),
        "Restart=on-failure",
        *(_GROWING_DELAY if version is None or version >= GROWING_DELAY_SINCE else _FIXED_DELAY),
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


def installed_version() -> int | None:
    """Return the version of systemd on this machine; None if it cannot be determined."""
    program = shutil.which("systemctl")
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - the path is from which()
            [program, "--version"], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"systemd ([0-9]+)", done.stdout)  # `systemd 252 (252.5-2ubuntu3)`
    return int(match[1]) if match else None


def table_of(unit: bytes) -> Path | None:
    """Return the table of the fleet that *unit* runs, or None if it is not a ccproxy unit."""
    first = os.fsdecode(unit.partition(b"\n")[0])
    return Path(first.removeprefix(MARK)) if first.startswith(MARK) else None


def quoted(argument: str) -> str:
    """
    Return *argument* quoted for a unit (systemd.syntax(7); systemd.unit(5) for the percent sign).

    Raises:
        CcproxyError: If it contains a control character or is not UTF-8.
    """
    text = _plain(argument).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'


def _plain(text: str | Path) -> str:
    line = str(text)
    if any(ord(char) < 32 or ord(char) == 127 or "\ud800" <= char <= "\udfff" for char in line):
        raise unrepresentable(line)
    return line


def unrepresentable(text: str | Path) -> CcproxyError:
    """Return the error for a path that a service file cannot contain."""
    problem = "contains a line break, a control character or bytes that are not UTF-8"
    fix = "move the fleet to a folder without such characters"
    return CcproxyError(f"{str(text)!r} {problem}\n  fix: {fix}")
