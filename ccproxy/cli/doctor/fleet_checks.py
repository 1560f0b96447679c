"""Checks of the supervisor, the workers, their ports and the services."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ccproxy import __version__
from ccproxy.cli.doctor.finding import Finding, Scene, fail, not_read, ok, warn
from ccproxy.cli.render.outcome import UP, fix
from ccproxy.cli.render.terminal import short_path, tilde
from ccproxy.cli.service import cron, install, launchd
from ccproxy.config.parsers import is_loopback
from ccproxy.errors import CcproxyError
from ccproxy.ipc.socket_paths import socket_path
from ccproxy.routing.retirement import NOTICE_DAYS, retirement_text, retirements
from ccproxy.routing.tiers import TIERS, ModelMap
from ccproxy.text import printable

EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST_UNPRIVILEGED_PORT = 1024


def supervisor(scene: Scene) -> Iterator[Finding]:
    """Check that the supervisor answers and runs the installed version."""
    status = scene.status
    if scene.status_error is not None:
        yield not_read(scene.status_error)
    if status is None:
        return
    if status.note:
        yield fail(status.note.removesuffix("; fix: ccproxy start"), fix="ccproxy start")
    elif status.supervisor is None:
        yield ok("not running")
    elif status.supervisor.version not in ("", __version__):
        text = f"runs version {status.supervisor.version}, but {__version__} is installed"
        yield warn(text, fix="ccproxy stop; ccproxy start")
    else:
        yield ok(f"pid {status.supervisor.pid}")


def workers(scene: Scene) -> Iterator[Finding]:
    """Check the state of each proxy's workers."""
    is_running = any(row.pids for row in scene.rows)
    for row in scene.rows:
        reason = f": {printable(row.reason)}" if row.reason else ""
        if row.passes_to and row.state in UP:
            text = f"{row.label} is bypassed: requests go to {printable(row.passes_to)} unchanged"
            yield warn(text, fix=f"ccproxy toggle {row.label} on")
        elif row.state == "ready":
            yield ok(f"{row.label} is ready on port {row.port}")
        elif row.state == "stopped":
            text = f"{row.label} is stopped"
            yield warn(text, fix=f"ccproxy start {row.label}") if is_running else ok(text)
        elif row.state in (*UP, "starting", "stopping"):
            yield warn(f"{row.label} is {row.state}{reason}", fix=f"ccproxy status {row.label} -v")
        elif row.state == "foreign":
            text = f"the port of {row.label} is used by another program{reason}"
            yield fail(text, fix=fix(row))
        else:
            yield fail(f"{row.label} is {row.state}{reason}", fix=fix(row))


def changes(scene: Scene) -> Iterator[Finding]:
    """Check that the workers use the current files."""
    changed = [row.label for row in scene.rows if row.changed]
    for label in changed:
        yield warn(f"the files of {label} have changed since it started", fix="ccproxy reload")
    if not changed and scene.status_error is None:
        yield ok("no file has changed since the proxies started")


def keys(scene: Scene) -> Iterator[Finding]:
    """Check how many keys of each proxy can be used."""
    if not any(row.pids for row in scene.rows) and scene.status_error is None:
        yield ok("no proxy is running")
    for row in scene.rows:
        counts = row.keys or {}
        total, ready = counts.get("total", 0), counts.get("ready", 0)
        if not row.pids or not total:
            continue
        if ready == total:
            yield ok(f"{row.label}: {ready} of {total} usable")
        else:
            report = warn if ready else fail
            text = f"{row.label}: {total - ready} of {total} keys are not usable"
            yield report(text, fix=f"ccproxy keys {row.label}")


def models(scene: Scene) -> Iterator[Finding]:
    """Check for models that the provider has retired or will retire."""
    now = time.time()
    today = time.strftime("%Y-%m-%d", time.gmtime(now))
    until = time.strftime("%Y-%m-%d", time.gmtime(now + NOTICE_DAYS * 86400))
    is_fine = True
    for label, config in scene.workers.items():
        for each in retirements(config.models.tiers(), config.models.card, until=until):
            is_fine = False
            report = warn if each.date > today else fail
            text = retirement_text(each, today=today)
            change = f"set {_settings_of(config.models, each.model)}" + (
                f"={each.successor}"
                if each.successor
                else f" (ccproxy models {label} lists the models)"
            )
            yield report(f"{label}: {text}", fix=f"{change}, then run: ccproxy reload")
    if is_fine:
        yield ok("none of the configured models retires within 30 days")


