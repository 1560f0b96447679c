"""Checks of the machine: Python, limits, clock, disk, systemd."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ccproxy import __version__
from ccproxy.cli.doctor.finding import Finding, Scene, fail, ok, warn
from ccproxy.cli.render.terminal import tilde
from ccproxy.cli.service.systemd import GROWING_DELAY_SINCE, installed_version
from ccproxy.text import format_size

OLDEST_PYTHON = (3, 11)
LIBRARIES = ("aiohttp", "click", "dotenv", "msgspec", "psutil", "structlog", "uvloop")
FEW_FILES = 4096
LOW_DISK_BYTES = 1_000_000_000
NO_DISK_BYTES = 50_000_000
WORKER_BYTES = 64 * 1024 * 1024
"""The maximum memory of an idle worker."""
CONNECT_SECONDS = 0.3
_REINSTALL = f"{sys.executable} -m pip install --force-reinstall ccproxy-fleet"
_SET_CLOCK = "timedatectl set-ntp true"
_USE_ADDRESS = "use 127.0.0.1 instead of localhost, as ccproxy env does"


def python(_scene: Scene) -> Iterator[Finding]:
    """Check the interpreter and that every library is installed."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        yield fail(f"Python {version} is too old", fix="install ccproxy with Python 3.11 or newer")
    else:
        yield ok(f"ccproxy {__version__} on Python {version}")
    for name in LIBRARIES:
        if find_spec(name) is None:
            yield fail(f"the library {name} is missing", fix=_REINSTALL)


def installation(_scene: Scene) -> Iterator[Finding]:
    """Check that the running code is the installed package."""
    try:
        installed = metadata.version("ccproxy-fleet")
    except metadata.PackageNotFoundError:
        yield ok("runs from its source tree")
        return
    if installed != __version__:
        text = f"the package is version {installed}, the code is version {__version__}"
        yield warn(text, fix=_REINSTALL)
    else:
        yield ok(f"package ccproxy-fleet {installed}")


def user(_scene: Scene) -> Iterator[Finding]:
    """Check that ccproxy does not run as root."""
    if os.name == "posix" and os.geteuid() == 0 and not _is_container():
        fix = "run ccproxy as an ordinary user; as a service: ccproxy install-service --system"
        yield warn("runs as root: a flaw in any library would expose the whole machine", fix=fix)
    else:
        yield ok(f"user {os.geteuid()}")


def open_files(_scene: Scene) -> Iterator[Finding]:
    """Check the limit on open files; each stream uses two sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Workers raise the soft limit themselves.
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        yield warn(f"a process may open only {hard} files", fix="ulimit -Hn 65536 (as root)")
    else:
        limit = "any number of" if hard == resource.RLIM_INFINITY else hard
        yield ok(f"a process may open {limit} files (current soft limit: {soft})")


def clock(_scene: Scene) -> Iterator[Finding]:
    """Check the clock, on which certificates and log retention depend."""
    installed = Path(__file__).stat().st_mtime
    if time.time() < installed - 86400:
        yield fail("the clock shows a time before ccproxy was installed", fix=_SET_CLOCK)
    else:
        yield ok(time.strftime("%Y-%m-%d %H:%M:%S %Z"))


def disk(scene: Scene) -> Iterator[Finding]:
    """Check the disk space for logs; requests do not need it."""
    if scene.fleet is None:
        return
    free = shutil.disk_usage(scene.fleet.home).free
    text = f"{format_size(free)} free at {tilde(scene.fleet.home)}"
    if free < NO_DISK_BYTES:
        yield fail(text, fix="ccproxy cleanup --older-than 1h")
    elif free < LOW_DISK_BYTES:
        yield warn(text, fix="ccproxy cleanup --older-than 12h")
    else:
        yield ok(text)


def memory(scene: Scene) -> Iterator[Finding]:
    """Check that there is enough memory for every worker process."""
    import psutil  # slow to import, and not needed for --help

    workers = sum(entry.workers for entry in scene.fleet.entries) if scene.fleet else 0
    needed = WORKER_BYTES * workers
    free = psutil.virtual_memory().available
    is_running = any(row.pids for row in scene.rows)
    if free < needed and not is_running:
        text = f"{format_size(free)} of memory available, the workers need {format_size(needed)}"
        yield warn(text, fix="start fewer proxies: ccproxy start LABEL")
    else:
        yield ok(f"{format_size(free)} of memory available")


def localhost(scene: Scene) -> Iterator[Finding]:
    """Check that no other program uses a worker's port on ::1, which `localhost` may mean."""
    try:
        addresses = socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)
    except OSError:
        fix = "add the line '127.0.0.1 localhost' to /etc/hosts"
        yield fail("the name localhost cannot be resolved", fix=fix)
        return
    first = addresses[0][4][0]
    ports: list[int] = []
    if first == "::1" and scene.fleet is not None:
        ports = [e.port for e in scene.fleet.entries if _listens(socket.AF_INET6, "::1", e.port)]
    if ports:
        text = f"localhost is ::1, where another program uses port {ports[0]}"
        yield fail(text, fix=_USE_ADDRESS)
    elif not any(address[4][0] == "127.0.0.1" for address in addresses):
        yield warn("localhost does not resolve to 127.0.0.1", fix=_USE_ADDRESS)
    else:
        yield ok(f"localhost is {first}")


def wsl(_scene: Scene) -> Iterator[Finding]:
    """Check for WSL 2, where Windows programs need a different address."""
    if "microsoft" in os.uname().release.lower():
        fix = "run claude inside WSL, or set networkingMode=mirrored in .wslconfig"
        yield warn("this is WSL: Windows programs may not reach 127.0.0.1", fix=fix)
    else:
        yield ok(f"{os.uname().sysname} {os.uname().release}")


def systemd(_scene: Scene) -> Iterator[Finding]:
    """Report the version of systemd."""
    version = installed_version()
    if version is not None and version < GROWING_DELAY_SINCE:
        yield ok(f"systemd {version} (before 254, restarts are always 5 seconds apart)")
    else:
        yield ok(f"systemd {version}" if version else "no systemd")


def _is_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _listens(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family) as connection:
            connection.settimeout(CONNECT_SECONDS)
            return connection.connect_ex((host, port)) == 0
    except OSError:
        return False
