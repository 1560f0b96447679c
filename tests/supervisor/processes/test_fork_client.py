"""Forked workers: they are like spawned ones, which replace them if forking fails."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress

import psutil
import pytest

from ccproxy.supervisor.config_check import CheckResult
from ccproxy.supervisor.control.protocol import ControlCommand
from ccproxy.supervisor.fleet.host import Settings
from ccproxy.supervisor.main_loop import Supervisor
from ccproxy.supervisor.processes.fork_client import ForkLimits
from ccproxy.supervisor.processes.identity import command_line
from ccproxy.supervisor.state.records import Spec
from tests.fleet import FleetHome, eventually
from tests.supervisor.conftest import FAKE_WORKER, PR_SET_CHILD_SUBREAPER, is_alive

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned"),
    pytest.mark.xdist_group("processes"),
]

DEMO = {"PROVIDER": "demo"}


@asynccontextmanager
async def serving(home, **settings):
    """Run a supervisor in this process."""
    check = settings.pop("check", None)
    resident = Supervisor(home.fleet, settings=Settings(**settings), check=check)
    begun = asyncio.Event()
    life = asyncio.create_task(resident.run(begun.set))
    await begun.wait()
    try:
        yield resident
    finally:
        home.records()
        resident.end(drain=1.0)
        await asyncio.wait_for(life, 30)


def records(path):
    return [json.loads(file.read_text()) for file in path.glob("pids/*.pid")]


def events(path, name):
    lines = (path / "logs/supervisor.log").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


def servers_of(supervisor: int) -> list[psutil.Process]:
    result = []
    for child in psutil.Process(supervisor).children():
        with suppress(psutil.Error):  # it has already exited
            result += [child] * ("--fork-server" in command_line(child.pid))
    return result


# Starts.


async def test_forked_workers_are_children_of_the_supervisor(tmp_path):
    """Parent, session and arguments are those of spawned workers."""
    async with FleetHome(tmp_path) as fleet:
        fleet.write(kimi=DEMO, glm=DEMO)
        assert (await fleet.ccproxy("start")).code == 0
        supervisor = await fleet.supervisor_pid()
        assert len(servers_of(supervisor)) == 1
        workers = [record for record in records(tmp_path) if "nonce" in record]
        assert len(workers) == 2
        for worker in workers:
            assert psutil.Process(worker["pid"]).ppid() == supervisor
            assert os.getsid(worker["pid"]) == worker["pid"]
            assert worker["nonce"] in command_line(worker["pid"])


async def test_the_exit_code_of_a_forked_worker_is_logged(tmp_path):
    async with FleetHome(tmp_path) as fleet:
        fleet.write(kimi=DEMO)
        assert (await fleet.ccproxy("start")).code == 0
        pid = await fleet.worker_pid("kimi")
        os.kill(pid, signal.SIGKILL)
        exited = await eventually(lambda: events(tmp_path, "worker.exited"))
        assert [(event["pid"], event["code"]) for event in exited] == [(pid, -signal.SIGKILL)]
        await eventually(lambda: len(events(tmp_path, "worker.ready")) == 2)
        assert await fleet.worker_pid("kimi") != pid
        assert not psutil.pid_exists(pid), "it must be reaped"


async def test_workers_outlive_supervisor_and_fork_server(tmp_path):
    async with FleetHome(tmp_path) as fleet:
        fleet.write(kimi=DEMO)
        assert (await fleet.ccproxy("start")).code == 0
        pid, supervisor = await fleet.worker_pid("kimi"), await fleet.supervisor_pid()
        (server,) = servers_of(supervisor)
        os.kill(supervisor, signal.SIGKILL)
        await eventually(lambda: not server.is_running() or not is_alive(server.pid))
        assert (await fleet.ccproxy("start")).code == 0
        assert await fleet.worker_pid("kimi") == pid
        assert await fleet.supervisor_pid() != supervisor


async def test_the_children_of_a_killed_worker_leave_no_zombies(home):
    """A supervisor that has forked workers is the new parent of their children."""
    home.add("Kimi", CHILD="1")
    async with serving(home, worker_command=FAKE_WORKER, fork_server=()) as resident:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        await resident.execute(ControlCommand(op="start"))
        pid = home.pid("Kimi")
        (child,) = await eventually(lambda: psutil.Process(pid).children())
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not psutil.pid_exists(child.pid))


async def test_a_forked_worker_that_rejects_its_settings_is_not_retried(home):
    """Its exit code 78 and its message reach the supervisor."""
    home.add("Kimi", PROVIDER="kimi", PROVIDER_API_KEY="")

    async def check(labels, *, cwd, network=None):
        (entry,) = home.fleet.entries
        spec = Spec(label="Kimi", host="127.0.0.1", port=entry.port, env_file=str(entry.env_file))
        return CheckResult(specs=(spec,))

    async with serving(home, check=check) as resident:
        (row,) = (await resident.execute(ControlCommand(op="start"))).proxies
    assert row.state == "failed"
    assert "PROVIDER_API_KEY" in row.reason
    assert [event["code"] for event in home.events("worker.exited")] == [78]
    assert home.events("forkserver.failed") == []


# Failures.

CHANNEL = "import socket, sys; c = socket.socket(fileno=int(sys.argv[1])); "


def command(does: str) -> tuple[str, ...]:
    return (sys.executable, "-c", CHANNEL + does)


@pytest.mark.parametrize(
    ("server", "failed_starts"),
    [
        pytest.param(("/no/such/program",), 0, id="it cannot be started"),
        pytest.param(command("sys.exit(1)"), 0, id="it exits while it loads"),
        pytest.param(command("c.send(b'hello?')"), 0, id="it sends something else"),
        pytest.param(command("c.recv(9)"), 0, id="it never loads"),
        pytest.param(command("c.send(b'ready'); c.recv(9)"), 1, id="it exits with the request"),
        pytest.param(
            command("c.send(b'ready'); c.recv(9); c.recv(9)"), 1, id="it never answers a request"
        ),
        pytest.param(
            command("c.send(b'ready'); c.recv(9); c.send(b'no'); c.recv(9)"),
            1,
            id="it answers with invalid data",
        ),
    ],
)
async def test_workers_are_spawned_if_the_fork_server_fails(home, server, failed_starts):
    home.add("Kimi")
    limits = ForkLimits(load=0.5, answer=0.5)
    settings = {"worker_command": FAKE_WORKER, "fork_server": server, "fork_limits": limits}
    async with serving(home, **settings) as resident:
        (row,) = (await resident.execute(ControlCommand(op="start"))).proxies
    assert row.state == "ready"
    assert len(home.events("forkserver.failed")) == 1
    assert len(home.events("worker.refused")) == failed_starts


# Lifetime of the fork server.


async def test_the_fork_server_exits_soon_after_its_last_use(home):
    home.add("Kimi")
    async with serving(home, fork_limits=ForkLimits(linger=0.2)) as resident:
        await resident.execute(ControlCommand(op="start"))
        await eventually(lambda: not servers_of(os.getpid()))
        assert home.status() == {"Kimi": "ready"}
        assert home.events("forkserver.failed") == []


async def test_every_command_starts_a_new_fork_server(home):
    """The code may have changed since the last command, and a reload must run the new one."""
    home.add("Kimi")
    async with serving(home) as resident:
        await resident.execute(ControlCommand(op="start"))
        (first,) = servers_of(os.getpid())
        await resident.execute(ControlCommand(op="restart", drain=0.0))
        (second,) = servers_of(os.getpid())
        assert first.pid != second.pid
    assert servers_of(os.getpid()) == []


async def test_a_start_with_nothing_to_do_starts_no_fork_server(home):
    home.add("Kimi")
    async with serving(home, fork_limits=ForkLimits(linger=0.2)) as resident:
        await resident.execute(ControlCommand(op="start"))
        await eventually(lambda: not servers_of(os.getpid()))
        started = asyncio.create_task(resident.execute(ControlCommand(op="start")))
        observed = set()
        while not started.done():
            observed |= {server.pid for server in servers_of(os.getpid())}
            await asyncio.sleep(0)
        assert (await started).ok
        assert observed == set()
