"""A fleet whose disk becomes full or read-only: workers continue, and none is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ccproxy.errors import CcproxyError
from ccproxy.supervisor.control import client
from tests.supervisor.conftest import FAKE_WORKER, Home, eventually, is_alive
from tests.supervisor.test_interrupted import workers_of
from tests.supervisor.test_stopping import foreground


class Disk:
    """A file system of 2 MiB."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def fill(self) -> None:
        with Path(self._path, "ballast").open("ab", buffering=0) as ballast, suppress(OSError):
            while ballast.write(b"x" * 4096) == 4096:
                pass

    def make_read_only(self) -> None:
        """Refuse to open files for writing; a remount is not possible while some are open."""
        subprocess.run(["mount", "--bind", self._path, self._path], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", self._path], check=True)

    def make_writable(self) -> None:
        subprocess.run(["umount", "-l", self._path], check=True)


@pytest.fixture
def home() -> Iterator[Home]:
    """An empty home on a disk of its own, with a short path."""
    path = Path(tempfile.mkdtemp(prefix="ccp"))
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True).returncode:
        path.rmdir()
        pytest.skip("mounting a file system needs root")
    home = Home(path)
    yield home
    for pid in workers_of(home):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    home.clear()
    while subprocess.run(["umount", "-l", str(path)], capture_output=True).returncode == 0:
        pass
    path.rmdir()


@pytest.fixture
def disk(home: Home) -> Disk:
    return Disk(home.path)


def kill_supervisor(home: Home) -> None:
    pid = home.supervise()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid))


def test_a_supervisor_that_is_killed_on_a_full_disk_loses_no_worker(home: Home, disk: Disk) -> None:
    home.add("Kimi")
    home.add("Glm", workers=2)
    home.start()
    before = workers_of(home)
    assert len(before) == 3
    disk.fill()
    kill_supervisor(home)
    assert home.start() == {"Kimi": "ready", "Glm": "ready"}
    assert workers_of(home) == before
    assert home.request("stop", drain=1.0).ok
    eventually(lambda: not workers_of(home))


def test_a_worker_that_crashes_on_a_read_only_disk_returns_when_it_is_writable(
    home: Home, disk: Disk
) -> None:
    home.add("Kimi")
    home.add("Glm")
    home.start()
    crashed, other = home.pid("Kimi"), home.pid("Glm")
    disk.make_read_only()
    os.kill(crashed, signal.SIGKILL)
    reason = eventually(lambda: "Read-only" in (home.row("Kimi").reason or "") and home.row("Kimi"))
    assert str(home.path / "logs") in reason.reason
    assert home.ask("Glm")["pid"] == other
    disk.make_writable()
    eventually(lambda: home.status() == {"Kimi": "ready", "Glm": "ready"})
    assert home.pid("Glm") == other
    assert len(workers_of(home)) == 2


def test_a_fleet_on_a_read_only_disk_can_be_stopped(home: Home, disk: Disk) -> None:
    home.add("Kimi", workers=2)
    home.start()
    supervisor = home.supervise()
    disk.make_read_only()
    assert client.request(home.fleet, "stop", drain=1.0).ok
    eventually(lambda: not workers_of(home) and not is_alive(supervisor))
    disk.make_writable()
    assert home.start() == {"Kimi": "ready"}
    assert len(workers_of(home)) == 2


def test_up_ends_with_an_error_if_the_system_refuses_the_start(home: Home) -> None:
    """Here, the log of the previous worker cannot be renamed, because it is a mount point."""
    home.add("Kimi")
    log = home.path / "logs/Kimi.log"
    log.parent.mkdir(mode=0o700)
    log.write_text("{}\n")
    subprocess.run(["mount", "--bind", str(log), str(log)], check=True)
    try:
        with foreground(home) as up:
            assert up.wait(60) == 1
            assert "resource busy" in up.stderr.read()
    finally:
        subprocess.run(["umount", "-l", str(log)], check=True)
    assert not workers_of(home)


def test_without_a_supervisor_a_read_only_disk_is_named_and_workers_continue(
    home: Home, disk: Disk
) -> None:
    home.add("Kimi")
    home.start()
    pid = home.pid("Kimi")
    kill_supervisor(home)
    disk.make_read_only()
    with pytest.raises((CcproxyError, OSError), match="Read-only file system") as caught:
        client.ensure_supervisor(home.fleet, worker_command=FAKE_WORKER)
    assert str(home.path) in str(caught.value)
    assert home.ask("Kimi")["pid"] == pid
    disk.make_writable()
    assert home.start() == {"Kimi": "ready"}
    assert workers_of(home) == {pid}
