"""
The machine: starts workers, drains and signals them, and reports the outcome to their slots.

A worker gets its listening socket, one end of a readiness pipe, and the path of its control
socket. Its environment holds a fixed list of the shell's variables, so keys reach it only from its
env file. It is forked if many workers are started at once, otherwise spawned; either way it is a
child of the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ccproxy.config.fleet import Fleet
from ccproxy.ipc.codec import MessageError, decode
from ccproxy.ipc.control_messages import (
    Done,
    DrainRequest,
    Readiness,
)
from ccproxy.ipc.socket_paths import socket_path
from ccproxy.supervisor.fleet.health_probe import LIMIT, PERIOD
from ccproxy.supervisor.fleet.plan import Action, Goal, Port, StopSignal
from ccproxy.supervisor.fleet.unavailable_server import UnavailableServer
from ccproxy.supervisor.fleet.worker_slot import ABORT_GRACE, DRAIN_GRACE, WorkerSlot
from ccproxy.supervisor.journal import Journal
from ccproxy.supervisor.processes.child_environment import clean_environment
from ccproxy.supervisor.processes.crash_output import (
    OutputFiles,
    crash_path,
    last_lines,
    open_crash_file,
    output_files,
)
from ccproxy.supervisor.processes.exit_watch import ExitWatch
from ccproxy.supervisor.processes.fork_client import ForkedProcess, ForkLimits, ForkServer
from ccproxy.supervisor.processes.identity import identify
from ccproxy.supervisor.sockets.listeners import Listeners
from ccproxy.supervisor.sockets.unix_server import ask_worker_async
from ccproxy.supervisor.sockets.unix_socket import (
    NoAnswer,
    prepare_folder,
)
from ccproxy.supervisor.state.records import RecordFolder, WorkerRecord

# -P: a file in the fleet's home must not be imported as a module.
# faulthandler: a worker that hangs while it loads shows its stack.
WORKER_COMMAND = (sys.executable, "-P", "-X", "faulthandler", "-m", "ccproxy.worker")
FORK_SERVER_COMMAND = (*WORKER_COMMAND, "--fork-server")

DRAIN_ANSWER = 1.0
"""Seconds that a worker may take to confirm a drain; after that it gets SIGTERM."""

REAP_POLL = 0.1
"""Seconds between two attempts to reap the killed children of a worker."""


@dataclass(slots=True)
class _Handles:
    """The open resources of a running worker."""

    watch: ExitWatch
    port: int
    child: ForkedProcess | None = None
    ready_fd: int = -1
    received: bytes = b""
    output: OutputFiles = ()


@dataclass(slots=True, kw_only=True)
class Settings:
    """Settings that tests override."""

    worker_command: Sequence[str] = WORKER_COMMAND
    fork_server: Sequence[str] = FORK_SERVER_COMMAND
    """The command of the fork server; if empty, workers are spawned."""
    fork_limits: ForkLimits = field(default_factory=ForkLimits)
    clock: Callable[[], float] = time.monotonic
    probe_period: float = PERIOD
    probe_limit: float = LIMIT
    jitter: Callable[[], float] = field(
        default=lambda: random.uniform(-1.0, 1.0)  # noqa: S311 - spreads restarts; not a secret
    )


class LocalHost:
    """The machine that the supervisor runs on."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        journal: Journal,
        wake: Callable[[], None],
        settings: Settings,
        environment: Callable[[], dict[str, str]] = clean_environment,
    ) -> None:
        self.listeners = Listeners(clock=settings.clock)
        self.records = RecordFolder(fleet.pids)
        self.may_spawn: Callable[[], bool] = lambda: True
        """Called before every start: whether this process is still the fleet's supervisor."""
        self.control_path: Callable[[str], Path] = lambda name: socket_path(fleet.home, name)
        """Returns the path of a new worker's control socket, given its name."""
        self._unavailable_server = UnavailableServer(self.listeners, settings.clock)
        self._fleet = fleet
        self._journal = journal
        self._wake = wake
        self._settings = settings
        self._environment = environment
        self._fork_server = ForkServer(
            settings.fork_server,
            home=fleet.home,
            environment=environment,
            journal=journal,
            limits=settings.fork_limits,
        )
        self._handles: dict[str, _Handles] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # Observations.

    def now(self) -> float:
        """Return the seconds of a monotonic clock."""
        return self._settings.clock()

    def port(self, slot: WorkerSlot) -> Port:
        """Return the state of the slot's port."""
        if self.listeners.has(slot.spec.address):
            return Port.OURS
        problem = self.listeners.problem(slot.spec.address)
        if problem is None or problem.retry_at <= self.now():
            return Port.FREE
        return problem.port

    def next_try(self, now: float) -> float:
        """Return the next time at which to retry a port."""
        return self.listeners.next_try(now)

    # Actions.

    def perform(self, action: Action, slot: WorkerSlot) -> None:
        """Perform *action* and report the outcome to *slot*."""
        match action:
            case Action.BIND:
                self._bind(slot)
            case Action.SPAWN:
                self._spawn(slot)
            case Action.DRAIN:
                slot.end_requested(StopSignal.DRAIN, self.now() + slot.drain_seconds + DRAIN_GRACE)
                self._begin(self._drain(slot))
            case Action.ABORT:
                self._abort(slot)
            case Action.KILL:
                self._kill(slot)
            case Action.REAP:
                self._reap(slot)

    def update_ports(self, slots: list[WorkerSlot]) -> None:
        """Close the ports that no slot needs; answer on the ports of crash-looping entries."""
        self._unavailable_server.update(slots)
        addresses = {
            slot.spec.address
            for slot in slots
            if slot.goal is Goal.RUNNING and not slot.is_rejected
        }
        for host, port in self.listeners.keep_only(addresses):
            self._journal("listener.closed", host=host, port=port)

    def prepare(self) -> None:
        """Prepare to start workers, because a command is likely to."""
        self._fork_server.begin()

    async def prepared(self) -> None:
        """Wait until workers can be started quickly, if `prepare` was called."""
        await self._fork_server.loaded()

    def watch(self, slot: WorkerSlot, record: WorkerRecord) -> _Handles:
        """Watch for the exit of a worker that this or an earlier supervisor has started."""
        watch = ExitWatch(record.identity, lambda: self._exited(slot, record))
        handles = self._handles[record.nonce] = _Handles(watch, record.spec.port)
        return handles

    async def close(self) -> None:
        """Release all resources; running workers continue."""
        self._fork_server.end()
        await self._unavailable_server.close()
        self.listeners.keep_only(())
        for handles in self._handles.values():
            handles.watch.close()
            self._close_pipe(handles)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # The port.

    def _bind(self, slot: WorkerSlot) -> None:
        host, port = slot.spec.address
        before = self.listeners.problem(slot.spec.address)
        is_leaving = any(handles.port == port for handles in self._handles.values())
        problem = self.listeners.bind(slot.spec.address, is_leaving=is_leaving)
        if problem is None:
            self._journal("listener.bound", label=slot.spec.label, host=host, port=port)
            if before:
                slot.port_bound()
            return
        if problem.port is Port.HELD:
            return
        slot.port_refused(problem.reason)
        if before is None or before.reason != problem.reason:
            event = "listener.taken" if problem.port is Port.FOREIGN else "listener.refused"
            self._journal(event, level="error", label=slot.spec.label, reason=problem.reason)

    # Process start.

    def _spawn(self, slot: WorkerSlot) -> None:
        if not self.may_spawn():
            self._spawn_failed(slot, "another supervisor has taken over")
            return
        label, index = slot.spec.label, slot.index
        nonce = secrets.token_hex(16)
        control = self.control_path(f"{label}.{index}.{nonce[:8]}")
        try:
            output = output_files(self._fleet.logs, label, index)
            child, ready_fd = self._start(slot, nonce, control)
        except OSError as error:
            message = f"cannot start a process: {describe_start_error(error)}"
            self._journal("worker.refused", level="error", label=label, reason=message)
            self._spawn_failed(slot, message)
            return
        identity = identify(child.pid)
        if identity is None:  # it has already exited; only the exit code is known
            os.close(ready_fd)
            self._spawn_failed(slot, f"exited with code {child.wait()}")
            return
        record = WorkerRecord(
            identity=identity,
            nonce=nonce,
            control=str(control),
            index=index,
            spec=slot.spec,
            home=str(self._fleet.home),
        )
        slot.spawned(record, self.now())
        self._write(record)
        handles = self.watch(slot, record)
        handles.child, handles.ready_fd, handles.output = child, ready_fd, output
        asyncio.get_running_loop().add_reader(ready_fd, self._read_pipe, slot, record, handles)
        self._journal("worker.spawned", label=label, index=index, pid=child.pid)

    def _spawn_failed(self, slot: WorkerSlot, message: str) -> None:
        slot.could_not_spawn(self.now(), jitter=self._settings.jitter(), message=message)

    def _start(self, slot: WorkerSlot, nonce: str, control: Path) -> tuple[ForkedProcess, int]:
        """Start a process; return it and our end of its readiness pipe."""
        spec = slot.spec
        options = {
            "--home": self._fleet.home,
            "--table": self._fleet.file,
            "--label": spec.label,
            "--env-file": spec.env_file,
            "--port": spec.port,
            "--control": control,
            "--nonce": nonce,
            "--index": slot.index,
            "--workers": spec.workers,
        }
        arguments = [str(argument) for option in options.items() for argument in option]
        listen_fd = self.listeners.fileno(spec.address)
        prepare_folder(control)
        with open_crash_file(crash_path(self._fleet.logs, spec.label, slot.index)) as out:
            ours, theirs = os.pipe()
            try:
                os.set_blocking(ours, False)
                child = self._fork_server.fork(arguments, (listen_fd, theirs, out.fileno()))
                return child or self._spawn_process(arguments, listen_fd, theirs, out), ours
            except OSError:
                os.close(ours)
                raise
            finally:
                os.close(theirs)

    def _spawn_process(
        self, arguments: Sequence[str], listen_fd: int, ready_fd: int, out: BinaryIO
    ) -> ForkedProcess:
        descriptors = ["--listen-fd", str(listen_fd), "--ready-fd", str(ready_fd)]
        process = subprocess.Popen(  # noqa: S603 - our own program
            [*self._settings.worker_command, *arguments, *descriptors],
            cwd=self._fleet.home,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=(listen_fd, ready_fd),
            start_new_session=True,
            umask=0o077,
        )
        process.returncode = 0  # so that Popen neither reaps it nor warns that it is still running
        return ForkedProcess(process.pid)

    def _write(self, record: WorkerRecord) -> None:
        try:
            self.records.write(record)
        except OSError as error:
            # Not fatal: a new supervisor finds the worker by its control socket.
            reason = str(error)
            self._journal("record.failed", level="error", label=record.spec.label, reason=reason)

    # Readiness.

    def _read_pipe(self, slot: WorkerSlot, record: WorkerRecord, handles: _Handles) -> None:
        """Read the messages on the readiness pipe: ready or failed, and later draining."""
        try:
            data = os.read(handles.ready_fd, 65536)
        except BlockingIOError:
            return
        *lines, handles.received = (handles.received + data).split(b"\n")
        if not data:
            self._close_pipe(handles)
            lines.append(handles.received)
        for line in filter(None, lines):
            if slot.record is record:
                self._take_message(slot, record, line)
        self._wake()

    def _take_message(self, slot: WorkerSlot, record: WorkerRecord, line: bytes) -> None:
        label, pid = slot.spec.label, record.identity.pid
        try:
            message = decode(Readiness, line)
        except MessageError:
            return
        if message.ready:
            slot.became_ready(self.now())
            self._journal("worker.ready", label=label, index=slot.index, pid=pid)
        elif message.error:
            slot.explained(message.error)
            self._journal(
                "worker.failed", level="error", label=label, pid=pid, reason=message.error
            )
        elif message.draining and slot.goal is Goal.RUNNING:
            slot.began_drain()
            self._journal("worker.left", level="warning", label=label, pid=pid)

    @staticmethod
    def _close_pipe(handles: _Handles) -> None:
        if handles.ready_fd >= 0:
            asyncio.get_running_loop().remove_reader(handles.ready_fd)
            os.close(handles.ready_fd)
            handles.ready_fd = -1

    # Process exit.

    async def _drain(self, slot: WorkerSlot) -> None:
        record = slot.record
        if record is None:
            return
        request = DrainRequest(seconds=slot.drain_seconds)
        self._journal("worker.draining", label=slot.spec.label, pid=record.identity.pid)
        if slot.is_serving:
            with contextlib.suppress(NoAnswer, TimeoutError):
                async with asyncio.timeout(DRAIN_ANSWER):
                    await ask_worker_async(record.control, request, Done)
                    return
        record.identity.signal(signal.SIGTERM)

    def _abort(self, slot: WorkerSlot) -> None:
        slot.end_requested(StopSignal.ABORT, self.now() + ABORT_GRACE)
        if slot.record is None:
            return
        event = "worker.hung" if slot.is_serving else "worker.late"
        self._journal(event, level="error", label=slot.spec.label, misses=slot.misses)
        slot.record.identity.signal(signal.SIGABRT)
        # A suspended process writes its stack only once it continues.
        slot.record.identity.signal(signal.SIGCONT)

    def _kill(self, slot: WorkerSlot) -> None:
        slot.end_requested(StopSignal.KILL, math.inf)
        if slot.record is None:
            return
        pid = slot.record.identity.pid
        self._journal("worker.killed", level="warning", label=slot.spec.label, pid=pid)
        if not slot.record.identity.signal_group(signal.SIGKILL):
            slot.record.identity.signal(signal.SIGKILL)

    def _exited(self, slot: WorkerSlot, record: WorkerRecord) -> None:
        handles = self._handles.pop(record.nonce)
        if handles.ready_fd >= 0:
            self._read_pipe(slot, record, handles)
        self._close_pipe(handles)
        record.identity.kill_orphans()
        code = None
        if handles.child is not None:
            code = handles.child.wait()
            self._reap_orphans(handles.child)
        if slot.record is record:
            slot.exited(code, output=last_lines(handles.output))
        level = "info" if slot.goal is Goal.STOPPED else "error"
        pid = record.identity.pid
        self._journal("worker.exited", level=level, label=slot.spec.label, pid=pid, code=code)
        self._wake()

    def _reap_orphans(self, worker: ForkedProcess) -> None:
        if not worker.reap_orphans():
            asyncio.get_running_loop().call_later(REAP_POLL, self._reap_orphans, worker)

    def _reap(self, slot: WorkerSlot) -> None:
        record = slot.record
        if record is None:
            return
        with contextlib.suppress(OSError):
            Path(record.control).unlink(missing_ok=True)
        self.records.remove(record)
        slot.reap(self.now(), jitter=self._settings.jitter())

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def describe_start_error(error: OSError) -> str:
    """Return why one of our Python processes could not be started, and the fix if known."""
    if isinstance(error, FileNotFoundError) and not Path(sys.executable).exists():
        return (
            f"{sys.executable} is missing: the Python environment that ccproxy was started from "
            "has been deleted or moved. Fix: install ccproxy again, then: ccproxy reload"
        )
    file = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{file}"