def _settings_of(models: ModelMap, model: str) -> str:
    """Return the setting of the first tier that uses *model*."""
    return next(f"{tier.upper()}_MODEL" for tier in TIERS if models.tier(tier) == model)


def ports(scene: Scene) -> Iterator[Finding]:
    """Check for ports that need root or that the system uses for outgoing connections."""
    if scene.fleet is None:
        return
    low, high = _ephemeral_ports()
    findings = []
    for entry in scene.fleet.entries:
        if entry.port < FIRST_UNPRIVILEGED_PORT and os.getuid() != 0:
            text = f"port {entry.port} of {entry.label} requires root"
            findings.append(fail(text, fix="choose a port above 1023 in ccproxy.toml"))
        elif low <= entry.port <= high:
            text = f"port {entry.port} of {entry.label} may be taken by an outgoing connection"
            findings.append(warn(text, fix=f"choose a port below {low} in ccproxy.toml"))
    yield from findings or [ok(", ".join(str(entry.port) for entry in scene.fleet.entries))]


def reach(scene: Scene) -> Iterator[Finding]:
    """Check which proxies accept connections from other machines."""
    for label, config in scene.workers.items():
        if is_loopback(config.host):
            continue
        if config.client_keys:
            yield ok(f"{label} is reachable from other machines, with a client key")
        else:
            text = f"anyone who can reach {config.host} can use the keys of {label}"
            fix_text = "set ANTHROPIC_API_KEY, remove ALLOW_PUBLIC, then run: ccproxy reload"
            yield warn(text, fix=fix_text)
    if all(is_loopback(config.host) for config in scene.workers.values()):
        yield ok("reachable from this machine only")


def control(scene: Scene) -> Iterator[Finding]:
    """Report the location of the control socket."""
    if scene.fleet is None:
        return
    path = socket_path(scene.fleet.home)
    if path.is_relative_to(scene.fleet.home):
        yield ok("in the fleet's folder")
    else:
        yield ok(f"in {path.parent}, because the path of {tilde(scene.fleet.home)} is too long")


def service(scene: Scene) -> Iterator[Finding]:
    """Check the service that starts the fleet."""
    if scene.fleet is None:
        return
    installed = list(install.installed_services(scene.fleet, name=None, environ=scene.environ))
    for unit in installed:
        name = tilde(unit.path)
        try:
            is_current = unit.path.read_bytes() == unit.content().encode()
        except CcproxyError as error:
            text, _, remedy = str(error).partition("\n  fix: ")
            yield warn(f"{name} cannot be installed again: {text}", fix=remedy)
            continue
        if is_current:
            yield ok(name)
        else:
            option = " --system" if unit.path.parent == install.SYSTEM_UNITS else ""
            own_name = unit.path.stem.removeprefix(launchd.PREFIX)
            option += f" --name {own_name}" if own_name != "ccproxy" else ""
            text = f"{name} was written by another version or Python"
            yield warn(text, fix=f"ccproxy install-service{option}")
    if any("--user" in unit.start for unit in installed) and not install.lingers(scene.environ):
        yield warn("the service stops when you log out", fix="loginctl enable-linger")
    if not installed:
        yield ok("none installed")


def crontab(scene: Scene) -> Iterator[Finding]:
    """Check the crontab for lines that run a missing Python interpreter."""
    if scene.fleet is None:
        return
    if shutil.which("crontab") is None:
        yield ok("no cron on this machine")
        return
    try:
        jobs = list(cron.jobs_of(scene.fleet, cron.read()))
    except CcproxyError as error:
        yield warn(str(error).splitlines()[0], fix="crontab -l")
        return
    for job, python in jobs:
        if python is None or python.exists():
            yield ok(f"ccproxy {job.verb}")
        else:
            text = f"the crontab calls {short_path(python)}, which does not exist"
            yield fail(text, fix=job.install)
    if not jobs:
        yield ok("no entry for this fleet")


def _ephemeral_ports() -> tuple[int, int]:
    """Return the first and last port for outgoing connections, or an empty range if unknown."""
    try:
        low, high = EPHEMERAL_PORTS.read_text().split()
        return int(low), int(high)
    except (OSError, ValueError):
        return 65536, 0
