"""Removal of the files that ccproxy has written outside the fleet's folder, and of its state."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ccproxy.cli.render.terminal import short_path, tilde
from ccproxy.cli.service import cron
from ccproxy.cli.service.install import (
    ServiceFile,
    installed_services,
    run_commands,
)
from ccproxy.cli.single_proxy import has_table
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.supervisor.state.records import RecordFolder

_KEPT = ".gitkeep"
_LOG = re.compile(r"\.log(?:\.[0-9_]+)?$|\.out$")
"""Logs, their archives, and the output of crashed processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A change that ccproxy has made to the machine."""

    text: str
    """Shown to the user after the word "Remove"."""
    remove: Callable[[], str]
    """Undo it and return a note for the user, or an empty string. CcproxyError if that fails."""


def check_table(fleet: Fleet) -> None:
    """
    Check that *fleet* has a table: services and crontab lines belong to a table.

    Raises:
        UsageError: If its proxies run without one; the error says how to remove them by hand.
    """
    if has_table(fleet):
        return
    records = RecordFolder(fleet.pids).running()
    labels = ", ".join(record.spec.label for record in records)
    pids = " ".join(str(record.identity.pid) for record in records)
    home = shlex.quote(str(fleet.home))
    steps = ["ccproxy statusline --uninstall"] if any(_status_line(fleet)) else []
    steps += [
        f"kill {pids}",
        f"rm -r {home} once they have exited",
        "or pass -c FILE to select the fleet of a table",
    ]
    text = f"`ccproxy up --port` runs {labels} without ccproxy.toml and without a service"
    where = f"logs and state are in {short_path(fleet.home)}"
    raise UsageError(f"{text}; {where}\n  fix: {'; '.join(steps)}")


def remove_service(service: ServiceFile) -> str:
    """
    Stop and remove *service*; return the error output of the service manager.

    Raises:
        CcproxyError: If its file cannot be removed.
    """
    error_text = run_commands(service.stop)
    try:
        service.path.unlink()
    except PermissionError as error:
        raise CcproxyError(f"no permission to remove {service.path}\n  fix: use sudo") from error
    run_commands(service.after_removal)
    return error_text


def crontab_without(fleet: Fleet, job: cron.Job) -> bytes | None:
    """Return the crontab without the line of *job*, or None if it has no such line."""
    try:
        before = cron.read()
    except CcproxyError:
        return None  # cron is not installed
    after = cron.without_line(before, fleet, job=job)
    return None if after == before else after


def traces_of(fleet: Fleet, name: str | None) -> Iterator[Trace]:
    """Yield the changes for *fleet* outside its folder; of its services only *name*, if given."""
    for job in (cron.START, cron.CLEANUP):
        if crontab_without(fleet, job) is not None:
            yield Trace(
                text=f'the line "ccproxy {job.verb}" of your crontab',
                remove=partial(_remove_line, fleet, job),
            )
    yield from _status_line(fleet)
    # Last: only root can remove a system unit, and root has another crontab and home folder.
    for service in installed_services(fleet, name=name, environ=os.environ):
        yield Trace(
            text=f"the service {tilde(service.path)}",
            remove=partial(remove_service, service),
        )


def state_of(fleet: Fleet) -> list[Path]:
    """Return the files and folders of saved state and logs; other files there are not ccproxy's."""
    owner = fleet.file.stat().st_uid
    state_files = [path for folder in (fleet.state, fleet.pids) for path in _inside(folder, owner)]
    logs = [path for path in _inside(fleet.logs, owner) if _LOG.search(path.name)]
    return [*state_files, *logs]


def delete_state(fleet: Fleet) -> None:
    """Delete the files that `state_of` returns, and each folder that is then empty."""
    for path in state_of(fleet):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for folder in (fleet.state, fleet.pids, fleet.logs):
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()


def _inside(folder: Path, owner: int) -> list[Path]:
    # A table's owner must not be able to make root delete files in another user's folder.
    if not folder.is_dir() or (folder.is_symlink() and folder.stat().st_uid != owner):
        return []
    return sorted(path for path in folder.iterdir() if path.name != _KEPT)


def _remove_line(fleet: Fleet, job: cron.Job) -> str:
    after = crontab_without(fleet, job)
    if after is not None:
        cron.write(after)
    return ""


def _status_line(fleet: Fleet) -> Iterator[Trace]:
    """Yield the status line in Claude Code's settings if it belongs to *fleet*."""
    from ccproxy.cli.session.claude_settings import read_user_settings, user_settings_file
    from ccproxy.cli.session.status_line_backup import remove_status_line
    from ccproxy.cli.session.status_setting import home_of, is_ours, status_command

    settings = user_settings_file(os.environ)
    line = read_user_settings(settings).get("statusLine")
    command = (status_command(line) or {}).get("command", "")
    if is_ours(line) and home_of(command) == str(fleet.home):

        def remove() -> str:
            remove_status_line(fleet.state, settings)
            return ""

        yield Trace(text=f"the status line in {tilde(settings)}", remove=remove)
