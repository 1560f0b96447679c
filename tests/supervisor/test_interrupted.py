"""
A supervisor that is killed at any step of a command loses no worker and leaves no extra one.

After the next start, the processes of the fleet are exactly those of its table. Workers that the
command did not have to replace have served without interruption.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from ccproxy.errors import NotRunning
from ccproxy.ipc.socket_paths import socket_path
from ccproxy.supervisor.control.protocol import ControlCommand, Op, encode_message
from ccproxy.supervisor.processes.identity import command_lines_of_this_user, option_of
from ccproxy.supervisor.sockets.unix_socket import NoAnswer, exchange
from tests.supervisor.conftest import Home, eventually, is_alive


def workers_of(home: Home) -> set[int]:
    """Return the worker processes of *home*, whether they have records or not."""
    return {
        pid
        for pid, arguments in command_lines_of_this_user()
        if option_of(arguments, "--home") == str(home.path)
        and option_of(arguments, "--control") is not None
        and is_alive(pid)
    }


def count(home: Home, event: str) -> int:
    with suppress(OSError, ValueError):  # the file or its last line is still being written
        return len(home.events(event))
    return 0


def send(home: Home, op: Op) -> None:
    """Send a command without waiting for a supervisor. Raise NoAnswer if the supervisor dies."""
    command = encode_message(ControlCommand(op=op, config=str(home.file), cwd=str(home.path)))
    exchange(socket_path(home.path), command, timeout=60.0)


def kill_supervisor_at(home: Home, op: Op, event: str) -> None:
    """Send the command *op*, and kill the supervisor when *event* is logged."""
    supervisor = home.supervise()
    before = count(home, event)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send, home, op)
        eventually(lambda: count(home, event) > before)
        os.kill(supervisor, signal.SIGKILL)
        with suppress(NoAnswer):
            answer.result()
    eventually(lambda: not is_alive(supervisor))


def check_that_nothing_is_lost(home: Home) -> None:
    assert home.start() == {"Kimi": "ready", "Glm": "ready"}
    pids = {label: home.row(label).pids for label in ("Kimi", "Glm")}
    assert [len(each) for each in pids.values()] == [1, 2]
    # A replaced worker may not have exited yet.
    eventually(lambda: workers_of(home) == {*pids["Kimi"], *pids["Glm"]})
    eventually(lambda: {record.identity.pid for record in home.records()} == workers_of(home))
    assert home.ask("Kimi")["pid"] in pids["Kimi"]


@pytest.fixture
def fleet(home: Home) -> Iterator[Home]:
    """A fleet of two entries with three processes."""
    home.add("Kimi")
    home.add("Glm", workers=2)
    yield home
    for pid in workers_of(home):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("event", ["listener.bound", "worker.spawned"])
def test_a_killed_start_loses_no_worker(fleet: Home, event: str) -> None:
    kill_supervisor_at(fleet, "start", event)
    check_that_nothing_is_lost(fleet)


def test_a_killed_restart_loses_no_worker(fleet: Home) -> None:
    fleet.start()
    for event in ("worker.spawned", "worker.ready", "worker.draining"):
        kill_supervisor_at(fleet, "restart", event)
        check_that_nothing_is_lost(fleet)


def test_a_killed_reload_loses_no_worker(fleet: Home) -> None:
    fleet.start()
    unchanged = fleet.pid("Kimi")
    for version, event in (("2", "worker.spawned"), ("3", "worker.draining")):
        fleet.set("Glm", VERSION=version)
        kill_supervisor_at(fleet, "reload", event)
        check_that_nothing_is_lost(fleet)
        fleet.request("reload")
        check_that_nothing_is_lost(fleet)
        assert fleet.ask("Glm")["VERSION"] == version
    assert fleet.pid("Kimi") == unchanged


@pytest.mark.parametrize(
    ("first", "second", "is_new_kept"),
    [
        pytest.param({"STUBBORN": "1"}, {}, True, id="both serve"),
        pytest.param({}, {"NEVER_READY": "1"}, False, id="only the old one serves"),
    ],
)
def test_the_newest_serving_generation_is_kept(
    home: Home, first: dict[str, str], second: dict[str, str], is_new_kept: bool
) -> None:
    """A successor that is not ready when the supervisor is killed may never become ready."""
    home.add("Kimi", **first)
    home.start()
    (old,) = home.records()
    home.set("Kimi", **second)
    kill_supervisor_at(home, "reload", "worker.draining" if is_new_kept else "worker.spawned")
    (new,) = (record for record in home.records() if record.nonce != old.nonce)
    kept, other = (new, old) if is_new_kept else (old, new)
    assert home.start() == {"Kimi": "ready"}
    assert home.pid("Kimi") == kept.identity.pid
    assert home.request("stop", "kimi", drain=0.0).ok
    assert not other.identity.is_alive()


def test_a_killed_stop_leaves_no_process(fleet: Home) -> None:
    fleet.start()
    for event in ("worker.draining", "worker.exited"):
        kill_supervisor_at(fleet, "stop", event)
        with suppress(NotRunning):  # all workers have exited
            fleet.request("stop")
        eventually(lambda: not workers_of(fleet))
        check_that_nothing_is_lost(fleet)


def test_a_kill_between_two_concurrent_commands_loses_no_worker(fleet: Home) -> None:
    """Both clients get a reply or an error, and the next start finds every worker."""
    fleet.start()
    for ops in (("restart", "stop"), ("reload", "restart"), ("stop", "start")):
        supervisor = fleet.supervise()
        before = count(fleet, "worker.draining")
        fleet.set("Glm", VERSION=ops[0])
        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(send, fleet, op) for op in ops]
            eventually(lambda before=before: count(fleet, "worker.draining") > before)
            os.kill(supervisor, signal.SIGKILL)
            for answer in answers:
                with suppress(NoAnswer):
                    answer.result()
        eventually(lambda pid=supervisor: not is_alive(pid))
        check_that_nothing_is_lost(fleet)


def test_successive_killed_supervisors_leave_one_generation(fleet: Home) -> None:
    """Each supervisor adopts its predecessor's workers; no earlier generation remains."""
    fleet.start()
    before = workers_of(fleet)
    for _ in range(3):
        supervisor = fleet.supervise()
        os.kill(supervisor, signal.SIGKILL)
        eventually(lambda pid=supervisor: not is_alive(pid))
    check_that_nothing_is_lost(fleet)
    assert workers_of(fleet) == before
