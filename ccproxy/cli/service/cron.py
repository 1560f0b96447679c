"""
The lines in the user's crontab: one that cleans up daily, one that starts the fleet at boot.

A line is found again by the comment at its end, which names the table; every other line keeps its
bytes. The texts are pure; `read` and `write` run the `crontab` program.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import dataclass

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError

PERCENT = "\\%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What cron does, when, and the log that it writes."""

    schedule: str
    verb: str
    log: str


CLEANUP = Job(schedule="0 2 * * *", verb="cleanup", log="cleanup-cron.log")
START = Job(schedule="@reboot", verb="start", log="start-cron.log")


def line_for(fleet: Fleet, *, python: str, job: Job = CLEANUP) -> bytes:
    """
    Return the crontab line that does *job* for *fleet*, with absolute paths only.

    Raises:
        CcproxyError: If a path holds a line end, which no crontab can.

    """
    words = [python, "-m", "ccproxy", "--config", str(fleet.file), job.verb]
    log = shlex.quote(str(fleet.logs / job.log))
    line = f"{shlex.join(words)} >> {log} 2>&1 {_marker(fleet, job)}"
    if "\n" in line or "\r" in line:
        raise CcproxyError(f"{fleet.file!r} holds a line end; cron cannot call it")
    # cron takes a bare % for a line end, even between quotes.
    return f"{job.schedule} {line.replace('%', PERCENT)}\n".encode()


def with_line(crontab: bytes, line: bytes, fleet: Fleet, *, job: Job = CLEANUP) -> bytes:
    """Return *crontab* with *line* in it, once."""
    rest = without_line(crontab, fleet, job=job)
    if rest and not rest.endswith(b"\n"):
        rest += b"\n"
    return rest + line


def without_line(crontab: bytes, fleet: Fleet, *, job: Job = CLEANUP) -> bytes:
    """Return *crontab* without the line of *fleet* and *job*."""
    marker = _marker(fleet, job).replace("%", PERCENT).encode()
    lines = crontab.splitlines(keepends=True)
    return b"".join(line for line in lines if not line.rstrip(b"\r\n").endswith(marker))


def _marker(fleet: Fleet, job: Job) -> str:
    return f"# ccproxy {job.verb} of {fleet.file}"


# The crontab program...


def read() -> bytes:
    """
    Return the user's crontab; empty if there is none.

    Raises:
        CcproxyError: If there is no `crontab`, or it refuses.

    """
    done = _crontab("-l")
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode(errors="replace").strip()
    if not done.stdout and ("no crontab" in said or "No such file" in said):
        return b""
    raise CcproxyError(f"crontab -l failed: {said or done.returncode}")


def write(crontab: bytes) -> None:
    """
    Replace the user's crontab.

    Raises:
        CcproxyError: If `crontab` refuses.

    """
    done = _crontab("-", text=crontab)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise CcproxyError(f"crontab did not take the line: {said or done.returncode}")


def _crontab(argument: str, *, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("crontab")
    if program is None:
        raise CcproxyError(
            "there is no crontab program on this machine\n"
            "  fix: install cron, or have `ccproxy cleanup` called daily in another way"
        )
    return subprocess.run(  # noqa: S603 - the path is from which()
        [program, argument], input=text, capture_output=True, check=False
    )
