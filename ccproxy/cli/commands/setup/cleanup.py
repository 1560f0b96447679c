"""`ccproxy cleanup`: throws old logs and old history away, now or every night."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import click

from ccproxy.cli.durations import SPAN
from ccproxy.cli.render.terminal import complain, counted, duration, near, show, size
from ccproxy.cli.selection import open_fleet
from ccproxy.cli.service import cron
from ccproxy.cli.verb import Options, Verb
from ccproxy.config.fleet import Fleet
from ccproxy.errors import UsageError
from ccproxy.logs import Removed, prune
from ccproxy.supervisor.state.wall_clock import WallClock, leap_text


@click.command(
    cls=Verb,
    examples=[
        "ccproxy cleanup --dry-run",
        "ccproxy cleanup --older-than 12h",
        "ccproxy cleanup --install-cron      # every night at two",
    ],
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option(
    "--older-than",
    type=SPAN,
    default="3d",
    show_default=True,
    help="Age of what goes: of an archive's last line, of a turn.",
)
@click.option("--force", is_flag=True, help="Also if the clock was moved.")
@click.option("--install-cron", is_flag=True, help="Have cron do it every night at two.")
@click.option("--remove-cron", is_flag=True, help="Take the line out of the crontab again.")
@click.pass_obj
def cleanup(
    options: Options,
    *,
    dry_run: bool,
    older_than: float,
    force: bool,
    install_cron: bool,
    remove_cron: bool,
) -> None:
    """
    Remove archived logs and forget history that are older than three days.

    Only archives of ccproxy in this fleet's logs folder go, and turns out of the fleet's history;
    logs in use, files in exports and everything else stay. A running fleet does this by itself.
    """
    fleet = open_fleet(options)
    if install_cron and remove_cron:
        raise UsageError("--install-cron and --remove-cron exclude each other")
    if install_cron:
        _install(fleet, dry_run=dry_run)
    elif remove_cron:
        _remove(fleet, dry_run=dry_run)
    elif _believes_the_clock(fleet, dry_run=dry_run) or force:
        removed = prune(fleet.logs, keep=timedelta(seconds=older_than), dry_run=dry_run)
        _report(removed, fleet.logs, older_than=older_than, dry_run=dry_run)
        _forget(fleet, older_than=older_than, dry_run=dry_run)


def _believes_the_clock(fleet: Fleet, *, dry_run: bool) -> bool:
    """Say so if the clock was moved since anybody last looked: every archive may seem old."""
    clock = WallClock(fleet.state)
    leap = clock.leap()
    if fleet.state.is_dir() and not dry_run:
        clock.note()
    if leap:
        complain(f"{leap_text(leap)}; skipped, run again or --force")
    return not leap


def _report(
    removed: tuple[Removed, ...], folder: Path, *, older_than: float, dry_run: bool
) -> None:
    for one in removed:
        show(f"  {near(one.path)}   {size(one.size)}")
    total = f" ({size(sum(one.size for one in removed))})" if removed else ""
    archives = "archive" if len(removed) == 1 else "archives"
    what = "Would remove" if dry_run else "Removed"
    age = f"older than {duration(older_than)}"
    show(f"{what} {len(removed)} {archives}{total} {age} from {near(folder)}.")


def _forget(fleet: Fleet, *, older_than: float, dry_run: bool) -> None:
    """Forget old turns; says nothing where there is no history."""
    from ccproxy.store.history import prune_turns  # SQLite

    turns = prune_turns(fleet.state, keep=timedelta(seconds=older_than), dry_run=dry_run)
    if turns:
        what = "Would forget" if dry_run else "Forgot"
        show(f"{what} {counted(turns, 'turn')} of history older than {duration(older_than)}.")


# The crontab...


def _install(fleet: Fleet, *, dry_run: bool) -> None:
    before = cron.read()
    line = cron.line_for(fleet, python=sys.executable)
    after = cron.with_line(before, line, fleet)
    text = line.decode().rstrip()
    if after == before:
        show(f"The line is in your crontab already:\n  {text}")
        return
    if not dry_run:
        fleet.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        cron.write(after)
    show(f"{'Would add' if dry_run else 'Added'} to your crontab:\n  {text}")


def _remove(fleet: Fleet, *, dry_run: bool) -> None:
    before = cron.read()
    after = cron.without_line(before, fleet)
    if after == before:
        show("There is no line of this fleet in your crontab.")
        return
    if not dry_run:
        cron.write(after)
    show(f"{'Would take' if dry_run else 'Took'} the line of {near(fleet.file)} out of crontab.")
