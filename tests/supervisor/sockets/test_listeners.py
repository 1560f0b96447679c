"""Listening sockets: bound before any worker starts, and reasons why a port cannot be bound."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ccproxy.supervisor.fleet.plan import Port
from ccproxy.supervisor.sockets.listeners import (
    RETRY,
    RETRY_SOON,
    Listeners,
    describe_port_holder,
)
from tests.ports import free_port

NOW = 100.0


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    opened = Listeners(clock=lambda: NOW, describe=lambda port: f"port {port} is Hugo's")
    yield opened
    opened.keep_only(())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_bound_port_queues_connections_before_a_worker_accepts(
    listeners: Listeners, host: str
) -> None:
    address = (host, free_port())
    assert listeners.bind(address) is None
    assert listeners.has(address)
    assert not os.get_inheritable(listeners.fileno(address))
    with socket.create_connection(address, timeout=30):
        pass


def test_another_programs_port_is_reported_and_retried(listeners: Listeners) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = other.getsockname()
        problem = listeners.bind(address)
        assert problem is not None
        assert problem.reason == f"port {address[1]} is Hugo's"
        assert (problem.port, problem.retry_at) == (Port.FOREIGN, NOW + RETRY)
        assert listeners.next_try(NOW) == NOW + RETRY
    assert listeners.bind(address) is None
    assert listeners.problem(address) is None


def test_the_port_of_a_stopping_worker_is_retried_soon(listeners: Listeners) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        problem = listeners.bind(ours.getsockname(), is_leaving=True)
    assert problem is not None
    assert (problem.port, problem.retry_at) == (Port.HELD, NOW + RETRY_SOON)


@pytest.mark.parametrize("address", [("203.0.113.1", 8081), ("no.such.host.invalid", 8081)])
def test_an_address_of_another_machine_is_refused(
    listeners: Listeners, address: tuple[str, int]
) -> None:
    problem = listeners.bind(address)
    assert problem is not None
    assert problem.port is Port.REFUSED
    assert problem.reason.startswith(f"cannot listen on {address[0]}:8081: ")


def test_unused_ports_are_closed(listeners: Listeners) -> None:
    first, second = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
    listeners.bind(first)
    listeners.bind(second)
    assert listeners.keep_only({first}) == [second]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(second, timeout=30)


def test_only_one_of_two_duplicates_of_a_socket_is_kept(listeners: Listeners) -> None:
    durations = socket.create_server(("127.0.0.1", 0))
    address, duplicate = durations.getsockname(), durations.dup()
    listeners.adopt(address, durations)
    listeners.adopt(address, duplicate)
    assert listeners.fileno(address) == durations.fileno()
    assert duplicate.fileno() == -1
    assert not durations.getblocking()


def test_the_holder_of_a_port_is_described_by_program_and_pid() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        text = describe_port_holder(port)
    assert text.startswith(f"port {port} in use by ")
    assert f"(pid {os.getpid()}, user " in text
    assert describe_port_holder(port).startswith(f"port {port} in use by another")


@pytest.mark.parametrize(
    ("options", "holder"),
    [
        (["--home", "/srv/a", "--label", "Kimi"], "Kimi of the ccproxy fleet in /srv/a"),
        (["--home", "/srv/a"], "the ccproxy fleet in /srv/a"),
    ],
    ids=["worker", "supervisor"],
)
def test_a_holder_from_another_fleet_is_described_by_label_and_folder(
    options: list[str], holder: str
) -> None:
    code = "import socket; s = socket.create_server(('127.0.0.1', 0))\n"
    code += "print(s.getsockname()[1], flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        assert describe_port_holder(port).startswith(
            f"port {port} in use by {holder} (pid {other.pid}, user "
        )
        other.communicate()
