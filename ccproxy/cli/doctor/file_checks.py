"""The configuration, permissions, records, logs."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ccproxy.cli.doctor.finding import Finding, Scene, fail, ok, warn
from ccproxy.cli.render.terminal import short_path, tilde
from ccproxy.config.fleet import Fleet
from ccproxy.config.reader import is_open_to_others
from ccproxy.errors import Mistake
from ccproxy.files import read_json
from ccproxy.logs import RETENTION, prune
from ccproxy.supervisor.state.records import RecordFolder, WorkerRecord, identity_of
from ccproxy.text import counted, format_size

MUCH_LOG = 2_000_000_000
DAY = 86400


def configuration(scene: Scene) -> Iterator[Finding]:
    """Every mistake in the table and the env files."""
    for mistake in scene.mistakes:
        where = short_path(mistake.file) + (f":{mistake.line}" if mistake.line is not None else "")
        # What was found is not repeated: a key may stand where a model should.
        text, fix = mistake.text.splitlines()[0].partition(', got "')[0], mistake.fix
        words = shlex.split(fix) if _is_closing(mistake) else []
        mend = _closing(Path(words[2])) if len(words) == 3 else None
        yield fail(f"{where}: {text}", fix=fix, mend=mend)
    if scene.file is not None and not scene.mistakes:
        count = len(scene.fleet.entries) if scene.fleet else 0
        yield ok(f"{tilde(scene.file)}, {counted(count, 'proxy').replace('proxys', 'proxies')}")


def env_files(scene: Scene) -> Iterator[Finding]:
    """They hold keys: nobody else may read them, and nobody else replace them."""
    if scene.fleet is None:
        return
    told = {short_path(mistake.file) for mistake in scene.mistakes if _is_closing(mistake)}
    complete = {scene.fleet.entry(label) for label in scene.workers}
    # What works, and holds no key of which the configuration would complain, needs none.
    quiet = {entry.env_file for entry in complete if entry is not None}
    files = sorted({entry.env_file for entry in scene.fleet.entries if entry.env_file.is_file()})
    wrong = 0
    for file in files:
        if is_open_to_others(file) and file not in quiet and short_path(file) not in told:
            wrong += 1
            yield warn(
                f"{short_path(file)} is open to others (it holds no key yet)",
                fix=f"chmod 600 {shlex.quote(short_path(file))}",
                mend=_closing(file),
            )
        if file.parent.stat().st_mode & 0o022:
            wrong += 1
            folder = shlex.quote(short_path(file.parent))
            yield fail(f"others can replace {short_path(file)}", fix=f"chmod go-w {folder}")
    if not wrong:
        yield ok(f"{counted(len(files), 'env file')}, with no key that others can read")


def folders(scene: Scene) -> Iterator[Finding]:
    """Logs, pids and state belong to the user alone."""
    if scene.fleet is None:
        return
    found = [finding for path in _folders(scene.fleet) if (finding := _folder(path))]
    yield from found or [ok("logs, pids and state are yours alone")]


def file_modes(scene: Scene) -> Iterator[Finding]:
    """Whatever ccproxy writes is closed to others."""
    if scene.fleet is None:
        return
    wrong = [
        path
        for folder in _folders(scene.fleet)
        if folder.is_dir()
        for path in folder.iterdir()
        if stat.S_ISREG(path.lstat().st_mode) and path.lstat().st_mode & 0o077
        if path.name != ".gitkeep"
    ]
    for path in wrong:
        fix = f"chmod 600 {shlex.quote(short_path(path))}"
        yield warn(f"others can read {short_path(path)}", fix=fix, mend=_closing(path))
    if not wrong:
        yield ok("every log, record and key is closed to others")


def version_control(scene: Scene) -> Iterator[Finding]:
    """A key that was committed has left the house."""
    git = shutil.which("git")
    if scene.fleet is None or git is None:
        return
    tracked = []
    for entry in scene.fleet.entries:
        config = scene.workers.get(entry.label)
        if config is None or not (config.client_keys or _holds_key(entry.env_file)):
            continue
        done = subprocess.run(  # noqa: S603 - the path is from which()
            [git, "ls-files", "--error-unmatch", entry.env_file.name],
            cwd=entry.env_file.parent,
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            tracked.append(entry.env_file)
    for file in tracked:
        fix = (
            f"git rm --cached {shlex.quote(short_path(file))}; add it to .gitignore; renew its keys"
        )
        yield fail(f"git keeps {short_path(file)} and the keys in it", fix=fix)
    if not tracked:
        yield ok("no env file with a key is in git")


def records(scene: Scene) -> Iterator[Finding]:
    """A record of a process that is gone misleads nobody, but tidy is tidy."""
    if scene.fleet is None:
        return
    stale = [path for path, record in RecordFolder(scene.fleet.pids).read() if _is_stale(record)]
    supervisor = scene.fleet.pids / "supervisor.pid"
    if supervisor.is_file() and not _lives(supervisor):
        stale.append(supervisor)
    for path in stale:
        fix = f"rm {shlex.quote(short_path(path))}"
        yield warn(
            f"{short_path(path)} is about a process that is gone", fix=fix, mend=_removing(path)
        )
    if not stale:
        yield ok("no stale records")


def log_size(scene: Scene) -> Iterator[Finding]:
    """Archives are kept for three days."""
    if scene.fleet is None:
        return
    folder = scene.fleet.logs
    files = list(folder.glob("*.log*")) if folder.is_dir() else []
    total = sum(file.lstat().st_size for file in files)
    old = prune(folder, dry_run=True)
    if old:
        days = RETENTION.days
        text = f"{counted(len(old), 'archive')} older than {days} days"
        yield warn(text, fix="ccproxy cleanup --install-cron", mend=lambda: _prune(folder))
    elif total > MUCH_LOG:
        yield warn(f"{format_size(total)} of logs", fix="ccproxy cleanup --older-than 12h")
    else:
        yield ok(f"{format_size(total)} of logs")


def log_times(scene: Scene) -> Iterator[Finding]:
    """A file from the future means that the clock was turned back."""
    if scene.fleet is None:
        return
    ahead = [
        file
        for file in scene.fleet.logs.glob("*.log*")
        if file.lstat().st_mtime > time.time() + DAY
    ]
    if ahead:
        fix = "timedatectl set-ntp true"
        yield warn(f"{short_path(ahead[0])} is from the future: the clock was turned back", fix=fix)
    else:
        yield ok("no file is from the future")


def _folders(fleet: Fleet) -> tuple[Path, ...]:
    return fleet.logs, fleet.pids, fleet.state


def _folder(path: Path) -> Finding | None:
    name = shlex.quote(short_path(path))
    if not os.access(path if os.path.lexists(path) else path.parent, os.W_OK):
        fix = "move ccproxy.toml and envs/ to a folder that can be written"
        return fail(f"{short_path(path)} cannot be written", fix=fix)
    if not os.path.lexists(path):
        return None  # made when it is needed
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        return fail(f"{short_path(path)} is not a folder", fix=f"remove {name}")
    if facts.st_uid != os.getuid() and os.getuid() != 0:
        return fail(
            f"{short_path(path)} belongs to somebody else", fix=f"sudo chown -R $USER {name}"
        )
    if facts.st_mode & 0o022:
        fix = f"chmod 700 {name}"
        return fail(
            f"others can write to {short_path(path)}", fix=fix, mend=lambda: path.chmod(0o700)
        )
    return None


def _is_closing(mistake: Mistake) -> bool:
    """Tell whether it is mended by closing a file, one with a key, to others."""
    return mistake.fix.startswith("chmod 600 ")


def _closing(path: Path) -> Callable[[], None]:
    def close() -> None:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fchmod(fd, 0o600)
        finally:
            os.close(fd)

    return close


def _removing(path: Path) -> Callable[[], None]:
    return lambda: path.unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    prune(folder)


def _holds_key(file: Path) -> bool:
    try:
        return "API_KEY=" in file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _is_stale(record: WorkerRecord | None) -> bool:
    return record is None or not record.identity.is_alive()


def _lives(path: Path) -> bool:
    try:
        return identity_of(read_json(path)).is_alive()
    except (OSError, ValueError, KeyError, TypeError):
        return False
