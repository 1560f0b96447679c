"""
The acting: starting, draining, signals. The only place that touches the machine for the loop.

A worker gets its listening socket, one end of a pipe to say that it is ready (or why it is not),
and the path of its control socket; its environment holds nothing of the shell's but what every
program needs, so no key reaches it or /proc but from its own env file. It is forked where many are
started at once, else spawned, and is our child either way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
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
from ccproxy.supervisor.fleet.crash_responder import CrashResponder
from ccproxy.supervisor.fleet.health_probe import LIMIT, PERIOD
from ccproxy.supervisor.fleet.plan import Action, Goal, Port, Sent
from ccproxy.supervisor.fleet.worker_slot import ABORT_GRACE, DRAIN_GRACE, WorkerSlot
from ccproxy.supervisor.journal import Journal
from ccproxy.supervisor.processes.child_environment import clean_environment
from ccproxy.supervisor.processes.exit_watch import ExitWatch
from ccproxy.supervisor.processes.fork_client import Forked, ForkServer, Limits
from ccproxy.supervisor.processes.identity import identify
from ccproxy.supervisor.processes.output import Output, crash_path, last_lines, open_out, output_of
from ccproxy.supervisor.sockets.listeners import Listeners
from ccproxy.supervisor.sockets.unix_server import ask_soon
from ccproxy.supervisor.sockets.unix_socket import NoAnswer, prepare_folder, socket_path
from ccproxy.supervisor.state.records import RecordFolder, WorkerRecord

# -P: a fleet's home is any folder, and no file that lies in it may pass for a module.
# faulthandler from the first moment on: a worker that hangs while it loads shows where.
WORKER_COMMAND = (sys.executable, "-P", "-X", "faulthandler", "-m", "ccproxy.worker")
FORK_SERVER_COMMAND = (*WORKER_COMMAND, "--fork-server")

DRAIN_ANSWER = 1.0
"""Seconds that a worker may take to confirm a drain; then SIGTERM says it."""


@dataclass(slots=True)
class _Process:
    """What is held open for a living worker."""

    watch: ExitWatch
    port: int
    child: Forked | subprocess.Popen[bytes] | None = None
    ready_fd: int = -1
    said: bytes = b""
    output: Output = ()
    """The files that it writes to, each with its size at the start."""


@dataclass(slots=True, kw_only=True)
class Settings:
    """What tests, and `up` without a table, want otherwise."""

    worker_command: Sequence[str] = WORKER_COMMAND
    fork_server: Sequence[str] = FORK_SERVER_COMMAND
    """What forks workers of the command; empty: each is spawned."""
    fork_limits: Limits = field(default_factory=Limits)
    environment: Callable[[], dict[str, str]] = clean_environment
    clock: Callable[[], float] = time.monotonic
    probe_period: float = PERIOD
    probe_limit: float = LIMIT
    jitter: Callable[[], float] = field(
        default=lambda: random.uniform(-1.0, 1.0)  # noqa: S311 - spreads restarts, no secret
    )


class LocalHost:
    """The machine that we run on."""

    def __init__(
        self, fleet: Fleet, *, journal: Journal, wake: Callable[[], None], settings: Settings
    ) -> None:
        self.listeners = Listeners(clock=settings.clock)
        self._absences = CrashResponder(self.listeners, settings.clock)
        self.records = RecordFolder(fleet.pids)
        self.may_spawn: Callable[[], bool] = lambda: True
        """Asked before every spawn: whether the fleet is still this supervisor's."""
        self._fleet = fleet
        self._journal = journal
        self._wake = wake
        self._settings = settings
        self._forks = ForkServer(
            settings.fork_server,
            home=fleet.home,
            environment=settings.environment(),
            journal=journal,
            limits=settings.fork_limits,
        )
        self._processes: dict[str, _Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # Looking...

    def now(self) -> float:
        """Return the seconds of a clock that only goes forward."""
        return self._settings.clock()

    def port(self, unit: WorkerSlot) -> Port:
        """Look who has the unit's port."""
        if self.listeners.has(unit.spec.address):
            return Port.OURS
        trouble = self.listeners.trouble(unit.spec.address)
        if trouble is None or trouble.again <= self.now():
            return Port.FREE
        return trouble.port

    def next_wake(self, now: float) -> float:
        """Return the next moment at which a port is worth another try."""
        return self.listeners.next_try(now)

    # ...and acting.

    def perform(self, action: Action, unit: WorkerSlot) -> None:
        """Do it, and tell the unit what happened."""
        match action:
            case Action.BIND:
                self._bind(unit)
            case Action.SPAWN:
                self._spawn(unit)
            case Action.DRAIN:
                unit.sent(Sent.DRAIN, self.now() + unit.drain + DRAIN_GRACE)
                self._begin(self._drain(unit))
            case Action.ABORT:
                self._abort(unit)
            case Action.KILL:
                self._kill(unit)
            case Action.BURY:
                self._bury(unit)

    def tend_ports(self, units: list[WorkerSlot]) -> None:
        """Have clients of ports that nobody serves, or will soon, refused or told: not hang."""
        self._absences.update(units)
        wanted = {
            unit.spec.address
            for unit in units
            if unit.goal is Goal.RUNNING and not (unit.refused and unit.record is None)
        }
        for host, port in self.listeners.keep_only(wanted):
            self._journal("listener.closed", host=host, port=port)

    def expect(self) -> None:
        """Get ready to start workers, because some are likely to be wanted soon."""
        self._forks.begin()

    async def ready(self) -> None:
        """Wait until workers can be started quickly, if that was expected."""
        await self._forks.loaded()

    def adopt(self, unit: WorkerSlot, record: WorkerRecord) -> None:
        """Watch a worker that somebody else started."""
        self._watch(unit, record)

    def send(self, record: WorkerRecord, number: int) -> None:
        """Signal one process, by itself and not by its number."""
        record.identity.signal(number)

    async def close(self) -> None:
        """Let go of everything; whatever lives goes on living."""
        self._forks.end()
        await self._absences.close()
        self.listeners.keep_only(())
        for process in self._processes.values():
            process.watch.close()
            self._close_pipe(process)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # The port...

    def _bind(self, unit: WorkerSlot) -> None:
        host, port = unit.spec.address
        before = self.listeners.trouble(unit.spec.address)
        leaving = any(process.port == port for process in self._processes.values())
        trouble = self.listeners.bind(unit.spec.address, leaving=leaving)
        if trouble is None:
            self._journal("listener.bound", label=unit.spec.label, host=host, port=port)
            unit.words = "" if before else unit.words
            return
        if trouble.port is Port.HELD:
            return
        unit.words = trouble.reason
        if before is None or before.reason != trouble.reason:
            event = "listener.taken" if trouble.port is Port.FOREIGN else "listener.refused"
            self._journal(event, level="error", label=unit.spec.label, reason=trouble.reason)

    # ...the process...

    def _spawn(self, unit: WorkerSlot) -> None:
        if not self.may_spawn():
            words = "another supervisor has taken over"
            unit.could_not_spawn(self.now(), jitter=self._settings.jitter(), words=words)
            return
        nonce = secrets.token_hex(16)
        control = socket_path(self._fleet.home, f"{unit.spec.label}.{unit.index}.{nonce[:8]}")
        ready, told = os.pipe()
        os.set_blocking(ready, False)
        output = output_of(self._fleet.logs, unit.spec.label, unit.index)
        try:
            child = self._start(unit, nonce, control, told)
            identity = identify(child.pid)
        except OSError as error:
            os.close(ready)
            words = f"cannot start a process: {error.strerror or error}"
            self._journal("worker.refused", level="error", label=unit.spec.label, reason=words)
            unit.could_not_spawn(self.now(), jitter=self._settings.jitter(), words=words)
            return
        finally:
            os.close(told)
        if identity is None:  # already over; its exit code is all there is to know
            os.close(ready)
            unit.could_not_spawn(
                self.now(), jitter=self._settings.jitter(), words=f"exited with {child.wait()}"
            )
            return
        record = WorkerRecord(
            identity=identity, nonce=nonce, control=str(control), index=unit.index, spec=unit.spec
        )
        unit.spawned(record, self.now())
        self._write(record)
        process = self._watch(unit, record)
        process.child, process.ready_fd, process.output = child, ready, output
        asyncio.get_running_loop().add_reader(ready, self._hear, unit, record, process)
        self._journal("worker.spawned", label=unit.spec.label, index=unit.index, pid=child.pid)

    def _start(
        self, unit: WorkerSlot, nonce: str, control: Path, told: int
    ) -> Forked | subprocess.Popen[bytes]:
        spec = unit.spec
        listen = self.listeners.fileno(spec.address)
        prepare_folder(control)
        options = {
            "--home": self._fleet.home,
            "--table": self._fleet.file,
            "--label": spec.label,
            "--env-file": spec.env_file,
            "--port": spec.port,
            "--control": control,
            "--nonce": nonce,
            "--index": unit.index,
            "--workers": spec.workers,
        }
        arguments = [str(word) for option in options.items() for word in option]
        with open_out(crash_path(self._fleet.logs, spec.label, unit.index)) as out:
            forked = self._forks.fork(arguments, (listen, told, out.fileno()))
            return forked or self._spawn_process(arguments, listen, told, out)

    def _spawn_process(
        self, arguments: Sequence[str], listen: int, told: int, out: BinaryIO
    ) -> subprocess.Popen[bytes]:
        own = ["--listen-fd", str(listen), "--ready-fd", str(told)]
        return subprocess.Popen(  # noqa: S603 - our own program
            [*self._settings.worker_command, *arguments, *own],
            cwd=self._fleet.home,
            env=self._settings.environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=(listen, told),
            start_new_session=True,
            umask=0o077,
        )

    def _write(self, record: WorkerRecord) -> None:
        try:
            self.records.write(record)
        except OSError as error:
            # A full disk stops no request: the control socket tells a successor all it needs.
            reason = str(error)
            self._journal("record.lost", level="error", label=record.spec.label, reason=reason)

    # ...its readiness...

    def _hear(self, unit: WorkerSlot, record: WorkerRecord, process: _Process) -> None:
        """Take in what the worker writes to its readiness pipe."""
        try:
            data = os.read(process.ready_fd, 65536)
        except BlockingIOError:
            return
        process.said += data
        if data and not process.said.endswith(b"\n"):
            return
        self._close_pipe(process)
        if unit.record is not record:
            return
        message = _ready_message(process.said)
        label, pid = unit.spec.label, record.identity.pid
        if message.get("ready") is True:
            unit.became_ready(self.now())
            self._journal("worker.ready", label=label, index=unit.index, pid=pid)
        elif words := str(message.get("error") or ""):
            unit.said(words)
            self._journal("worker.failed", level="error", label=label, pid=pid, reason=words)
        self._wake()

    @staticmethod
    def _close_pipe(process: _Process) -> None:
        if process.ready_fd >= 0:
            asyncio.get_running_loop().remove_reader(process.ready_fd)
            os.close(process.ready_fd)
            process.ready_fd = -1

    # ...and its end.

    async def _drain(self, unit: WorkerSlot) -> None:
        record = unit.record
        if record is None:
            return
        request = {"op": "drain", "seconds": unit.drain}
        self._journal("worker.draining", label=unit.spec.label, pid=record.identity.pid)
        if unit.serves:
            with contextlib.suppress(NoAnswer, TimeoutError):
                async with asyncio.timeout(DRAIN_ANSWER):
                    await ask_soon(record.control, request)
                    return
        self.send(record, signal.SIGTERM)

    def _abort(self, unit: WorkerSlot) -> None:
        unit.sent(Sent.ABORT, self.now() + ABORT_GRACE)
        if unit.record is None:
            return
        event = "worker.hung" if unit.serves else "worker.late"
        self._journal(event, level="error", label=unit.spec.label, misses=unit.misses)
        self.send(unit.record, signal.SIGABRT)
        # A stopped process only writes its stack when it goes on.
        self.send(unit.record, signal.SIGCONT)

    def _kill(self, unit: WorkerSlot) -> None:
        unit.sent(Sent.KILL, math.inf)
        if unit.record is None:
            return
        pid = unit.record.identity.pid
        self._journal("worker.killed", level="warning", label=unit.spec.label, pid=pid)
        if not unit.record.identity.signal_group(signal.SIGKILL):
            self.send(unit.record, signal.SIGKILL)

    def _watch(self, unit: WorkerSlot, record: WorkerRecord) -> _Process:
        process = _Process(
            ExitWatch(record.identity, lambda: self._ended(unit, record)), record.spec.port
        )
        self._processes[record.nonce] = process
        return process

    def _ended(self, unit: WorkerSlot, record: WorkerRecord) -> None:
        process = self._processes.pop(record.nonce)
        if process.ready_fd >= 0:
            self._hear(unit, record, process)
        self._close_pipe(process)
        code = None
        if process.child is not None:
            # Not reaped yet, so the number still means this group: nothing of it stays behind.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.child.pid, signal.SIGKILL)
            code = process.child.wait()
        if unit.record is record:
            unit.ended(code, words=last_lines(process.output))
        level = "info" if unit.goal is Goal.STOPPED else "error"
        pid = record.identity.pid
        self._journal("worker.exited", level=level, label=unit.spec.label, pid=pid, code=code)
        self._wake()

    def _bury(self, unit: WorkerSlot) -> None:
        record = unit.record
        if record is None:
            return
        with contextlib.suppress(OSError):
            Path(record.control).unlink(missing_ok=True)
        self.records.remove(record)
        unit.bury(self.now(), jitter=self._settings.jitter())

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _ready_message(line: bytes) -> dict[str, object]:
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
