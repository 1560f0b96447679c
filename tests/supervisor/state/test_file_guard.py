"""The supervisor's own files are removed while the fleet runs: nobody is lost, none comes twice."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal

import pytest

from ccproxy.errors import Busy
from ccproxy.supervisor.control import client
from ccproxy.supervisor.control.operations import Command
from ccproxy.supervisor.control.worker_requests import living_processes
from ccproxy.supervisor.fleet.host import Settings
from ccproxy.supervisor.foreground import run_foreground
from ccproxy.supervisor.main_loop import Supervisor
from ccproxy.supervisor.sockets.unix_server import Server, ask_soon
from ccproxy.supervisor.state.lock import Lock
from tests.supervisor.conftest import STAND_IN, eventually, is_alive

# The lock.


@pytest.mark.parametrize("gone", ["file", "folder", "replaced"])
def test_a_removed_lock_is_taken_afresh(home, gone):
    home.add("Kimi")
    path = home.path / "state/supervisor.lock"
    with Lock(home.fleet, command="ccproxy start") as lock:
        assert lock.renew()
        if gone == "folder":
            shutil.rmtree(home.path / "state")
        else:
            path.unlink()
        if gone == "replaced":
            path.touch(0o600)
        assert lock.renew()
        with pytest.raises(Busy, match="ccproxy start"), Lock(home.fleet, command="a second"):
            pass


def test_a_lock_that_another_took_meanwhile_is_lost(home):
    home.add("Kimi")
    with Lock(home.fleet, command="first") as first:
        (home.path / "state/supervisor.lock").unlink()
        with Lock(home.fleet, command="second") as second:
            assert not first.renew()
            assert second.renew()


# The control socket.


async def test_a_removed_socket_is_made_anew_and_anothers_is_left_alone(tmp_path):
    async def first_says(_):
        return {"who": "first"}

    async def second_says(_):
        return {"who": "second"}

    path = tmp_path / "state/s.sock"
    first, second = Server(path, first_says), Server(path, second_says)
    await first.start()
    assert not await first.renew()
    shutil.rmtree(path.parent)
    assert await first.renew()
    assert await ask_soon(path, {}) == {"who": "first"}
    await second.start()
    await first.close()
    assert await ask_soon(path, {}) == {"who": "second"}
    await second.close()
    assert not path.exists()


# The fleet.


@pytest.mark.parametrize("folders", [("state",), ("state", "pids")], ids=" and ".join)
def test_the_supervisor_comes_back_to_its_folders(home, folders):
    home.add("Kimi")
    home.start()
    supervisor, worker = home.supervise(), home.pid("Kimi")
    for folder in folders:
        shutil.rmtree(home.path / folder)
    eventually((home.path / "state/supervisor.sock").exists)
    eventually((home.path / "pids/supervisor.pid").exists)
    assert home.supervise() == supervisor
    assert home.pid("Kimi") == worker
    assert home.request("stop", drain=1.0).ok
    eventually(lambda: not is_alive(worker) and not is_alive(supervisor))
    assert len(home.events("supervisor.started")) == 1


def test_a_start_at_once_waits_for_the_living_supervisor(home):
    home.add("Kimi")
    home.start()
    supervisor, worker = home.supervise(), home.pid("Kimi")
    shutil.rmtree(home.path / "state")
    assert home.request("start").ok
    assert (home.supervise(), home.pid("Kimi")) == (supervisor, worker)
    assert len(home.events("supervisor.started")) == 1


def test_up_beside_a_supervisor_without_its_folder_is_refused(home):
    home.add("Kimi")
    home.start()
    shutil.rmtree(home.path / "state")
    with pytest.raises(Busy, match="ccproxy supervisor"):
        run_foreground(home.fleet)


def test_a_superseded_supervisor_goes_and_leaves_workers_and_files_alone(home):
    home.add("Kimi")
    home.start()
    supervisor, worker = home.supervise(), home.pid("Kimi")
    os.kill(supervisor, signal.SIGSTOP)  # too slow to take its lock again
    shutil.rmtree(home.path / "state")
    client.ensure_supervisor(home.fleet, worker_command=STAND_IN)
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
        settings = Settings(worker_command=STAND_IN, fork_server=())
        resident = Supervisor(home.fleet, lock=first, settings=settings)
        serving = asyncio.Event()
        life = asyncio.create_task(resident.run(serving.set))
        await serving.wait()
        (home.path / "state/supervisor.lock").unlink()
        with Lock(home.fleet, command="second"):
            answer = await resident.answer({"op": "start", "timeout": 1.0})
            await asyncio.wait_for(life, 5.0)
    assert not answer["ok"]
    assert home.events("worker.spawned") == []


# The records.


async def test_without_room_for_records_workers_are_found_and_written_down_later(home):
    home.add("Kimi")
    pids = home.path / "pids"
    with Lock(home.fleet, command="first") as lock:
        resident = Supervisor(
            home.fleet, lock=lock, settings=Settings(worker_command=STAND_IN, fork_server=())
        )
        pids.rmdir()
        pids.touch()  # as good as a full disk: no record can be written below it
        serving = asyncio.Event()
        life = asyncio.create_task(resident.run(serving.set))
        await serving.wait()
        assert (await resident.order(Command(op="start"))).ok
        (found,) = await asyncio.to_thread(living_processes, home.fleet, "kimi")
        assert (found.spec.label, is_alive(found.identity.pid)) == ("Kimi", True)
        pids.unlink()
        await asyncio.to_thread(eventually, (pids / "Kimi.pid").exists)
        assert [record.nonce for record in home.records()] == [found.nonce]
        resident.end(drain=1.0)
        await asyncio.wait_for(life, 10.0)
