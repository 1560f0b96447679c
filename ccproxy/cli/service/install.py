"""
A fleet as a service: what is written where, and which commands make the manager take note.

A service file belongs to one table. A name that another table's file has is refused, so no
fleet ever replaces or removes the service of another one.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ccproxy.cli.service import launchd, systemd
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, UsageError

Kind = Literal["systemd", "launchd", "cron"]
SYSTEM_UNITS = Path("/etc/systemd/system")
LINGER = Path("/var/lib/systemd/linger")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service file and the commands around it."""

    file: Path
    content: bytes
    owner: Path | None
    """The table that the file on disk belongs to; None if there is no file, or a foreign one."""
    enable: tuple[tuple[str, ...], ...]
    start: tuple[str, ...]
    stop: tuple[tuple[str, ...], ...]
    """Before the file is removed."""
    forget: tuple[tuple[str, ...], ...] = ()
    """After it."""


def kind_of_machine() -> Kind:
    """Return which manager this machine has."""
    if sys.platform == "darwin":
        return "launchd"
    return (
        "systemd" if shutil.which("systemctl") and Path("/run/systemd/system").is_dir() else "cron"
    )


def command_of(fleet: Fleet) -> list[str]:
    """Return the command that a service runs, from anywhere and without a shell's PATH."""
    return [sys.executable, "-P", "-m", "ccproxy", "--config", str(fleet.file), "up"]


def systemd_service(
    fleet: Fleet, *, name: str, system: bool, environ: Mapping[str, str]
) -> Service:
    """Return the systemd unit *name* of the user, or of the whole *system*."""
    unit = f"{_checked(name)}.service"
    home = Path(environ.get("HOME") or Path.home())
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    folder = SYSTEM_UNITS if system else config / "systemd" / "user"
    control = ("systemctl",) if system else ("systemctl", "--user")
    text = systemd.unit_for(
        fleet, command=command_of(fleet), user=owner_of(fleet) if system else None
    )
    file = folder / unit
    return Service(
        file=file,
        content=text.encode(),
        owner=systemd.table_of(_text(file)),
        enable=((*control, "daemon-reload"), (*control, "enable", unit)),
        start=(*control, "start", unit),
        stop=((*control, "disable", "--now", unit),),
        forget=((*control, "daemon-reload"),),
    )


def launchd_service(fleet: Fleet, *, name: str, environ: Mapping[str, str]) -> Service:
    """Return the launchd agent *name* of the user."""
    label = launchd.PREFIX + _checked(name)
    home = Path(environ.get("HOME") or Path.home())
    file = home / "Library" / "LaunchAgents" / f"{label}.plist"
    domain = f"gui/{os.getuid()}"
    return Service(
        file=file,
        content=launchd.agent_for(fleet, name=name, command=command_of(fleet)),
        owner=launchd.table_of(_text(file).encode()),
        enable=(("launchctl", "enable", f"{domain}/{label}"),),
        start=("launchctl", "bootstrap", domain, str(file)),
        stop=(("launchctl", "bootout", f"{domain}/{label}"),),
    )


def owner_of(fleet: Fleet) -> systemd.SystemUser:
    """Return who owns the table: a system service runs as that user."""
    facts = fleet.file.stat()
    try:
        name = pwd.getpwuid(facts.st_uid).pw_name
        group = grp.getgrgid(pwd.getpwuid(facts.st_uid).pw_gid).gr_name
    except KeyError as error:
        raise CcproxyError(
            f"{fleet.file} belongs to user {facts.st_uid}, whom this machine does not know\n"
            f"  fix: chown it to the user that the service is to run as"
        ) from error
    return systemd.SystemUser(name=name, group=group)


def lingers(environ: Mapping[str, str]) -> bool:
    """Whether the user's services run on after the last logout."""
    user = environ.get("USER") or pwd.getpwuid(os.getuid()).pw_name
    return (LINGER / user).exists()


# Acting...


def check_owner(service: Service, fleet: Fleet) -> None:
    """
    Be sure that the file on disk is this fleet's, or none.

    Raises:
        UsageError: If it is not.

    """
    if service.owner == fleet.file or not os.path.lexists(service.file):
        return
    whose = f"belongs to the fleet of {service.owner}" if service.owner else "is not ccproxy's"
    raise UsageError(f"{service.file} {whose}\n  fix: choose another name: --name ccproxy-2")


def write(service: Service) -> bool:
    """Write the file, whole or not at all; return whether that changed anything."""
    if _text(service.file).encode() == service.content:
        return False
    service.file.parent.mkdir(parents=True, exist_ok=True)
    fd, draft = tempfile.mkstemp(dir=service.file.parent, prefix=".ccproxy-")
    with os.fdopen(fd, "wb") as file:
        file.write(service.content)
        os.fchmod(file.fileno(), 0o644)  # holds no secret, and systemd complains about 0600
    Path(draft).rename(service.file)
    return True


def call(commands: Sequence[Sequence[str]]) -> str:
    """Run *commands* until one fails; return what that one said, empty if none did."""
    for command in commands:
        program = shutil.which(command[0])
        if program is None:
            return f"there is no {command[0]} on this machine"
        done = subprocess.run(  # noqa: S603 - the path is from which()
            [program, *command[1:]], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            return f"{shlex.join(command)}: {said[-1] if said else f'exit code {done.returncode}'}"
    return ""


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise UsageError(f'"{name}" cannot name a service: letters, digits, ., _ and - only')
    return name


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
