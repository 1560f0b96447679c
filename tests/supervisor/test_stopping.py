"""Stopping: streams finish, stubborn workers are killed with their children, no process remains."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import pytest

from ccproxy.errors import Busy
from ccproxy.ipc.control_messages import DRAIN_SECONDS
from ccproxy.supervisor.config_check import ConfigCheck
from ccproxy.supervisor.control.protocol import ControlCommand
from ccproxy.supervisor.fleet.host import Settings
from ccproxy.supervisor.main_loop import Supervisor
from ccproxy.supervisor.state.lock import Lock
from tests.supervisor.conftest import FAKE_WORKER, eventually, is_alive
from tests.supervisor.test_replacing import HELD, stream


def group_of(pid):
    """Return the running processes of the group that *pid* leads."""
    members = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pid and fields[0] not in "ZX":
            members.append(int(path.name))
    return members


def test_stop_terminates_workers_and_supervisor(home):
    home.add("Kimi")
    home.add("Glm", workers=2)
    home.start()
    pids = [*home.row("Kimi").pids, *home.row("Glm").pids, home.supervise()]
    answer = home.request("stop")
    assert answer.ok
    assert {row.state for row in answer.proxies} == {"stopped"}
    eventually(lambda: not any(is_alive(pid) for pid in pids))
    assert list((home.path / "pids").iterdir()) == []
    remaining = {path.name for path in (home.path / "state").iterdir()}
    assert remaining == {"supervisor.lock", "clock.json"}
    with Lock(home.fleet, command="the next one"):
        pass


def test_stop_succeeds_if_the_lock_cannot_be_opened(home):
    """For example because the disk has become read-only."""
    home.add("Kimi")
    home.start()
    lock = home.path / "state/supervisor.lock"
    lock.unlink()
    lock.mkdir()
    assert home.request("stop").ok
    assert home.status() == {"Kimi": "stopped"}


def test_a_stream_finishes_and_new_connections_are_refused(home):
    home.add("Kimi")
    home.start()
    got: list[bytes] = []
    reader = threading.Thread(target=stream, args=(home.ports["Kimi"], HELD, got))
    reader.start()
    eventually(lambda: got)
    stopping = threading.Thread(target=home.request, args=("stop",))
    stopping.start()
    # The request reaches the worker shortly after the state has changed.
    eventually(lambda: is_refused(home.ports["Kimi"]))
    assert home.status() == {"Kimi": "stopping"}
    home.release("Kimi")
    reader.join()
    stopping.join()
    assert got == [b".", b"end"]
    assert [event["code"] for event in home.events("worker.exited")] == [0]


def is_refused(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_a_stubborn_worker_is_killed_with_its_children_after_the_drain(home):
    home.add("Kimi", STUBBORN="1", CHILD="1")
    home.start()
    pid = home.pid("Kimi")
    eventually(lambda: len(group_of(pid)) == 2)
    assert home.request("stop", "kimi", drain=0.2).ok
    (draining,), (killed,) = home.events("worker.draining"), home.events("worker.killed")
    times = [datetime.fromisoformat(event["time"]) for event in (draining, killed)]
    assert (times[1] - times[0]).total_seconds() >= 0.2
    # A killed process ends when the kernel schedules it.
    eventually(lambda: group_of(pid) == [])
    assert len(home.events("worker.killed")) == 1


def test_children_do_not_outlive_a_worker_that_exits(home):
    home.add("Kimi", CHILD="1")
    home.start()
    pid = home.pid("Kimi")
    eventually(lambda: len(group_of(pid)) == 2)
    assert home.request("stop", "kimi").ok
    # A killed process ends when the kernel schedules it.
    eventually(lambda: group_of(pid) == [])


def test_children_do_not_outlive_an_adopted_worker_that_is_killed(home):
    home.add("Kimi", CHILD="1")
    home.start()
    pid, supervisor = home.pid("Kimi"), home.supervise()
    eventually(lambda: len(group_of(pid)) == 2)
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not is_alive(supervisor))
    assert home.start() == {"Kimi": "ready"}
    os.kill(pid, signal.SIGKILL)
    # A killed process ends when the kernel schedules it.
    eventually(lambda: group_of(pid) == [])


def test_a_second_stop_cuts_the_first_drain_short(home):
    home.add("Kimi", STUBBORN="1")
    home.start()
    first = threading.Thread(target=home.request, args=("stop",))
    first.start()
    eventually(lambda: home.status() == {"Kimi": "stopping"})
    assert home.request("stop", drain=0.0).ok
    first.join()
    assert_drain_was_cut(home)


def assert_drain_was_cut(home):
    """Check that the worker was killed long before the first drain's 30 seconds."""
    (draining, *_), (killed,) = home.events("worker.draining"), home.events("worker.killed")
    times = [datetime.fromisoformat(event["time"]) for event in (draining, killed)]
    assert (times[1] - times[0]).total_seconds() < DRAIN_SECONDS


