"""
Install a fleet as a service: the service file, and the commands that register it.

A service file belongs to one table. A name that is in use for another table is refused, so that no
fleet replaces or removes another fleet's service.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ccproxy.cli.service import launchd, systemd
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.files import home_folder, write_atomically

Kind = Literal["systemd", "launchd", "cron"]
SYSTEM_UNITS = Path("/etc/systemd/system")
LINGER = Path("/var/lib/systemd/linger")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFile:
    """One service file, and the commands that register, start and remove it."""

    path: Path
    content: Callable[[], str]
    """
    Returns the text to write; raises CcproxyError if a path cannot be represented, or if the
    table's owner, the user that a system service runs as, is unknown. A service can be removed in
    either case.
    """
    owner: Path | None
    """The table that the file on disk belongs to; None if there is no file or it is not ours."""
    enable: tuple[tuple[str, ...], ...]
    start: tuple[str, ...]
    stop: tuple[tuple[str, ...], ...]
    """Commands to run before the file is removed."""
    after_removal: tuple[tuple[str, ...], ...] = ()


def detect_kind() -> Kind:
    """Return the service manager of this machine."""
    if sys.platform == "darwin":
        return "launchd"
    return (
        "systemd" if shutil.which("systemctl") and Path("/run/systemd/system").is_dir() else "cron"
    )


def command_of(fleet: Fleet) -> list[str]:
    """Return the command that a service runs; independent of the current folder and PATH."""
    return [sys.executable, "-P", "-m", "ccproxy", "--config", str(fleet.file), "up"]


def systemd_service(
    fleet: Fleet, *, name: str, system: bool, environ: Mapping[str, str]
) -> ServiceFile:
    """Return the systemd unit *name*, a user unit or a *system* unit."""
    unit = f"{_valid_name(name)}.service"
    control = ("systemctl",) if system else ("systemctl", "--user")
    file = _unit_folder(environ, system=system) / unit

    def content() -> str:
        return systemd.unit_for(
            fleet,
            command=command_of(fleet),
            user=owner_of(fleet) if system else None,
            version=systemd.installed_version(),
        )

    return ServiceFile(
        path=file,
        content=content,
        owner=systemd.table_of(_content(file)),
        enable=((*control, "daemon-reload"), (*control, "enable", unit)),
        start=(*control, "start", unit),
        stop=((*control, "disable", "--now", unit),),
        after_removal=((*control, "daemon-reload"),),
    )


def launchd_service(fleet: Fleet, *, name: str, environ: Mapping[str, str]) -> ServiceFile:
    """Return the launchd agent *name* of the user."""
    label = launchd.PREFIX + _valid_name(name)
    file = _agent_folder(environ) / f"{label}.plist"
    domain = f"gui/{os.getuid()}"
    return ServiceFile(
        path=file,
        content=partial(launchd.agent_for, fleet, name=name, command=command_of(fleet)),
        owner=launchd.table_of(_content(file)),
        enable=(("launchctl", "enable", f"{domain}/{label}"),),
        start=("launchctl", "bootstrap", domain, str(file)),
        stop=(("launchctl", "bootout", f"{domain}/{label}"),),
    )


def installed_services(
    fleet: Fleet, *, name: str | None, environ: Mapping[str, str]
) -> Iterator[ServiceFile]:
    """Yield the services of *fleet* whose files exist, or only those called *name*."""
    services = [
        systemd_service(fleet, name=one, system=system, environ=environ)
        for system in (False, True)
        for one in _names(name, _unit_folder(environ, system=system), "", ".service")
    ]
    services += [
        launchd_service(fleet, name=one, environ=environ)
        for one in _names(name, _agent_folder(environ), launchd.PREFIX, ".plist")
    ]
    return (service for service in services if service.owner == fleet.file)


def _names(name: str | None, folder: Path, prefix: str, suffix: str) -> list[str]:
    """Return *name*, or, if it is None, the names of the services in *folder*."""
    if name is not None:
        return [name]
    files = sorted(file.name for file in folder.glob(f"{prefix}*{suffix}"))
    names = (file.removeprefix(prefix).removesuffix(suffix) for file in files)
    return [one for one in names if NAME.fullmatch(one)]


def _unit_folder(environ: Mapping[str, str], *, system: bool) -> Path:
    if system:
        return SYSTEM_UNITS
    config = Path(environ.get("XDG_CONFIG_HOME") or home_folder(environ) / ".config")
    return config / "systemd" / "user"


def _agent_folder(environ: Mapping[str, str]) -> Path:
    return home_folder(environ) / "Library" / "LaunchAgents"


def owner_of(fleet: Fleet) -> systemd.SystemUser:
    """Return the owner of the table, the user that a system service runs as."""
    uid = fleet.file.stat().st_uid
    try:
        account = pwd.getpwuid(uid)
        group = grp.getgrgid(account.pw_gid).gr_name
    except KeyError as error:
        raise CcproxyError(
            f"{fleet.file} belongs to the unknown user {uid}\n"
            f"  fix: chown it to the user that the service should run as"
        ) from error
    return systemd.SystemUser(name=account.pw_name, group=group)


def lingers(environ: Mapping[str, str]) -> bool:
    """Return True if the user's services keep running after the last logout."""
    user = environ.get("USER") or pwd.getpwuid(os.getuid()).pw_name
    return (LINGER / user).exists()


# Installing.


def check_owner(service: ServiceFile, fleet: Fleet) -> None:
    """
    Check that the file on disk belongs to this fleet, or does not exist.

    Raises:
        UsageError: If it belongs to another fleet or program.

    """
    if service.owner == fleet.file or not os.path.lexists(service.path):
        return
    owner = service.owner
    reason = f"belongs to the fleet of {owner}" if owner else "was not written by ccproxy"
    raise UsageError(f"{service.path} {reason}\n  fix: choose another name: --name ccproxy-2")


def write(service: ServiceFile) -> bool:
    """Write the file atomically; return False if its content is unchanged."""
    content = service.content()
    if _content(service.path) == content.encode():
        return False
    # It contains no secret, and systemd warns about 0600.
    write_atomically(service.path, content, mode=0o644)
    return True


def run_commands(commands: Sequence[Sequence[str]]) -> str:
    """Run *commands* until one fails; return its error message, or "" if all succeed."""
    for command in commands:
        program = shutil.which(command[0])
        if program is None:
            return f"{command[0]} is not installed"
        done = subprocess.run(  # noqa: S603 - the path is from which()
            [program, *command[1:]], capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode != 0:
            output = (done.stderr or done.stdout).strip().splitlines()
            message = output[-1] if output else f"exit code {done.returncode}"
            return f"{shlex.join(command)}: {message}"
    return ""


def _valid_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise UsageError(f'"{name}" is not a valid service name: use letters, digits, ., _ and -')
    return name


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
