"""Python, limits, clock, disk, systemd: what any program needs."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ccproxy import __version__
from ccproxy.cli.doctor.finding import Finding, Scene, fail, ok, warn
from ccproxy.cli.render.terminal import tilde
from ccproxy.text import format_size

OLDEST_PYTHON = (3, 11)
LIBRARIES = ("aiohttp", "click", "dotenv", "msgspec", "psutil", "structlog", "uvloop")
FEW_FILES = 4096
LITTLE_SPACE = 1_000_000_000
NO_SPACE = 50_000_000
LITTLE_MEMORY = 64 * 1024 * 1024
"""Bytes that an idle worker may take."""
NEW_ENOUGH_SYSTEMD = 254


def python(_scene: Scene) -> Iterator[Finding]:
    """The interpreter, and that every library is there."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        yield fail(f"Python {version} is too old", fix="install ccproxy with Python 3.11 or newer")
    else:
        yield ok(f"ccproxy {__version__} on Python {version}")
    for name in LIBRARIES:
        if find_spec(name) is None:
            fix = f"{sys.executable} -m pip install --force-reinstall ccproxy-fleet"
            yield fail(f"the library {name} is missing", fix=fix)


def installation(_scene: Scene) -> Iterator[Finding]:
    """What is running is what was installed."""
    try:
        installed = metadata.version("ccproxy-fleet")
    except metadata.PackageNotFoundError:
        yield ok("runs from its source")
        return
    if installed != __version__:
        fix = f"{sys.executable} -m pip install --force-reinstall ccproxy-fleet"
        yield warn(f"the package says {installed}, the code says {__version__}", fix=fix)
    else:
        yield ok(f"package ccproxy-fleet {installed}")


def user(_scene: Scene) -> Iterator[Finding]:
    """Nobody needs root for this."""
    if os.name == "posix" and os.geteuid() == 0 and not _is_container():
        fix = "run ccproxy as a user of its own; a service: ccproxy install-service --system"
        yield warn("runs as root: a hole in any library would be a hole in the machine", fix=fix)
    else:
        yield ok(f"user {os.geteuid()}")


def open_files(_scene: Scene) -> Iterator[Finding]:
    """A stream takes two sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Workers raise the soft limit themselves.
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        yield warn(f"a process may open {hard} files only", fix="ulimit -Hn 65536 (as root)")
    else:
        most = "any number of" if hard == resource.RLIM_INFINITY else hard
        yield ok(f"a process may open {most} files (now {soft})")


def clock(_scene: Scene) -> Iterator[Finding]:
    """A clock that is wrong breaks certificates and retention."""
    written = Path(__file__).stat().st_mtime
    if time.time() < written - 86400:
        fix = "timedatectl set-ntp true"
        yield fail("the clock is behind the time at which ccproxy was installed", fix=fix)
    else:
        yield ok(time.strftime("%Y-%m-%d %H:%M:%S %Z"))


def disk(scene: Scene) -> Iterator[Finding]:
    """Logs need room; requests are answered without it."""
    if scene.fleet is None:
        return
    free = shutil.disk_usage(scene.fleet.home).free
    text = f"{format_size(free)} free at {tilde(scene.fleet.home)}"
    if free < NO_SPACE:
        yield fail(text, fix="ccproxy cleanup --older-than 1h")
    elif free < LITTLE_SPACE:
        yield warn(text, fix="ccproxy cleanup --older-than 12h")
    else:
        yield ok(text)


def memory(scene: Scene) -> Iterator[Finding]:
    """Every worker is a process."""
    import psutil  # slow to load, and --help needs it not

    needed = (
        LITTLE_MEMORY * sum(entry.workers for entry in scene.fleet.entries) if scene.fleet else 0
    )
    free = psutil.virtual_memory().available
    running = scene.status is not None and any(row.pids for row in scene.status.proxies)
    if free < needed and not running:
        yield warn(
            f"{format_size(free)} of memory for {format_size(needed)} of workers",
            fix="start fewer labels",
        )
    else:
        yield ok(f"{format_size(free)} of memory available")


def localhost(scene: Scene) -> Iterator[Finding]:
    """`localhost` may mean ::1, where somebody else may listen on the same port."""
    try:
        found = socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)
    except OSError:
        yield fail("the name localhost is not known", fix="add 127.0.0.1 localhost to /etc/hosts")
        return
    first = found[0][4][0]
    strangers = []
    if first == "::1" and scene.fleet is not None:
        strangers = [
            e.port for e in scene.fleet.entries if _listens(socket.AF_INET6, "::1", e.port)
        ]
    if strangers:
        text = f"localhost is ::1, and another program listens there on port {strangers[0]}"
        yield fail(text, fix="write 127.0.0.1 instead of localhost, as ccproxy env does")
    elif not any(address[4][0] == "127.0.0.1" for address in found):
        fix = "write 127.0.0.1 instead of localhost, as ccproxy env does"
        yield warn("localhost does not lead to 127.0.0.1", fix=fix)
    else:
        yield ok(f"localhost is {first}")


def wsl(_scene: Scene) -> Iterator[Finding]:
    """In WSL 2, Windows programs reach us by another address, and the clock drifts in sleep."""
    release = os.uname().release.lower()
    if "microsoft" in release:
        fix = "run claude inside WSL, too; or set networkingMode=mirrored in .wslconfig"
        yield warn("this is WSL: programs of Windows may not reach 127.0.0.1", fix=fix)
    else:
        yield ok(f"{os.uname().sysname} {os.uname().release}")


def systemd(_scene: Scene) -> Iterator[Finding]:
    """Growing delays between tries came with 254."""
    program = shutil.which("systemctl")
    if program is None:
        yield ok("no systemd")
        return
    done = subprocess.run(  # noqa: S603 - the path is from which()
        [program, "--version"], capture_output=True, text=True, check=False, timeout=5
    )
    found = re.match(r"systemd (\d+)", done.stdout)
    number = int(found[1]) if found else 0
    if 0 < number < NEW_ENOUGH_SYSTEMD:
        # Nothing breaks: a crashing supervisor is started every second, not ever more rarely.
        yield ok(f"systemd {number} (before 254, tries are one second apart for ever)")
    else:
        yield ok(f"systemd {number}" if number else "systemd")


def _is_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _listens(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family) as connection:
            connection.settimeout(0.3)
            return connection.connect_ex((host, port)) == 0
    except OSError:
        return False