def test_start_after_stop_waits_for_its_turn(home):
    home.add("Kimi")
    home.start()
    first = home.pid("Kimi")
    stopping = threading.Thread(target=home.request, args=("stop",))
    stopping.start()
    eventually(lambda: home.status() != {"Kimi": "ready"})
    assert home.start() == {"Kimi": "ready"}
    stopping.join()
    assert home.pid("Kimi") != first


@pytest.mark.parametrize("op", ["start", "restart", "reload"])
async def test_nothing_is_started_during_shutdown(home, op):
    """An operation that is still checking the files when a stop arrives must start nothing."""
    home.add("Kimi")
    reading, may_go_on = asyncio.Event(), asyncio.Event()
    settings = Settings(worker_command=FAKE_WORKER, fork_server=())

    class SlowCheck(ConfigCheck):
        async def __call__(self, labels, *, cwd, network=None):
            result = await super().__call__(labels, cwd=cwd)
            reading.set()
            await may_go_on.wait()
            return result

    resident = Supervisor(home.fleet, settings=settings, check=SlowCheck(home.fleet.file))
    serving = asyncio.Event()
    life = asyncio.create_task(resident.run(serving.set))
    await serving.wait()
    late = asyncio.create_task(resident.execute(ControlCommand(op=op)))
    await reading.wait()
    stopping = asyncio.create_task(resident.execute(ControlCommand(op="stop")))
    await asyncio.sleep(0)  # the operation has begun
    may_go_on.set()
    with pytest.raises(Busy, match="stopping"):
        await late
    assert (await stopping).ok
    await asyncio.wait_for(life, 30)
    assert home.events("worker.spawned") == []


def test_sigterm_drains_and_stops_the_fleet(home):
    home.add("Kimi")
    home.start()
    supervisor, pid = home.supervise(), home.pid("Kimi")
    os.kill(supervisor, signal.SIGTERM)
    eventually(lambda: not is_alive(supervisor))
    assert not is_alive(pid)
    assert [event["code"] for event in home.events("worker.exited")] == [0]


FOREGROUND = """
import sys
from pathlib import Path
from ccproxy.config.fleet import load_fleet
from ccproxy.errors import CcproxyError
from ccproxy.supervisor.foreground import run_foreground
from ccproxy.supervisor.fleet.host import Settings

def started(outcome):
    print([(row.label, row.state) for row in outcome.proxies], flush=True)

settings = Settings(worker_command=sys.argv[2:], fork_server=())
try:
    well = run_foreground(load_fleet(Path(sys.argv[1])), on_started=started, settings=settings)
except CcproxyError as error:
    sys.exit(f"{type(error).__name__}: {error}")
sys.exit(not well)
"""


def foreground(home):
    command = [sys.executable, "-c", FOREGROUND, str(home.file), *FAKE_WORKER]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_in_the_foreground_sigint_drains(home):
    home.add("Kimi")
    with foreground(home) as up:
        assert up.stdout.readline() == "[('Kimi', 'ready')]\n"
        pid = home.pid("Kimi")
        os.killpg(up.pid, signal.SIGINT)  # like a terminal; the workers must not receive the signal
        assert up.wait(60) == 0
        assert up.stderr.read() == ""
    assert not is_alive(pid)


def test_in_the_foreground_a_second_sigint_cuts_the_drain_short(home):
    home.add("Kimi", STUBBORN="1")
    with foreground(home) as up:
        up.stdout.readline()
        pid = home.pid("Kimi")
        up.send_signal(signal.SIGINT)
        eventually(lambda: home.status() == {"Kimi": "stopping"})
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
    assert not is_alive(pid)
    assert_drain_was_cut(home)


def test_in_the_foreground_mistakes_are_reported(home):
    home.add("Kimi", MAX_RETRIES="many")
    with foreground(home) as up:
        assert up.wait(60) == 1
        assert up.stderr.read().startswith("ConfigError: ")


def test_in_the_foreground_a_second_supervisor_is_refused(home):
    home.add("Kimi")
    home.start()
    with foreground(home) as up:
        assert up.wait(60) == 1
        assert up.stderr.read().startswith("Busy: busy: `ccproxy supervisor` (pid ")
