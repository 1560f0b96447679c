"""Start the fleet at boot with systemd, launchd or cron."""

from __future__ import annotations

import os
import shlex
import sys

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.commands.service.cleanup import add_cron_line
from ccproxy.cli.render.terminal import notify, show, tilde
from ccproxy.cli.selection import open_checked, open_fleet
from ccproxy.cli.service import cron
from ccproxy.cli.service.install import (
    Kind,
    ServiceFile,
    check_owner,
    detect_kind,
    launchd_service,
    lingers,
    owner_of,
    run_commands,
    systemd_service,
    write,
)
from ccproxy.cli.single_proxy import require_table
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, UsageError


@command(
    "ccproxy install-service --now      # a systemd user unit, or launchd on macOS",
    "ccproxy install-service --system   # a systemd system unit; as root",
    "ccproxy install-service --cron     # a crontab line that starts the fleet at boot",
    "ccproxy install-service --dry-run",
    name="install-service",
)
@click.option("--systemd", "kind", flag_value="systemd", help="Install a systemd unit.")
@click.option("--launchd", "kind", flag_value="launchd", help="Install a launchd agent (macOS).")
@click.option("--cron", "kind", flag_value="cron", help="Add a @reboot line to the crontab.")
@click.option(
    "--system", is_flag=True, help="Install a system unit instead of a user unit (systemd)."
)
@click.option("--name", default="ccproxy", show_default=True, help="The name of the service.")
@click.option("--now", is_flag=True, help="Also start the service now.")
@click.option("--dry-run", is_flag=True, help="Only show what would be written.")
def install_service(
    options: Options, *, kind: Kind | None, system: bool, name: str, now: bool, dry_run: bool
) -> None:
    """
    Let the system's service manager start, watch and restart the fleet.

    The default is this machine's service manager. Installing the service again changes nothing.
    """
    # A fleet that cannot start is not installed as a service.
    fleet = open_fleet(options) if dry_run else open_checked(options).fleet
    require_table(fleet)
    chosen = kind or detect_kind()
    if system and chosen != "systemd":
        raise UsageError("--system can only be used with --systemd")
    if chosen == "cron":
        add_cron_line(fleet, cron.START, dry_run=dry_run)
        if now and not dry_run:
            notify(options, "cron starts it at the next boot.  Next:  ccproxy start")
        return
    service = (
        systemd_service(fleet, name=name, system=system, environ=os.environ)
        if chosen == "systemd"
        else launchd_service(fleet, name=name, environ=os.environ)
    )
    if dry_run:
        show(f"# {tilde(service.path)}\n{service.content()}".rstrip())
        return
    _install(options, fleet, service, now=now)
    if chosen == "systemd":
        _advise(options, fleet, system=system)


def _install(options: Options, fleet: Fleet, service: ServiceFile, *, now: bool) -> None:
    check_owner(service, fleet)
    fleet.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        changed = write(service)
    except PermissionError as error:
        again = shlex.join(["sudo", sys.executable, "-m", "ccproxy", *sys.argv[1:]])
        raise CcproxyError(
            f"no permission to write to {service.path.parent}\n  fix: {again}"
        ) from error
    show(f"{'Wrote' if changed else 'Unchanged:'} {tilde(service.path)}")
    commands = [*service.enable, *([service.start] if now else [])]
    if error_text := run_commands(commands):
        fix = " && ".join(map(shlex.join, commands))
        raise CcproxyError(f"the service is installed but not enabled: {error_text}\n  fix: {fix}")
    show("Started." if now else "It starts at the next boot or login.")
    if not now:
        notify(options, f"Next:  ccproxy stop; {shlex.join(service.start)}")


def _advise(options: Options, fleet: Fleet, *, system: bool) -> None:
    if system and owner_of(fleet).name == "root":
        text = "warning: the service runs as root because root owns the table"
        fix = f"create an account for the fleet, run: chown -R USER {fleet.home}, and install again"
        notify(options, f"{text}\n  fix: {fix}")
    elif not system and not lingers(os.environ):
        text = "note: the service stops when you log out; to keep it running"
        notify(options, f"{text}:  loginctl enable-linger")
