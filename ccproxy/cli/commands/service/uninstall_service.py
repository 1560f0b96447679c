"""Undo install-service."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from ccproxy.cli.command import Command, Options
from ccproxy.cli.render.terminal import notify, show, tilde
from ccproxy.cli.selection import open_fleet
from ccproxy.cli.service import cron
from ccproxy.cli.service.install import (
    ServiceFile,
    launchd_service,
    run_commands,
    systemd_service,
)
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError


@click.command(
    cls=Command,
    name="uninstall-service",
    examples=[
        "ccproxy uninstall-service",
        "ccproxy uninstall-service --dry-run",
    ],
)
@click.option("--name", default="ccproxy", show_default=True, help="The name of the service.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.pass_obj
def uninstall_service(options: Options, *, name: str, dry_run: bool) -> None:
    """
    Remove every service of this fleet; the service manager stops the fleet.

    Services of other fleets and all other lines of the crontab are not changed.
    """
    fleet = open_fleet(options)
    services = list(_installed(fleet, name))
    for service in services:
        _remove(options, service, dry_run=dry_run)
    has_cron_line = _remove_cron(fleet, dry_run=dry_run)
    if not (services or has_cron_line):
        show("No service of this fleet is installed.")


def _installed(fleet: Fleet, name: str) -> Iterator[ServiceFile]:
    services = (
        systemd_service(fleet, name=name, system=False, environ=os.environ),
        systemd_service(fleet, name=name, system=True, environ=os.environ),
        launchd_service(fleet, name=name, environ=os.environ),
    )
    return (service for service in services if service.owner == fleet.file)


def _remove(options: Options, service: ServiceFile, *, dry_run: bool) -> None:
    if dry_run:
        show(f"Would remove {tilde(service.path)}")
        return
    if error_text := run_commands(service.stop):
        notify(options, f"note: {error_text}")
    try:
        service.path.unlink()
    except PermissionError as error:
        raise CcproxyError(f"no permission to remove {service.path}\n  fix: use sudo") from error
    run_commands(service.after_removal)
    show(f"Removed {tilde(service.path)}")


def _remove_cron(fleet: Fleet, *, dry_run: bool) -> bool:
    try:
        before = cron.read()
    except CcproxyError:
        return False  # cron is not installed
    after = cron.without_line(before, fleet, job=cron.START)
    if after == before:
        return False
    if not dry_run:
        cron.write(after)
    verb = "Would remove" if dry_run else "Removed"
    show(f"{verb} the start at boot from your crontab.")
    return True
