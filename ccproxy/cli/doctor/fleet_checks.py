"""Supervisor, workers, ports, services."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ccproxy import __version__
from ccproxy.cli.doctor.finding import Finding, Scene, fail, ok, warn
from ccproxy.cli.render.outcome import UP, fix
from ccproxy.cli.render.terminal import short_path, tilde
from ccproxy.cli.service import cron
from ccproxy.cli.service.install import launchd_service, lingers, systemd_service
from ccproxy.config.parsers import is_loopback
from ccproxy.errors import CcproxyError
from ccproxy.supervisor.sockets.unix_socket import socket_path
from ccproxy.text import printable

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST_FREE_PORT = 1024


def supervisor(scene: Scene) -> Iterator[Finding]:
    """There is one, it answers, and it is of this version."""
    status = scene.status
    if status is None:
        return
    if status.note:
        yield fail(status.note, fix="ccproxy start")
    elif status.supervisor is None:
        yield ok("not running")
    elif status.supervisor.get("version") not in (None, __version__):
        text = f"runs version {status.supervisor['version']}, installed is {__version__}"
        yield warn(text, fix="ccproxy stop; ccproxy start")
    else:
        yield ok(f"pid {status.supervisor.get('pid')}")


def workers(scene: Scene) -> Iterator[Finding]:
    """Each is as it should be."""
    rows = scene.status.proxies if scene.status else ()
    for row in rows:
        reason = f": {printable(row.reason)}" if row.reason else ""
        if row.state == "ready":
            yield ok(f"{row.label} ready on port {row.port}")
        elif row.state == "stopped":
            runs = any(other.pids for other in rows)
            text = f"{row.label} is stopped"
            yield warn(text, fix=f"ccproxy start {row.label}") if runs else ok(text)
        elif row.state in (*UP, "starting", "stopping"):
            yield warn(f"{row.label} is {row.state}{reason}", fix=f"ccproxy status {row.label} -v")
        else:
            yield fail(f"{row.label} is {row.state}{reason}", fix=fix(row))


def keys(scene: Scene) -> Iterator[Finding]:
    """How many keys of each pool can be used."""
    rows = scene.status.proxies if scene.status else ()
    if not any(row.pids for row in rows):
        yield ok("no worker runs")
    for row in rows:
        counts = row.keys or {}
        total, ready = counts.get("total", 0), counts.get("ready", 0)
        if not row.pids or not total:
            continue
        if ready < total:
            text = f"{total - ready} of {total} keys of {row.label} are out"
            say = fail if not ready else warn
            yield say(text, fix=f"ccproxy logs {row.label} --level warn")
        else:
            yield ok(f"{row.label}: {ready} of {total} usable")


def ports(scene: Scene) -> Iterator[Finding]:
    """Ports that somebody else may need, or get first."""
    if scene.fleet is None:
        return
    low, high = _ephemeral()
    wrong = 0
    for entry in scene.fleet.entries:
        if entry.port < FIRST_FREE_PORT and os.getuid() != 0:
            wrong += 1
            text = f"port {entry.port} of {entry.label} is for root only"
            yield fail(text, fix="choose a port from 1024 on in ccproxy.toml")
        elif low <= entry.port <= high:
            wrong += 1
            text = f"port {entry.port} of {entry.label} may be taken by any outgoing connection"
            yield warn(text, fix=f"choose a port below {low} in ccproxy.toml")
    if not wrong:
        yield ok(", ".join(str(entry.port) for entry in scene.fleet.entries))


def reach(scene: Scene) -> Iterator[Finding]:
    """Who can come in."""
    for label, config in scene.workers.items():
        if is_loopback(config.host):
            continue
        if config.client_keys:
            yield ok(f"{label} can be reached by others, with a client key")
        else:
            text = f"everybody who reaches {config.host} can use the keys of {label}"
            fix = "set ANTHROPIC_API_KEY, remove ALLOW_PUBLIC, then: ccproxy reload"
            yield warn(text, fix=fix)
    if all(is_loopback(config.host) for config in scene.workers.values()):
        yield ok("this machine only")


def control(scene: Scene) -> Iterator[Finding]:
    """The control socket: in the home, or where the path is too long, elsewhere."""
    if scene.fleet is None:
        return
    path = socket_path(scene.fleet.home)
    if path.is_relative_to(scene.fleet.home):
        yield ok("beside the table")
    else:
        yield ok(f"in {path.parent}, because the path of {tilde(scene.fleet.home)} is long")


def service(scene: Scene) -> Iterator[Finding]:
    """What starts the fleet, and whether it still can."""
    if scene.fleet is None:
        return
    units = (
        systemd_service(scene.fleet, name="ccproxy", system=False, environ=scene.environ),
        systemd_service(scene.fleet, name="ccproxy", system=True, environ=scene.environ),
        launchd_service(scene.fleet, name="ccproxy", environ=scene.environ),
    )
    found = [unit for unit in units if unit.owner == scene.fleet.file]
    for unit in found:
        if unit.path.read_bytes() != unit.content:
            text = f"{tilde(unit.path)} was made by another version or Python"
            yield warn(text, fix="ccproxy install-service")
        else:
            yield ok(tilde(unit.path))
    if units[0] in found and not lingers(scene.environ):
        yield warn("the service ends with your last logout", fix="loginctl enable-linger")
    if not found:
        yield ok("none installed")


def crontab(scene: Scene) -> Iterator[Finding]:
    """Lines that call a Python which is gone do nothing, silently."""
    if scene.fleet is None:
        return
    if shutil.which("crontab") is None:
        yield ok("no cron here")
        return
    try:
        lines = cron.read().decode(errors="replace").splitlines()
    except CcproxyError as error:
        yield warn(str(error).splitlines()[0], fix="crontab -l")
        return
    ours = [line for line in lines if line.endswith(f" of {scene.fleet.file}")]
    for line in ours:
        python = line.split(" -m ccproxy ")[0].split()[-1]
        if not Path(python).exists():
            what = "cleanup --install-cron" if "# ccproxy cleanup" in line else "install-service"
            yield fail(
                f"the crontab calls {short_path(Path(python))}, which is gone",
                fix=f"ccproxy {what}",
            )
        else:
            yield ok(line.rpartition("# ")[2].partition(" of ")[0])
    if not ours:
        yield ok("no line of this fleet")


def _ephemeral() -> tuple[int, int]:
    try:
        low, high = EPHEMERAL.read_text().split()
        return int(low), int(high)
    except (OSError, ValueError):
        return 65536, 0
