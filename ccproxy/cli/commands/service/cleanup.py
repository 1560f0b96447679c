"""Delete logs older than three days."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import click

from ccproxy.cli.command import DURATION, Options, command
from ccproxy.cli.render.terminal import print_error, short_path, show
from ccproxy.cli.selection import open_fleet
from ccproxy.cli.service import cron
from ccproxy.cli.service.leftovers import crontab_without
from ccproxy.cli.single_proxy import require_table
from ccproxy.config.fleet import Fleet
from ccproxy.errors import UsageError
from ccproxy.log_rotation import Removed, prune
from ccproxy.store.wall_clock import WallClock, describe_jump
from ccproxy.text import counted, format_duration, format_size


@command(
    "ccproxy cleanup --dry-run",
    "ccproxy cleanup --older-than 12h",
    "ccproxy cleanup --install-cron      # every night at 2:00",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option(
    "--older-than",
    type=DURATION,
    default="3d",
    show_default=True,
    help="Minimum age of an archive's last line, or of a turn in the history.",
)
@click.option("--force", is_flag=True, help="Run even if the system clock was changed.")
@click.option(
    "--install-cron",
    is_flag=True,
    help="Add a crontab line that runs the cleanup every night at 2:00.",
)
@click.option(
    "--remove-cron", is_flag=True, help="Remove the line that --install-cron added to the crontab."
)
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
    Remove archived logs and recorded history older than three days.

    Only ccproxy's archives in this fleet's logs folder and turns in its history are removed; logs
    in use, exports and all other files are kept. A running fleet does this automatically.
    """
    fleet = open_fleet(options)
    if install_cron and remove_cron:
        raise UsageError("--install-cron and --remove-cron cannot be combined")
    if install_cron:
        add_cron_line(fleet, cron.CLEANUP, dry_run=dry_run)
    elif remove_cron:
        if not remove_cron_line(fleet, cron.CLEANUP, dry_run=dry_run):
            show("Your crontab has no line for this fleet.")
    elif _is_clock_steady(fleet, dry_run=dry_run) or force:
        removed = prune(fleet.logs, keep=timedelta(seconds=older_than), dry_run=dry_run)
        _report(removed, fleet.logs, older_than=older_than, dry_run=dry_run)
        _prune_history(fleet, older_than=older_than, dry_run=dry_run)


def _is_clock_steady(fleet: Fleet, *, dry_run: bool) -> bool:
    """Return True, or report a clock jump and return False: it can make every archive seem old."""
    jump = WallClock(fleet.state).jump(is_dry_run=dry_run)
    if jump:
        fix = "correct the clock, or use --force; after a day the clock is trusted again"
        print_error(f"{describe_jump(jump)}; nothing was removed\n  fix: {fix}")
    return not jump


def _report(removed: Sequence[Removed], folder: Path, *, older_than: float, dry_run: bool) -> None:
    for archive in removed:
        show(f"  {short_path(archive.path)}   {format_size(archive.size)}")
    total = f" ({format_size(sum(archive.size for archive in removed))})" if removed else ""
    verb = "Would remove" if dry_run else "Removed"
    archives = counted(len(removed), "archive")
    age = f"older than {format_duration(older_than)}"
    show(f"{verb} {archives}{total} {age} from {short_path(folder)}.")


def _prune_history(fleet: Fleet, *, older_than: float, dry_run: bool) -> None:
    """Delete old turns; print nothing if there are none."""
    from ccproxy.store.history import prune_turns  # imports SQLite

    turns = prune_turns(fleet.state, keep=timedelta(seconds=older_than), dry_run=dry_run)
    if turns:
        verb = "Would delete" if dry_run else "Deleted"
        age = f"older than {format_duration(older_than)}"
        show(f"{verb} {counted(turns, 'turn')} of history {age}.")


# The crontab.


def add_cron_line(fleet: Fleet, job: cron.Job, *, dry_run: bool) -> None:
    """
    Add the line for *job* to the user's crontab unless it is already there.

    Raises:
        UsageError: If the proxies run without a table.
        CcproxyError: If `crontab` is not installed or fails.
    """
    require_table(fleet)
    line = cron.line_for(fleet, python=sys.executable, job=job)
    text = line.decode(errors="replace").rstrip()
    before = cron.read()
    after = cron.with_line(before, line, fleet, job=job)
    if after == before:
        show(f"This line is already in your crontab:\n  {text}")
        return
    if not dry_run:
        fleet.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        cron.write(after)
    show(f"{'Would add' if dry_run else 'Added'} to your crontab:\n  {text}")


def remove_cron_line(fleet: Fleet, job: cron.Job, *, dry_run: bool) -> bool:
    """Remove the line for *job* from the user's crontab; return False if there is none."""
    after = crontab_without(fleet, job)
    if after is None:
        return False
    if not dry_run:
        cron.write(after)
    verb = "Would remove" if dry_run else "Removed"
    show(f'{verb} the line "ccproxy {job.verb}" for {short_path(fleet.file)} from your crontab.')
    return True
