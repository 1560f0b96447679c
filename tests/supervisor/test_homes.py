"""A fleet belongs to one folder and one table; copies and second tables are separate."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccproxy.config.fleet import load_fleet
from ccproxy.errors import NotRunning, UsageError
from ccproxy.supervisor.control import client
from ccproxy.supervisor.control.protocol import Op
from ccproxy.supervisor.control.worker_requests import running_processes
from tests.supervisor.conftest import FAKE_WORKER, Home, eventually, is_alive


@pytest.fixture
def copy(home: Home) -> Iterator[Home]:
    """A copy of the running home, which the test makes with `make_copy`."""
    made = Home(Path(tempfile.mkdtemp(prefix="ccq")))
    yield made
    made.clear()


def make_copy(home: Home, copy: Home, label: str) -> None:
    """Copy the whole folder like `cp -a`, and change port and label in the copy."""
    copy.path.rmdir()
    shutil.copytree(home.path, copy.path, symlinks=True, copy_function=copy_file)
    (entry,) = home.lines
    del copy.lines
    copy.lines = {}
    copy.add(label)
    assert entry != label


def copy_file(source: str, target: str) -> None:
    if Path(source).is_socket():
        os.mknod(target, 0o600 | 0o140000)
    else:
        shutil.copy2(source, target)


@pytest.mark.parametrize("supervisor", ["running", "killed"])
def test_commands_in_a_copied_folder_leave_the_original_alone(
    home: Home, copy: Home, supervisor: str
) -> None:
    home.add("Kimi")
    home.start()
    worker, original = home.pid("Kimi"), home.supervise()
    if supervisor == "killed":
        os.kill(original, signal.SIGKILL)
        eventually(lambda: not is_alive(original))
    make_copy(home, copy, "Kopie")
    assert copy.status() == {"Kopie": "stopped"}
    with pytest.raises(NotRunning):
        client.request(copy.fleet, "stop")
    assert running_processes(copy.fleet, "Kimi") == []
    assert copy.start() == {"Kopie": "ready"}
    assert copy.pid("Kopie") != worker
    assert [event["pid"] for event in copy.events("record.copied")] == [worker]
    assert copy.request("stop").ok
    assert is_alive(worker)
    assert home.ask("Kimi")["pid"] == worker
    if supervisor == "running":
        assert home.supervise() == original
    assert home.start() == {"Kimi": "ready"}
    assert home.pid("Kimi") == worker


def test_a_port_conflict_names_the_original_fleet(home: Home, copy: Home) -> None:
    port = home.add("Kimi")
    home.start()
    make_copy(home, copy, "Kopie")
    copy.add("Kopie", port=port)
    copy.request("start")
    row = copy.row("Kopie")
    assert row.state == "foreign"
    assert row.reason is not None
    assert f"pid {home.pid('Kimi')}, " in row.reason
    assert f"in use by Kimi of the ccproxy fleet in {home.path} (pid " in row.reason


def test_a_folder_is_the_same_fleet_under_every_path(home: Home, tmp_path: Path) -> None:
    home.add("Kimi")
    home.start()
    (tmp_path / "link").symlink_to(home.path)
    fleet = load_fleet(tmp_path / "link/ccproxy.toml")
    assert [row.state for row in client.fleet_status(fleet).proxies] == ["ready"]
    assert client.request(fleet, "stop").ok
    assert home.status() == {"Kimi": "stopped"}


@pytest.mark.parametrize("op", ["start", "stop", "restart", "reload", "plan"])
def test_a_second_table_in_one_folder_is_refused(home: Home, op: Op) -> None:
    """The two fleets would share records, logs and sockets."""
    home.add("Kimi")
    home.start()
    pid = home.pid("Kimi")
    other = home.path / "other.toml"
    other.write_text(home.file.read_text().replace("Kimi", "Zwei"))
    (home.path / "envs/Zwei.env").write_text("PROVIDER=demo\n")
    (home.path / "envs/Zwei.env").chmod(0o600)
    with pytest.raises(UsageError, match=r"runs with ccproxy\.toml, not other\.toml\n  fix: "):
        client.request(load_fleet(other), op)
    status = client.fleet_status(load_fleet(other))
    assert "runs with ccproxy.toml, not other.toml" in status.note
    assert [row.state for row in status.proxies] == ["stopped"]
    assert home.pid("Kimi") == pid


def test_a_second_table_can_be_used_once_the_first_fleet_is_stopped(home: Home) -> None:
    home.add("Kimi")
    home.start()
    home.request("stop")
    home.file = home.file.rename(home.path / "other.toml")
    client.ensure_supervisor(load_fleet(home.file), worker_command=FAKE_WORKER)
    assert home.start() == {"Kimi": "ready"}
