"""
The main loop of the supervisor; the fleet's lock limits each fleet to one supervisor.

Killing it does not interrupt requests: workers hold duplicates of their listening sockets and keep
running. The next supervisor finds them by their records and takes them over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ccproxy import __version__
from ccproxy.build import installed_build
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.ipc.control_messages import DRAIN_SECONDS
from ccproxy.ipc.socket_paths import runtime_path, socket_path
from ccproxy.supervisor.config_check import ConfigCheck
from ccproxy.supervisor.control.operations import Operations
from ccproxy.supervisor.control.protocol import (
    ControlCommand,
    ControlReply,
    SupervisorInfo,
    decode_command,
    encode_message,
    refusal,
)
from ccproxy.supervisor.fleet.adoption import adopt_all
from ccproxy.supervisor.fleet.converge import Loop
from ccproxy.supervisor.fleet.health_probe import HealthProbe
from ccproxy.supervisor.fleet.host import LocalHost, Settings
from ccproxy.supervisor.fleet.plan import Goal
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.journal import FileJournal
from ccproxy.supervisor.processes.child_environment import NetworkEnvironment
from ccproxy.supervisor.processes.descriptors import raise_soft_limit
from ccproxy.supervisor.processes.identity import age_of, identify
from ccproxy.supervisor.retention import Retention
from ccproxy.supervisor.sockets.unix_server import Send, UnixServer
from ccproxy.supervisor.state.file_guard import FileGuard
from ccproxy.supervisor.state.lock import Lock
from ccproxy.supervisor.state.records import WorkerRecord

_BUILD = installed_build()
"""The build of this process, computed at import: an upgrade may replace the files later."""

REFRESH_LIMIT = 0.4
"""Seconds that `status` waits for the workers' states."""

PROGRESS_PERIOD = 1.0
"""Seconds between two progress lines."""


