"""Undo install-service."""

from __future__ import annotations

import os

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.commands.service.cleanup import remove_cron_line
from ccproxy.cli.render.terminal import notify, show, tilde
from ccproxy.cli.selection import open_fleet
from ccproxy.cli.service import cron
from ccproxy.cli.service.install import ServiceFile, installed_services
from ccproxy.cli.service.leftovers import check_table, remove_service


@command(
    "ccproxy uninstall-service",
    "ccproxy uninstall-service --dry-run",
    name="uninstall-service",
)
@click.option("--name", help="Only the service with this name.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
def uninstall_service(options: Options, *, name: str | None, dry_run: bool) -> None:
    """
    Remove every service of this fleet; the service manager stops the fleet.

    Services of other fleets and all other lines of the crontab are not changed.
    """
    fleet = open_fleet(options)
    check_table(fleet)
    services = list(installed_services(fleet, name=name, environ=os.environ))
    for service in services:
        _remove(options, service, dry_run=dry_run)
    has_cron_line = remove_cron_line(fleet, cron.START, dry_run=dry_run)
    if not (services or has_cron_line):
        show("No service of this fleet is installed.")


def _remove(options: Options, service: ServiceFile, *, dry_run: bool) -> None:
    if dry_run:
        show(f"Would remove {tilde(service.path)}")
        return
    if error_text := remove_service(service):
        notify(options, f"note: {error_text}")
    show(f"Removed {tilde(service.path)}")
