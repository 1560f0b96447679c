"""
The lines in the user's crontab: one for the daily cleanup, one for the start at boot.

A comment at the end of a line names the table and identifies the line. All other lines are kept
byte for byte, which python-crontab does not guarantee: it parses and reformats the whole crontab.
`read` and `write` run the `crontab` program; everything else is pure.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError

PERCENT = "\\%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A ccproxy command that cron runs, its schedule, and its log file."""

    schedule: str
    verb: str
    log: str
    install: str
    """The command that adds its line to the crontab."""


CLEANUP = Job(
    schedule="0 2 * * *",
    verb="cleanup",
    log="cleanup-cron.log",
    install="ccproxy cleanup --install-cron",
)
START = Job(
    schedule="@reboot",
    verb="start",
    log="start-cron.log",
    install="ccproxy install-service --cron",
)


def line_for(fleet: Fleet, *, python: str, job: Job = CLEANUP) -> bytes:
    """
    Return the crontab line that runs *job* for *fleet*, with absolute paths only.

    Raises:
        CcproxyError: If a path contains a line break, which a crontab cannot represent.

    """
    command = [python, "-m", "ccproxy", "--config", str(fleet.file), job.verb]
    log = shlex.quote(str(fleet.logs / job.log))
    line = f"{shlex.join(command)} >> {log} 2>&1 {_marker(fleet, job)}"
    if "\n" in line or "\r" in line:
        text = f"{str(fleet.file)!r} contains a line break, which cron does not support"
        raise CcproxyError(f"{text}\n  fix: move the fleet to a folder without line breaks")
    return _escaped(f"{job.schedule} {line}\n")


def with_line(crontab: bytes, line: bytes, fleet: Fleet, *, job: Job = CLEANUP) -> bytes:
    """Return *crontab* with *line* as the only line of *fleet* and *job*."""
    rest = without_line(crontab, fleet, job=job)
    if rest and not rest.endswith(b"\n"):
        rest += b"\n"
    return rest + line


def without_line(crontab: bytes, fleet: Fleet, *, job: Job = CLEANUP) -> bytes:
    """Return *crontab* without the line of *fleet* and *job*."""
    lines = crontab.splitlines(keepends=True)
    return b"".join(line for line in lines if not _is_line_of(fleet, job, line))


def jobs_of(fleet: Fleet, crontab: bytes) -> Iterator[tuple[Job, Path | None]]:
    """Yield each job of *fleet* in *crontab* with its Python; None if its line was rewritten."""
    for line in crontab.splitlines():
        for job in (CLEANUP, START):
            if _is_line_of(fleet, job, line):
                yield job, _python_in(os.fsdecode(line).replace(PERCENT, "%"))


def _python_in(line: str) -> Path | None:
    try:
        words = shlex.split(line, comments=True)
        return Path(words[words.index("-m") - 1])
    except ValueError:
        return None


def _is_line_of(fleet: Fleet, job: Job, line: bytes) -> bool:
    return line.rstrip(b"\r\n").endswith(_escaped(_marker(fleet, job)))


def _marker(fleet: Fleet, job: Job) -> str:
    return f"# ccproxy {job.verb} of {fleet.file}"


def _escaped(line: str) -> bytes:
    """Return *line* for a crontab, where an unescaped % is a line break, even inside quotes."""
    return os.fsencode(line.replace("%", PERCENT))


# The crontab program.


def read() -> bytes:
    """
    Return the user's crontab; empty if there is none.

    Raises:
        CcproxyError: If `crontab` is not installed or fails.

    """
    done = _crontab("-l")
    if done.returncode == 0:
        return done.stdout
    message = done.stderr.decode(errors="replace").strip()
    if not done.stdout and ("no crontab" in message or "No such file" in message):
        return b""
    raise CcproxyError(f"crontab -l failed: {message or done.returncode}")


def write(crontab: bytes) -> None:
    """Replace the user's crontab; raise CcproxyError if `crontab` is not installed or fails."""
    done = _crontab("-", text=crontab)
    if done.returncode != 0:
        message = done.stderr.decode(errors="replace").strip()
        raise CcproxyError(f"crontab rejected the change: {message or done.returncode}")


def _crontab(argument: str, *, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("crontab")
    if program is None:
        raise CcproxyError(
            "crontab is not installed\n"
            "  fix: install cron, or run `ccproxy start` at boot and `ccproxy cleanup` daily "
            "by other means"
        )
    return subprocess.run(  # noqa: S603 - the path is from which()
        [program, argument], input=text, capture_output=True, check=False
    )
