"""A fleet in its own folder, with fake workers; it is removed completely after each test."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ccproxy.config.fleet import Fleet, load_fleet
from ccproxy.supervisor.control import client
from ccproxy.supervisor.control.protocol import ControlReply, Op
from ccproxy.supervisor.control.status import Row
from ccproxy.supervisor.processes.identity import Identity
from ccproxy.supervisor.state.records import RecordFolder, WorkerRecord, read_supervisor
from tests.ports import free_port

PR_SET_CHILD_SUBREAPER = 36
FAKE_WORKER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("fake_worker.py")))


@pytest.fixture(autouse=True)
def orphans() -> Iterator[None]:
    """After a supervisor in this process, orphans of other tests must not become its children."""
    yield
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class Home:
    """The folder of a fleet; its env files define the behaviour of the fake workers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "ccproxy.toml"
        self.ports: dict[str, int] = {}
        self.lines: dict[str, str] = {}
        self._seen: set[Identity] = set()

    # The user's files.

    def add(self, label: str, *, workers: int = 1, port: int = 0, **settings: str) -> int:
        """Add or change an entry; return its port."""
        self.ports[label] = port or self.ports.get(label) or free_port()
        self.set(label, **settings)
        self.lines[label] = (
            f'[[proxy]]\nport = {self.ports[label]}\nenv_file = "envs/{label}.env"\n'
            f'label = "{label}"\nworkers = {workers}\n'
        )
        self.write()
        return self.ports[label]

    def set(self, label: str, **settings: str) -> None:
        env_file = self.path / "envs" / f"{label}.env"
        env_file.parent.mkdir(exist_ok=True)
        lines = {"PROVIDER": "demo", **settings}
        env_file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        env_file.chmod(0o600)

    def release(self, label: str) -> None:
        """Let the fake workers of *label* finish their delayed answers."""
        (self.path / "envs" / f"{label}.env.released").touch()

    def remove(self, label: str) -> None:
        del self.lines[label]
        self.write()

    def write(self) -> None:
        self.file.write_text("\n".join(self.lines.values()))

    # Commands.

    @property
    def fleet(self) -> Fleet:
        return load_fleet(self.file)

    def supervise(self) -> int:
        """Start a supervisor if none is running; return its pid."""
        client.ensure_supervisor(self.fleet, worker_command=FAKE_WORKER)
        record = read_supervisor(self.path / "pids")
        assert record is not None
        return record.pid

    def request(self, op: Op, *labels: str, **options: Any) -> ControlReply:
        if op == "start":
            self.supervise()
        answer = client.request(self.fleet, op, labels=labels, **options)
        self.records()
        return answer

    def start(self, *labels: str, **options: Any) -> dict[str, str]:
        """Start the fleet, and return the states of its entries."""
        return states(self.request("start", *labels, **options))

    def status(self) -> dict[str, str]:
        return states(client.fleet_status(self.fleet))

    def row(self, label: str) -> Row:
        rows = client.fleet_status(self.fleet).proxies
        return next(row for row in rows if row.label == label)

    def pid(self, label: str) -> int:
        (pid,) = self.row(label).pids
        return pid

    # Results.

    def records(self) -> list[WorkerRecord]:
        result = [record for _, record in RecordFolder(self.path / "pids").read() if record]
        self._seen |= {record.identity for record in result}
        return result

    def ask(self, label: str, path: str = "/") -> dict[str, Any]:
        return ask(self.ports[label], path)

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (self.path / "logs/supervisor.log").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def clear(self) -> None:
        """Kill the processes that this test started, and no others."""
        with contextlib.suppress(OSError, ValueError):
            self.records()
        supervisor = read_supervisor(self.path / "pids")
        if supervisor:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(supervisor.pid), signal.SIGKILL)
        self.records()
        for identity in self._seen:
            identity.signal_group(signal.SIGKILL)
        shutil.rmtree(self.path, ignore_errors=True)


class Load:
    """Sends requests from a few threads and counts the results."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered = 0
        self.broken = 0
        """Connections that broke when a worker died."""
        self.refused = 0
        self.pids: set[int] = set()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                self.pids.add(ask(self.port)["pid"])
                self.answered += 1
            except ConnectionRefusedError:
                self.refused += 1
            except (OSError, http.client.HTTPException, ValueError):
                self.broken += 1


def ask(port: int, path: str = "/") -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        body: dict[str, Any] = json.loads(connection.getresponse().read())
        return body
    finally:
        connection.close()


def listen_as_somebody_else(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the kernel report another user as the listener, neither this one nor root."""
    me = os.geteuid()
    if me:
        listener.listen()
        monkeypatch.setattr(os, "getuid", lambda: me + 1)
        return
    os.seteuid(65534)
    try:
        listener.listen()
    finally:
        os.seteuid(me)


def states(answer: ControlReply | client.FleetStatus) -> dict[str, str]:
    return {row.label: row.state for row in answer.proxies}


def eventually(reached: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until *reached* returns a true value, and return it."""
    until = time.monotonic() + seconds
    while not (value := reached()):
        assert time.monotonic() < until, "not reached in time"
        time.sleep(0.02)
    return value


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def home() -> Iterator[Home]:
    """An empty home with a short path, because paths of unix sockets have a length limit."""
    home = Home(Path(tempfile.mkdtemp(prefix="ccp")))
    yield home
    home.clear()
