"""The supervisor's files are deleted while the fleet runs: no worker is lost or started twice."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from ccproxy.errors import Busy
from ccproxy.ipc.codec import decode
from ccproxy.supervisor.control import client
from ccproxy.supervisor.control.protocol import ControlCommand, ControlReply, encode_message
from ccproxy.supervisor.control.worker_requests import running_processes
from ccproxy.supervisor.fleet.host import Settings
from ccproxy.supervisor.foreground import run_foreground
from ccproxy.supervisor.main_loop import Supervisor
from ccproxy.supervisor.state.lock import Lock
from tests.fleet import pause
from tests.supervisor.conftest import FAKE_WORKER, eventually, is_alive

# Deleted folders.


def remove(folder: Path) -> None:
    """Remove a folder in one step, because the supervisor may create files in it at any time."""
    shutil.rmtree(folder.rename(folder.with_name("removed")))


@pytest.mark.parametrize("folders", [("state",), ("state", "pids")], ids=" and ".join)
def test_the_supervisor_restores_its_folders(home, folders):
    home.add("Kimi")
    home.start()
    supervisor, worker = home.supervise(), home.pid("Kimi")
    for folder in folders:
        remove(home.path / folder)
    eventually((home.path / "state/supervisor.sock").exists)
    eventually((home.path / "pids/supervisor.pid").exists)
    assert home.supervise() == supervisor
    assert home.pid("Kimi") == worker
    assert home.request("stop", drain=1.0).ok
    eventually(lambda: not is_alive(worker) and not is_alive(supervisor))
    assert len(home.events("supervisor.started")) == 1


def test_an_immediate_start_waits_for_the_running_supervisor(home):
    home.add("Kimi")
    home.start()
    supervisor, worker = home.supervise(), home.pid("Kimi")
    remove(home.path / "state")
    assert home.request("start").ok
    assert (home.supervise(), home.pid("Kimi")) == (supervisor, worker)
    assert len(home.events("supervisor.started")) == 1


def test_up_is_refused_while_a_supervisor_with_a_deleted_folder_runs(home):
    home.add("Kimi")
    home.start()
    remove(home.path / "state")
    with pytest.raises(Busy, match="ccproxy supervisor"):
        run_foreground(home.fleet)


def test_a_superseded_supervisor_exits_without_touching_workers_or_files(home):
    home.add("Kimi")
    home.start()
    supervisor, worker = home.supervise(), home.pid("Kimi")
    pause(supervisor)  # so that it cannot reacquire its lock
    remove(home.path / "state")
    client.ensure_supervisor(home.fleet, worker_command=FAKE_WORKER)
    successor = home.supervise()
    assert successor != supervisor
    os.kill(supervisor, signal.SIGCONT)
    eventually(lambda: not is_alive(supervisor))
    assert home.supervise() == successor
    assert home.pid("Kimi") == worker
    assert home.ask("Kimi")["pid"] == worker


async def test_a_superseded_supervisor_starts_no_worker(home):
    home.add("Kimi")
    with Lock(home.fleet, command="first") as first:
        settings = Settings(worker_command=FAKE_WORKER, fork_server=())
        resident = Supervisor(home.fleet, lock=first, settings=settings)
        serving = asyncio.Event()
        life = asyncio.create_task(resident.run(serving.set))
        await serving.wait()
        (home.path / "state/supervisor.lock").unlink()
        with Lock(home.fleet, command="second"):
            line = encode_message(ControlCommand(op="start", timeout=1.0))
            reply = decode(ControlReply, await resident.handle(line))
            await asyncio.wait_for(life, 30)
    assert not reply.ok
    assert home.events("worker.spawned") == []


# Records.


async def test_workers_without_records_are_found_and_recorded_later(home):
    home.add("Kimi")
    pids = home.path / "pids"
    with Lock(home.fleet, command="first") as lock:
        resident = Supervisor(
            home.fleet, lock=lock, settings=Settings(worker_command=FAKE_WORKER, fork_server=())
        )
        pids.rmdir()
        pids.touch()  # like a full disk: no record can be written below it
        serving = asyncio.Event()
        life = asyncio.create_task(resident.run(serving.set))
        await serving.wait()
        assert (await resident.execute(ControlCommand(op="start"))).ok
        (process,) = await asyncio.to_thread(running_processes, home.fleet, "kimi")
        assert (process.spec.label, is_alive(process.identity.pid)) == ("Kimi", True)
        pids.unlink()
        await asyncio.to_thread(eventually, (pids / "Kimi.pid").exists)
        assert [record.nonce for record in home.records()] == [process.nonce]
        resident.end(drain=1.0)
        await asyncio.wait_for(life, 30)
