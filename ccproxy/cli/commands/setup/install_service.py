"""`ccproxy install-service`: the fleet starts with the machine, or with its user's session."""

from __future__ import annotations

import os
import shlex
import sys

import click

from ccproxy.cli.render.terminal import say, show, tilde
from ccproxy.cli.selection import open_fleet
from ccproxy.cli.service import cron
from ccproxy.cli.service.install import (
    Kind,
    Service,
    call,
    check_owner,
    kind_of_machine,
    launchd_service,
    lingers,
    owner_of,
    systemd_service,
    write,
)
from ccproxy.cli.verb import Options, Verb
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, UsageError


@click.command(
    cls=Verb,
    name="install-service",
    examples=[
        "ccproxy install-service --now      # this user's systemd, or launchd on a Mac",
        "ccproxy install-service --system   # the whole machine's systemd; as root",
        "ccproxy install-service --cron     # a line in the crontab: start at boot",
        "ccproxy install-service --dry-run",
    ],
)
@click.option("--systemd", "kind", flag_value="systemd", help="A systemd unit.")
@click.option("--launchd", "kind", flag_value="launchd", help="A launchd agent (macOS).")
@click.option("--cron", "kind", flag_value="cron", help="A @reboot line in the crontab.")
@click.option("--system", is_flag=True, help="systemd: for the whole machine, not only this user.")
@click.option("--name", default="ccproxy", show_default=True, help="The name of the service.")
@click.option("--now", is_flag=True, help="Also start it now.")
@click.option("--dry-run", is_flag=True, help="Only show what would be written.")
@click.pass_obj
def install_service(
    options: Options, *, kind: Kind | None, system: bool, name: str, now: bool, dry_run: bool
) -> None:
    """
    Have the fleet started, watched and started again by the system's own manager.

    Without an option it takes what the machine has. Installing twice is the same as once.
    """
    fleet = open_fleet(options)
    chosen = kind or kind_of_machine()
    if system and chosen != "systemd":
        raise UsageError("--system goes with --systemd only")
    if chosen == "cron":
        _install_cron(options, fleet, dry_run=dry_run, now=now)
        return
    service = (
        systemd_service(fleet, name=name, system=system, environ=os.environ)
        if chosen == "systemd"
        else launchd_service(fleet, name=name, environ=os.environ)
    )
    if dry_run:
        show(f"# {tilde(service.file)}\n{service.content.decode()}".rstrip())
        return
    _install(options, fleet, service, now=now)
    if chosen == "systemd":
        _advise(options, fleet, system=system)


def _install(options: Options, fleet: Fleet, service: Service, *, now: bool) -> None:
    check_owner(service, fleet)
    _check(fleet)
    fleet.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        changed = write(service)
    except PermissionError as error:
        again = shlex.join(["sudo", sys.executable, "-m", "ccproxy", *sys.argv[1:]])
        raise CcproxyError(
            f"{service.file.parent} is not yours to write\n  fix: {again}"
        ) from error
    show(f"{'Wrote' if changed else 'Unchanged:'} {tilde(service.file)}")
    commands = [*service.enable, *([service.start] if now else [])]
    if said := call(commands):
        by_hand = " && ".join(map(shlex.join, commands))
        raise CcproxyError(f"the service is written, but not switched on: {said}\n  fix: {by_hand}")
    show("It is started now." if now else "It starts at the next boot or login.")
    if not now:
        say(options, f"Next:  ccproxy stop; {shlex.join(service.start)}")


def _check(fleet: Fleet) -> None:
    """Be sure that the fleet can start: a service that cannot is not installed."""
    from ccproxy.config.check import load_all  # reads presets: too slow to load for --help

    load_all(fleet.file)


def _advise(options: Options, fleet: Fleet, *, system: bool) -> None:
    if system and owner_of(fleet).name == "root":
        say(options, "warning: it runs as root, because root owns the table")
        say(options, f"  fix: chown -R a user of its own to {fleet.home}, and install again")
    elif not system and not lingers(os.environ):
        say(options, "note: it ends with your last logout; to keep it:  loginctl enable-linger")


def _install_cron(options: Options, fleet: Fleet, *, dry_run: bool, now: bool) -> None:
    line = cron.line_for(fleet, python=sys.executable, job=cron.START)
    text = line.decode().rstrip()
    if dry_run:
        show(text)
        return
    _check(fleet)
    before = cron.read()
    after = cron.with_line(before, line, fleet, job=cron.START)
    fleet.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    if after == before:
        show(f"The line is in your crontab already:\n  {text}")
    else:
        cron.write(after)
        show(f"Added to your crontab:\n  {text}")
    if now:
        say(options, "cron starts it at the next boot.  Next:  ccproxy start")
