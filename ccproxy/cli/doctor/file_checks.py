"""Checks of the configuration, permissions, records and logs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ccproxy.cli.doctor.finding import Finding, Scene, fail, ok, warn
from ccproxy.cli.render.terminal import short_path, tilde
from ccproxy.config.fleet import Fleet
from ccproxy.config.reader import is_open_to_others
from ccproxy.files import read_json
from ccproxy.log_rotation import RETENTION, prune
from ccproxy.supervisor.state.records import identity_of
from ccproxy.text import counted, format_size

LARGE_LOG_BYTES = 2_000_000_000
DAY = 86400
_QUOTED = re.compile(r'".*"')


def configuration(scene: Scene) -> Iterator[Finding]:
    """Report every mistake in the table and the env files."""
    for mistake in scene.mistakes:
        where = short_path(mistake.file)
        if mistake.line is not None:
            where += f":{mistake.line}"
        # Quoted parts are the user's input, which may be a key entered in place of a model.
        text = _QUOTED.sub('"…"', mistake.text.splitlines()[0])
        repair = _close(mistake.file) if mistake.is_exposed_file else None
        yield fail(f"{where}: {text}", fix=_QUOTED.sub('"…"', mistake.fix), repair=repair)
    if scene.file is not None and not scene.mistakes:
        count = len(scene.fleet.entries) if scene.fleet else 0
        yield ok(f"{tilde(scene.file)}, {counted(count, 'provider')}")


def env_files(scene: Scene) -> Iterator[Finding]:
    """Check that other users can neither read nor replace an env file."""
    if scene.fleet is None:
        return
    reported = {mistake.file.absolute() for mistake in scene.mistakes if mistake.is_exposed_file}
    # A valid env file that needs no key, as for the demo provider, may be readable by others.
    valid = {scene.fleet.entry(label) for label in scene.workers}
    harmless = {entry.env_file for entry in valid if entry is not None} | reported
    files = sorted({entry.env_file for entry in scene.fleet.entries if entry.env_file.is_file()})
    findings = []
    for file in files:
        name = short_path(file)
        if is_open_to_others(file) and file not in harmless:
            text = f"{name} is readable by other users (it contains no key yet)"
            fix = f"chmod 600 {shlex.quote(name)}"
            findings.append(warn(text, fix=fix, repair=_close(file)))
        if file.parent.stat().st_mode & 0o022:
            folder = shlex.quote(short_path(file.parent))
            findings.append(
                fail(f"{name} can be replaced by other users", fix=f"chmod go-w {folder}")
            )
    everything = f"{counted(len(files), 'env file')}, none with a key is readable by other users"
    yield from findings or [ok(everything)]


def folders(scene: Scene) -> Iterator[Finding]:
    """Check that only the user can read logs, pids and state."""
    if scene.fleet is None:
        return
    findings = [finding for path in _folders(scene.fleet) if (finding := _folder(path))]
    yield from findings or [ok("only you can write to logs, pids and state")]


def file_modes(scene: Scene) -> Iterator[Finding]:
    """Check that no file of ccproxy is readable by other users."""
    if scene.fleet is None:
        return
    readable = [
        path
        for folder in _folders(scene.fleet)
        for path, facts in _content_of(folder)
        if stat.S_ISREG(facts.st_mode) and facts.st_mode & 0o077 and path.name != ".gitkeep"
    ]
    for path in readable:
        fix = f"chmod 600 {shlex.quote(short_path(path))}"
        yield warn(f"{short_path(path)} is readable by other users", fix=fix, repair=_close(path))
    if not readable:
        yield ok("no log, record or state file is readable by other users")


def version_control(scene: Scene) -> Iterator[Finding]:
    """Check that git tracks no env file with a key."""
    git = shutil.which("git")
    if scene.fleet is None or git is None:
        return
    tracked = []
    for entry in scene.fleet.entries:
        config = scene.workers.get(entry.label)
        if config is None or not (config.client_keys or _contains_key(entry.env_file)):
            continue
        process = subprocess.run(  # noqa: S603 - the path is from which()
            [git, "ls-files", "--error-unmatch", entry.env_file.name],
            cwd=entry.env_file.parent,
            capture_output=True,
            check=False,
        )
        if process.returncode == 0:
            tracked.append(short_path(entry.env_file))
    for name in tracked:
        fix = f"git rm --cached {shlex.quote(name)}; add it to .gitignore; replace its keys"
        yield fail(f"git tracks {name} and the keys in it", fix=fix)
    if not tracked:
        yield ok("git tracks no env file with a key")


def records(scene: Scene) -> Iterator[Finding]:
    """Check for records of processes that no longer exist."""
    if scene.fleet is None:
        return
    files = sorted(scene.fleet.pids.glob("*.pid"))
    stale = [file for file in files if not file.is_symlink() and _is_stale(file)]
    for path in stale:
        text = f"{short_path(path)} is the record of a process that no longer exists"
        yield warn(text, fix=f"rm {shlex.quote(short_path(path))}", repair=_remove_stale(path))
    if not stale:
        yield ok("no stale records")


def log_size(scene: Scene) -> Iterator[Finding]:
    """Check the size and age of the logs, which are deleted after three days."""
    if scene.fleet is None:
        return
    folder = scene.fleet.logs
    total = sum(facts.st_size for path, facts in _content_of(folder) if ".log" in path.name)
    old = prune(folder, dry_run=True)
    if old:
        text = f"{counted(len(old), 'archive')} older than {RETENTION.days} days"
        fix = "ccproxy cleanup --install-cron"
        yield warn(text, fix=fix, repair=lambda: _prune(folder))
    elif total > LARGE_LOG_BYTES:
        yield warn(f"{format_size(total)} of logs", fix="ccproxy cleanup --older-than 12h")
    else:
        yield ok(f"{format_size(total)} of logs")


def log_times(scene: Scene) -> Iterator[Finding]:
    """Check for log files with a modification time in the future: the clock was set back."""
    if scene.fleet is None:
        return
    limit = time.time() + DAY
    future = [
        path
        for path, facts in _content_of(scene.fleet.logs)
        if ".log" in path.name and facts.st_mtime > limit
    ]
    if future:
        name = short_path(future[0])
        text = f"{name} has a modification time in the future: the clock was set back"
        yield warn(text, fix="timedatectl set-ntp true")
    else:
        yield ok("no log file has a modification time in the future")


def _folders(fleet: Fleet) -> tuple[Path, ...]:
    return fleet.logs, fleet.pids, fleet.state


def _content_of(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the content of *folder* with its attributes, except files deleted meanwhile."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        with suppress(FileNotFoundError):
            yield path, path.lstat()


def _folder(path: Path) -> Finding | None:
    name = short_path(path)
    facts = path.lstat() if os.path.lexists(path) else None
    quoted = shlex.quote(name)
    # Checked first, because another user's folder is usually not writable either.
    if facts is not None and facts.st_uid != os.getuid() and os.getuid() != 0:
        return fail(f"{name} belongs to another user", fix=f"sudo chown -R $USER {quoted}")
    if not os.access(path.parent if facts is None else path, os.W_OK):
        fix = "move ccproxy.toml and envs/ to a writable folder"
        return fail(f"{name} is not writable", fix=fix)
    if facts is None:
        return None  # created on demand
    if not stat.S_ISDIR(facts.st_mode):
        return fail(f"{name} is not a folder", fix=f"remove {quoted}")
    if facts.st_mode & 0o022:
        return fail(
            f"{name} is writable by other users",
            fix=f"chmod 700 {quoted}",
            repair=lambda: path.chmod(0o700),
        )
    return None


# Repairs.


def _close(path: Path) -> Callable[[], None]:
    """Return a function that makes *path* private; it does not follow a symbolic link."""

    def close() -> None:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fchmod(fd, 0o600)
        finally:
            os.close(fd)

    return close


def _remove_stale(record: Path) -> Callable[[], None]:
    """Return a function that removes *record* unless a new process has replaced it meanwhile."""

    def remove() -> None:
        if _is_stale(record):
            record.unlink(missing_ok=True)

    return remove


def _prune(folder: Path) -> None:
    prune(folder)


def _contains_key(file: Path) -> bool:
    try:
        return "API_KEY=" in file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _is_stale(record: Path) -> bool:
    """
    Return True if the process of *record* no longer exists, or the file is not a record.

    Raises:
        PermissionError: If it belongs to another user, whose process may be running.
    """
    try:
        return not identity_of(read_json(record)).is_alive()
    except FileNotFoundError:
        return False
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        return True
