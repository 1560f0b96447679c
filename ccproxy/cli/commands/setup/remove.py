"""Remove a provider from the table and stop its proxy."""

from __future__ import annotations

import shlex
from contextlib import suppress

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.confirmation import confirm
from ccproxy.cli.render.terminal import notify, short_path, show
from ccproxy.cli.selection import complete_label, open_entry
from ccproxy.cli.single_proxy import require_table
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.errors import ConfigError, NotRunning, UsageError


@command(
    "ccproxy remove kimi",
    "ccproxy remove kimi --yes --delete-env      # in a script; also deletes its keys",
)
@click.argument("label", shell_complete=complete_label)
@click.option("--delete-env", is_flag=True, help="Delete its env file with the keys as well.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def remove(options: Options, label: str, *, delete_env: bool, yes: bool) -> None:
    """
    Remove the entry LABEL from the table and stop its proxy.

    Its env file, logs and history are kept. An entry that other entries use, for example as a
    fallback, is not removed.
    """
    from ccproxy.cli.setup.config_edit import remove_entry

    fleet, entry = open_entry(options, label)
    require_table(fleet)
    users = [other.label for other in fleet.entries if other.env_file == entry.env_file]
    if delete_env and len(users) > 1:
        others = ", ".join(name for name in users if name != entry.label)
        text = f"{short_path(entry.env_file)} is also used by {others}"
        raise UsageError(f"{text}\n  fix: omit --delete-env")
    keys = f" and delete {short_path(entry.env_file)} with its keys" if delete_env else ""
    question = f"Remove {entry.label} (port {entry.port}){keys}?"
    option = " --delete-env" if delete_env else ""
    confirm(question, yes=yes, fix=f"ccproxy remove {entry.label} --yes{option}")
    remove_entry(fleet, entry)
    show(f"Removed {entry.label} from {short_path(entry.table or fleet.file)}.")
    _stop(options, fleet, entry)
    if delete_env:
        entry.env_file.unlink(missing_ok=True)
        show(f"Deleted {short_path(entry.env_file)}.")
    elif len(users) == 1:
        path = short_path(entry.env_file)
        notify(options, f"Kept {path} with its keys; to delete it:  rm {shlex.quote(path)}")


def _stop(options: Options, fleet: Fleet, entry: Entry) -> None:
    """Stop the proxy if it is running, and delete Claude Code's settings for it."""
    from ccproxy.supervisor.control.client import fleet_status, request

    for path in (fleet.state / "claude").glob(f"{entry.label}*.json"):
        if path.stem == entry.label or path.stem.startswith(f"{entry.label}+"):
            path.unlink(missing_ok=True)  # the file may contain a client key
    running = [row.label for row in fleet_status(fleet).proxies if row.pids]
    if entry.label not in running:
        return
    changes = []
    with suppress(NotRunning):
        with suppress(ConfigError):  # the table is empty now
            plan = request(fleet, "plan").plan
            changes = [(one.label, one.change) for one in plan if one.change != "="]
        # A reload would drop the proxy, but would also apply every other change to the files.
        if changes == [(entry.label, "-")]:
            request(fleet, "reload")
        else:
            request(fleet, "stop", labels=[entry.label])
    notify(options, f"Stopped {entry.label}.")
