"""Commands of several shells at once, on a fleet whose files are edited and processes suspended."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from ccproxy.errors import Busy, NotRunning
from ccproxy.supervisor.config_check import CheckResult, ConfigCheck
from ccproxy.supervisor.control.client import fleet_status
from ccproxy.supervisor.control.protocol import ControlCommand, Op
from tests.fleet import pause
from tests.supervisor.conftest import Home, Load, eventually, is_alive, states
from tests.supervisor.test_interrupted import workers_of
from tests.supervisor.test_starting import ended, running


@pytest.fixture
def fleet(home: Home) -> Iterator[Home]:
    """A running fleet of two entries with three processes."""
    home.add("Kimi")
    home.add("Glm", workers=2)
    home.start()
    yield home
    for pid in workers_of(home):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_storm_of_reloads_ends_with_the_last_edit(fleet: Home) -> None:
    """No connection is refused or cut, and one generation of workers remains."""
    unchanged = set(fleet.row("Glm").pids)
    with Load(fleet.ports["Kimi"]) as load, ThreadPoolExecutor(3) as pool:
        replies = []
        for number in range(8):
            fleet.set("Kimi", VERSION=str(number))
            replies.append(pool.submit(fleet.request, "reload"))
        assert [reply.result().ok for reply in replies] == [True] * 8
        assert fleet.request("reload").ok
    assert fleet.ask("Kimi")["VERSION"] == "7"
    assert (load.refused, load.broken) == (0, 0)
    assert set(fleet.row("Glm").pids) == unchanged
    eventually(lambda: workers_of(fleet) == unchanged | {fleet.pid("Kimi")})


def test_mixed_commands_leave_exactly_the_fleet(fleet: Home) -> None:
    """Each command ends, with a result or an error, and none leaves an unknown process."""
    chance = random.Random(7)
    commands: list[tuple[Op, tuple[str, ...]]] = [
        (op, labels)
        for op in ("start", "stop", "restart", "reload")
        for labels in ((), ("kimi",), ("glm",))
        if not (op == "reload" and labels)
    ]
    chance.shuffle(commands)

    def execute(command: tuple[Op, tuple[str, ...]]) -> None:
        op, labels = command
        with suppress(Busy, NotRunning):  # another shell has just stopped the fleet
            fleet.request(op, *labels, drain=1.0)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(execute, commands))
    assert fleet.start() == {"Kimi": "ready", "Glm": "ready"}
    pids = {*fleet.row("Kimi").pids, *fleet.row("Glm").pids}
    assert len(pids) == 3
    eventually(lambda: workers_of(fleet) == pids)
    assert fleet.request("stop", drain=1.0).ok
    eventually(lambda: not workers_of(fleet))


async def test_an_edit_during_a_reload_is_applied_by_the_next_one(home: Home) -> None:
    home.add("Kimi")
    home.add("Glm")

    class EditingCheck(ConfigCheck):
        edit = False

        async def __call__(self, labels, *, cwd, network=None) -> CheckResult:  # type: ignore[no-untyped-def]
            result = await super().__call__(labels, cwd=cwd, network=network)
            if self.edit:
                home.remove("Glm")
                home.add("Groq")
            return result

    check = EditingCheck(home.file)
    supervisor, life = await running(home, check=check)
    await supervisor.execute(ControlCommand(op="start"))
    home.set("Kimi", COLOUR="blue")
    check.edit = True
    assert states(await supervisor.execute(ControlCommand(op="reload"))).keys() == {"Kimi", "Glm"}
    check.edit = False
    reply = await supervisor.execute(ControlCommand(op="reload"))
    assert {one.label: one.change for one in reply.plan} == {"Kimi": "=", "Groq": "+", "Glm": "-"}
    assert states(reply) == {"Kimi": "ready", "Groq": "ready"}
    assert (await asyncio.to_thread(home.ask, "Kimi"))["COLOUR"] == "blue"
    await asyncio.to_thread(eventually, lambda: len(workers_of(home)) == 2)
    await ended(supervisor, life)


def test_a_port_that_is_taken_during_a_reload_leaves_the_old_worker_serving(fleet: Home) -> None:
    old_port, pid = fleet.ports["Kimi"], fleet.pid("Kimi")
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = fleet.add("Kimi", port=stranger.getsockname()[1])
        reply = fleet.request("reload", timeout=3.0)
        assert not reply.ok
        assert (reply.error or "").startswith(f"Kimi: port {port} in use by ")
        assert (reply.error or "").endswith("; the previous worker continues")
        fleet.ports["Kimi"] = old_port
        assert fleet.ask("Kimi")["pid"] == pid
    fleet.ports["Kimi"] = port
    assert fleet.request("reload").ok
    assert fleet.ask("Kimi")["label"] == "Kimi"
    eventually(lambda: not is_alive(pid))


@pytest.mark.parametrize("op", ["stop", "restart"])
def test_a_suspended_worker_does_not_outlive_the_command(fleet: Home, op: Op) -> None:
    pid = fleet.pid("Kimi")
    pause(pid)
    fleet.request(op, "kimi", drain=0.2)
    eventually(lambda: not is_alive(pid))
    state = "stopped" if op == "stop" else "ready"
    eventually(lambda: fleet.status() == {"Kimi": state, "Glm": "ready"})


def test_a_stop_waits_for_a_suspended_supervisor_and_leaves_no_process(fleet: Home) -> None:
    supervisor = fleet.supervise()
    pause(supervisor)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(fleet.request, "stop", drain=1.0)
        eventually(lambda: fleet_status(fleet.fleet).note.startswith("supervisor (pid "))
        os.kill(supervisor, signal.SIGCONT)
        assert stopping.result().ok
    eventually(lambda: not workers_of(fleet) and not is_alive(supervisor))


def uptime(home: Home) -> float:
    return home.row("Kimi").uptime_s or 0.0


async def test_a_jump_of_the_wall_clock_restarts_no_worker(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.add("Kimi")
    supervisor, life = await running(home, probe_period=0.2, probe_limit=0.1)
    await supervisor.execute(ControlCommand(op="start"))
    (before,) = home.records()
    now = time.time
    for jump in (864_000.0, -864_000.0):
        monkeypatch.setattr(time, "time", lambda jump=jump: now() + jump)
        age = await asyncio.to_thread(uptime, home)
        # In a second, every worker is probed several times.
        await asyncio.to_thread(eventually, lambda age=age: age + 1 < uptime(home) < age + 1000)
        assert (await supervisor.execute(ControlCommand(op="reload"))).ok
        assert home.records() == [before]
        assert before.identity.is_alive()
    assert home.events("worker.exited") == []
    await ended(supervisor, life)
