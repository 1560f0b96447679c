"""A fleet on a file system without unix sockets keeps them in the runtime folder."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccproxy.errors import CcproxyError
from ccproxy.supervisor.control import client
from ccproxy.supervisor.control.protocol import ControlCommand
from ccproxy.supervisor.control.worker_requests import running_processes
from ccproxy.supervisor.main_loop import Supervisor
from tests.supervisor.conftest import Home, eventually, is_alive
from tests.supervisor.test_starting import ended, running


@pytest.fixture
def no_sockets(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make sockets below the home fail; yield the folder in $XDG_RUNTIME_DIR."""
    bind = socket.socket.bind

    def refuse(self: socket.socket, address: object) -> None:
        if str(address).startswith(str(home.path)):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        bind(self, address)

    runtime = Path(tempfile.mkdtemp(prefix="ccr"))  # short like $XDG_RUNTIME_DIR
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setattr(socket.socket, "bind", refuse)
    yield runtime / "ccproxy"
    shutil.rmtree(runtime)


async def test_supervisor_and_workers_use_the_runtime_folder(home: Home, no_sockets: Path) -> None:
    home.add("Kimi")
    supervisor, life = await running(home)
    assert (await supervisor.execute(ControlCommand(op="start"))).ok
    (record,) = home.records()
    assert Path(record.control).parent == no_sockets
    status = await asyncio.to_thread(client.fleet_status, home.fleet)
    assert status.supervisor is not None
    assert [row.state for row in status.proxies] == ["ready"]
    assert list((home.path / "state").glob("*.sock")) == []
    # The sockets are found even without records.
    (home.path / "pids/Kimi.pid").unlink()
    assert await asyncio.to_thread(running_processes, home.fleet, "Kimi") == [record]
    await ended(supervisor, life)
    assert list(no_sockets.iterdir()) == []


async def test_a_new_supervisor_finds_workers_there_by_their_sockets_alone(
    home: Home, no_sockets: Path
) -> None:
    home.add("Kimi")
    supervisor, life = await running(home)
    assert (await supervisor.execute(ControlCommand(op="start"))).ok
    (record,) = home.records()
    await supervisor.execute(ControlCommand(op="leave"))
    await asyncio.wait_for(life, 30)
    assert is_alive(record.identity.pid)
    (home.path / "pids/Kimi.pid").unlink()
    supervisor, life = await running(home)
    assert [one.identity for one in home.records()] == [record.identity]
    await ended(supervisor, life)
    await asyncio.to_thread(eventually, lambda: not is_alive(record.identity.pid))


async def test_without_a_usable_folder_for_sockets_the_error_names_path_and_fix(
    home: Home, no_sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind = socket.socket.bind

    def refuse(self: socket.socket, address: object) -> None:
        if self.family == socket.AF_UNIX:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(address))
        bind(self, address)

    monkeypatch.setattr(socket.socket, "bind", refuse)
    home.add("Kimi")
    with pytest.raises(CcproxyError, match="no control socket can be created") as caught:
        await Supervisor(home.fleet).run()
    assert "XDG_RUNTIME_DIR" in str(caught.value)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL, "nothing was installed"
