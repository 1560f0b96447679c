"""Notifications to systemd from a fleet in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys

import pytest

from ccproxy.supervisor.service_notify import ServiceNotifier
from tests.fleet import PATIENCE, FleetHome, eventually


@pytest.fixture
def manager(tmp_path_factory):
    """The socket of a service manager: its address and the listener."""
    path = tmp_path_factory.mktemp("run") / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.setblocking(False)
        yield path, listener


def heard(listener: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(listener.recv(4096).decode())
        except BlockingIOError:
            return messages


@pytest.mark.xdist_group("processes")
async def test_up_notifies_systemd_of_readiness_and_sends_keepalives(tmp_path, manager):
    address, listener = manager
    async with FleetHome(tmp_path) as home:
        home.write(demo={"PROVIDER": "demo"})
        environ = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "200000"}
        child = asyncio.ensure_future(home.ccproxy("up", **environ))
        messages: list[str] = []

        def is_told() -> bool:
            messages.extend(heard(listener))
            return any(message.startswith("READY=1") for message in messages)

        await eventually(is_told)
        assert "READY=1\nSTATUS=1 of 1 running" in messages
        assert (await home.proxy("demo"))["state"] == "ready", "not before its workers were"
        messages.clear()
        await eventually(lambda: messages.extend(heard(listener)) or len(messages) > 2)
        assert set(messages) == {"WATCHDOG=1"}
        os.kill(await home.supervisor_pid(), signal.SIGTERM)
        assert (await asyncio.wait_for(child, PATIENCE)).code == 0


@pytest.mark.xdist_group("processes")
async def test_an_invalid_configuration_exits_with_the_code_that_systemd_does_not_retry(
    tmp_path, manager
):
    address, listener = manager
    async with FleetHome(tmp_path) as home:
        home.write(demo={"PROVIDER": "demo", "PROVIDER_NAMEE": "x"})
        done = await home.ccproxy("up", NOTIFY_SOCKET=str(address))
        assert done.code == 78, done
        assert not any("READY" in message for message in heard(listener))


@pytest.mark.parametrize(
    ("environ", "period"),
    [
        pytest.param({}, None, id="no watchdog"),
        pytest.param({"WATCHDOG_USEC": "30000000"}, 15.0, id="half the watchdog's period"),
        pytest.param(
            {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None, id="for another process"
        ),
        pytest.param(
            {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())},
            1.0,
            id="for this process",
        ),
        pytest.param({"WATCHDOG_USEC": "soon"}, None, id="not a number"),
        pytest.param({"WATCHDOG_USEC": "0"}, None, id="switched off"),
    ],
)
def test_the_keepalive_period_is_half_the_watchdogs(environ, period):
    assert ServiceNotifier(environ).period == period


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket_address_is_supported():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0ccproxy-test-{os.getpid()}")
        ServiceNotifier({"NOTIFY_SOCKET": f"@ccproxy-test-{os.getpid()}"}).ready("x")
        assert listener.recv(100) == b"READY=1\nSTATUS=x"


@pytest.mark.parametrize("address", ["", "/nobody/listens/here"])
async def test_a_missing_service_manager_is_not_an_error(address):
    notifier = ServiceNotifier({"NOTIFY_SOCKET": address})
    notifier.ready("x")
    await notifier.keep_alive()


async def test_a_slow_service_manager_blocks_nothing_and_is_notified_later(manager):
    address, listener = manager
    notifier = ServiceNotifier({"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "20000"})
    keep_alive = asyncio.ensure_future(notifier.keep_alive())
    full = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    full.setblocking(False)
    with full, contextlib.suppress(BlockingIOError):
        full.connect(str(address))
        while True:
            full.send(b"WATCHDOG=1")
    notifier.ready("1 of 1 running")
    assert "READY=1\nSTATUS=1 of 1 running" not in heard(listener)
    messages: list[str] = []
    await eventually(lambda: messages.extend(heard(listener)) or len(set(messages)) == 2)
    assert messages[0] == "READY=1\nSTATUS=1 of 1 running"
    keep_alive.cancel()
