"""`ccproxy uninstall-service`: takes back what install-service did, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from ccproxy.cli.render.terminal import say, show, tilde
from ccproxy.cli.selection import open_fleet
from ccproxy.cli.service import cron
from ccproxy.cli.service.install import Service, call, launchd_service, systemd_service
from ccproxy.cli.verb import Options, Verb
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError


@click.command(
    cls=Verb,
    name="uninstall-service",
    examples=[
        "ccproxy uninstall-service",
        "ccproxy uninstall-service --dry-run",
    ],
)
@click.option("--name", default="ccproxy", show_default=True, help="The name of the service.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.pass_obj
def uninstall_service(options: Options, *, name: str, dry_run: bool) -> None:
    """
    Remove this fleet's service, wherever it was installed; the fleet is stopped by its manager.

    Services of other fleets stay, and every other line of the crontab keeps its bytes.
    """
    fleet = open_fleet(options)
    found = False
    for service in _installed(fleet, name):
        found = True
        _remove(options, service, dry_run=dry_run)
    found = _remove_cron(fleet, dry_run=dry_run) or found
    if not found:
        show("No service of this fleet is installed.")


def _installed(fleet: Fleet, name: str) -> Iterator[Service]:
    services = (
        systemd_service(fleet, name=name, system=False, environ=os.environ),
        systemd_service(fleet, name=name, system=True, environ=os.environ),
        launchd_service(fleet, name=name, environ=os.environ),
    )
    return (service for service in services if service.owner == fleet.file)


def _remove(options: Options, service: Service, *, dry_run: bool) -> None:
    if dry_run:
        show(f"Would remove {tilde(service.file)}")
        return
    if said := call(service.stop):
        say(options, f"note: {said}")
    try:
        service.file.unlink()
    except PermissionError as error:
        raise CcproxyError(f"{service.file} is not yours to remove\n  fix: use sudo") from error
    call(service.forget)
    show(f"Removed {tilde(service.file)}")


def _remove_cron(fleet: Fleet, *, dry_run: bool) -> bool:
    try:
        before = cron.read()
    except CcproxyError:
        return False  # where there is no crontab there is no line
    after = cron.without_line(before, fleet, job=cron.START)
    if after == before:
        return False
    if not dry_run:
        cron.write(after)
    show(f"{'Would take' if dry_run else 'Took'} the start at boot out of your crontab.")
    return True