class Supervisor:
    """The supervisor of one fleet. The caller holds the fleet's *lock*."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        lock: Lock | None = None,
        settings: Settings | None = None,
        check: ConfigCheck | None = None,
        is_foreground: bool = False,
    ) -> None:
        settings = settings or Settings()
        for folder in (fleet.logs, fleet.pids, fleet.state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fleet = fleet
        self._is_foreground = is_foreground
        self._journal = FileJournal(fleet.logs)
        self._slots: list[WorkerSlot] = []
        network = NetworkEnvironment(is_foreground=is_foreground)
        self._host = LocalHost(
            fleet,
            journal=self._journal,
            wake=self._wake,
            settings=settings,
            environment=network.environment,
        )
        self._loop = Loop(self._slots, self._host)
        self._probe = HealthProbe(
            self._slots,
            on_change=self._wake,
            period=settings.probe_period,
            limit=settings.probe_limit,
        )
        self._operations = Operations(
            fleet,
            self._slots,
            loop=self._loop,
            check=check or ConfigCheck(fleet.file, environment=network.environment),
            refresh=lambda: self._probe.refresh(REFRESH_LIMIT),
            network=network,
        )
        paths = dict.fromkeys(
            (socket_path(fleet.home), runtime_path(fleet.home, "supervisor.sock"))
        )
        self._server = UnixServer(*paths, handler=self.handle)
        self._guard = FileGuard(
            fleet,
            self._server,
            lock=lock,
            journal=self._journal,
            on_superseded=self._step_down,
            restore_more=self._restore_files,
        )
        self._host.may_spawn = self._guard.holds
        self._host.control_path = self._control_path
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Future[Any]] = set()

    async def run(self, on_ready: Callable[[], None] | None = None) -> None:
        """Adopt running workers, call *on_ready*, and serve until asked to exit."""
        raise_soft_limit()
        self._journal("supervisor.started", pid=os.getpid(), version=__version__)
        try:
            await adopt_all(self._fleet, self._slots, self._host, self._journal)
            self._listen()
            self._guard.write_record()
            self._handle_signals()
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(self._loop.run()),
                    group.create_task(self._probe.run()),
                    group.create_task(self._guard.run()),
                    group.create_task(Retention(self._fleet, self._journal).run()),
                ]
                if on_ready is not None:
                    on_ready()
                await self._ended.wait()
                for task in background:
                    task.cancel()
        finally:
            await self._close()

    def end(self, *, drain: float = DRAIN_SECONDS) -> None:
        """Stop every worker, then exit; a second call cuts off running requests."""
        seconds = 0.0 if self._operations.is_ending else drain
        self._operations.is_ending = True
        self._begin(self._stop_all(seconds))

    async def execute(self, command: ControlCommand) -> ControlReply:
        """Execute one command, or raise CcproxyError."""
        self._check_table(command)
        match command.op:
            case "start":
                return await self._operations.start(command)
            case "stop" if command.labels:
                return await self._operations.stop(command)
            case "stop":
                return await self._stop_all(command.drain)
            case "restart":
                return await self._restart(command)
            case "reload":
                return await self._operations.reload(command)
            case "plan":
                return await self._operations.plan(command)
            case "status":
                return await self._operations.status()
            case "leave":
                return self._leave()
            case "records":
                records = tuple(record.to_json() for record in self._records())
                return ControlReply(ok=True, records=records)
            case _:
                return ControlReply(ok=not self._operations.is_ending)

    async def handle(self, line: bytes, send: Send = lambda _: None) -> bytes:
        """Execute the command in one line from the control socket; return the reply line."""
        op = ""
        try:
            command = decode_command(line)
            op = command.op
            async with self._reporting_progress(command, send):
                reply = await self.execute(command)
        except CcproxyError as error:
            reply = refusal(error)
        except OSError as error:
            reply = refusal(CcproxyError(f"the system refused: {error}"))
        if not reply.ok and not self._slots and op in ("start", "reload", "restart"):
            # Nothing is running and nothing could be started, so no supervisor is needed.
            self.end()
        is_ending = self._operations.is_ending
        return encode_message(replace(reply, supervisor=self._info(), ending=is_ending))

    def _check_table(self, command: ControlCommand) -> None:
        """Reject a command for another table in this folder; both share records and logs."""
        ours = self._fleet.file
        if not command.config or command.config == str(ours) or command.op in ("ping", "leave"):
            return
        with contextlib.suppress(OSError):
            if Path(command.config).samefile(ours):
                return
        raise UsageError(
            f"the fleet in {ours.parent} runs with {ours.name}, not {Path(command.config).name}\n"
            f"  fix: ccproxy -c {ours.name} stop, or move the second table to its own folder"
        )

    def _listen(self) -> None:
        try:
            self._server.start()
        except OSError as error:
            raise CcproxyError(
                f"no control socket can be created: {error}\n"
                f"  fix: make {self._server.path.parent} writable by you alone, or set "
                "XDG_RUNTIME_DIR to a folder on a local disk"
            ) from error

    def _control_path(self, name: str) -> Path:
        """Return the path of a worker's control socket, next to the supervisor's."""
        path = socket_path(self._fleet.home, name)
        is_elsewhere = self._server.path.parent != socket_path(self._fleet.home).parent
        return runtime_path(self._fleet.home, f"{name}.sock") if is_elsewhere else path

    async def _restart(self, command: ControlCommand) -> ControlReply:
        reply = await self._operations.restart(command)
        if reply.ok and not command.labels:
            self._guard.removed = ""  # every worker uses the new state folder
        return reply

    async def _stop_all(self, drain: float) -> ControlReply:
        self._operations.is_ending = True
        reply = await self._operations.stop(ControlCommand(op="stop", drain=drain))
        if not any(slot.goal is Goal.RUNNING for slot in self._slots):
            self._operations.forget_stopped()
            # Deferred so that the reply is sent first.
            asyncio.get_running_loop().call_soon(self._ended.set)
        return reply

    def _leave(self) -> ControlReply:
        """
        Exit, and leave the workers to a supervisor of another version.

        Raises:
            UsageError: In the foreground, where a program waits for this process to exit.

        """
        if self._is_foreground:
            raise UsageError("the supervisor runs in the foreground\n  fix: restart it there")
        self._operations.is_ending = True
        asyncio.get_running_loop().call_soon(self._ended.set)
        return ControlReply(ok=True)

    def _step_down(self) -> None:
        """Exit because another supervisor has taken over the fleet and its workers."""
        self._operations.is_ending = True
        self._ended.set()

    @asynccontextmanager
    async def _reporting_progress(self, command: ControlCommand, send: Send) -> AsyncIterator[None]:
        if not command.progress:
            yield
            return

        async def report() -> None:
            while True:
                await asyncio.sleep(PROGRESS_PERIOD)
                if progress := await self._operations.progress():
                    send(encode_message(progress))

        task = asyncio.ensure_future(report())
        try:
            yield
        finally:
            task.cancel()

    def _records(self) -> list[WorkerRecord]:
        """Return the records of running workers from memory; some may be missing on a full disk."""
        slots = (slot for slot in self._slots if slot.goal is Goal.RUNNING)
        return [slot.record for slot in slots if slot.record is not None]

    def _restore_files(self) -> None:
        for record in self._records():
            self._host.records.restore(record)
        self._operations.restore_files()

    def _wake(self) -> None:
        self._loop.wake()

    def _info(self) -> SupervisorInfo:
        me = identify(os.getpid())
        return SupervisorInfo(
            pid=os.getpid(),
            uptime_s=round(age_of(me), 1) if me else 0.0,
            version=__version__,
            build=_BUILD,
            in_front=self._is_foreground,
            trouble="; ".join(filter(None, (self._journal.trouble, self._guard.removed))) or None,
            config=str(self._fleet.file),
            python=sys.executable,
        )

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        command = ControlCommand(op="reload", command="kill -HUP")
        self._begin(self.handle(encode_message(command)))

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self) -> None:
        await self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        await self._probe.close()
        await self._host.close()
        self._guard.remove_record()
        self._journal("supervisor.ended", pid=os.getpid())
        self._journal.close()
