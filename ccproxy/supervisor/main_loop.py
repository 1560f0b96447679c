"""
The life of the supervisor: one per fleet, from the lock to the last goodbye.

Killing it harms no request: the workers own copies of their listening sockets and go on. Its
successor finds them by their records and takes them over.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

from ccproxy import __version__
from ccproxy.build import installed_build
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, ConfigError, UsageError
from ccproxy.supervisor.config_check import ChildConfigCheck, ConfigCheck
from ccproxy.supervisor.control.config_mistakes import mistakes_to_json
from ccproxy.supervisor.control.operations import Command, Operations, Outcome
from ccproxy.supervisor.fleet.adoption import adopt_all
from ccproxy.supervisor.fleet.converge import Loop
from ccproxy.supervisor.fleet.health_probe import Prober
from ccproxy.supervisor.fleet.host import LocalHost, Settings
from ccproxy.supervisor.fleet.plan import Goal
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.journal import FileJournal
from ccproxy.supervisor.processes.identity import age_of, identify
from ccproxy.supervisor.retention import Retention
from ccproxy.supervisor.sockets.unix_server import Server
from ccproxy.supervisor.sockets.unix_socket import socket_path
from ccproxy.supervisor.state.file_guard import FileGuard
from ccproxy.supervisor.state.lock import Lock
from ccproxy.supervisor.state.records import WorkerRecord

_BUILD = installed_build()
"""Of this process: read as it starts, before somebody changes the files."""

FRESH = 0.4
"""Seconds that `status` waits for workers to tell how they are."""


class Supervisor:
    """The supervisor of one fleet. The caller holds the fleet's *lock*, and hands it over."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        lock: Lock | None = None,
        settings: Settings | None = None,
        examine: ConfigCheck | None = None,
        echo: Callable[[str], None] | None = None,
        in_front: bool = False,
    ) -> None:
        settings = settings or Settings()
        for folder in (fleet.logs, fleet.pids, fleet.state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fleet = fleet
        self._in_front = in_front
        self._journal = FileJournal(fleet.logs, echo=echo)
        self._units: list[WorkerSlot] = []
        self._host = LocalHost(fleet, journal=self._journal, wake=self._wake, settings=settings)
        self._loop = Loop(self._units, self._host)
        self._prober = Prober(
            self._units,
            changed=self._wake,
            period=settings.probe_period,
            limit=settings.probe_limit,
        )
        self._orders = Operations(
            fleet,
            self._units,
            loop=self._loop,
            examine=examine or ChildConfigCheck(fleet.file, environment=settings.environment()),
            refresh=lambda: self._prober.refresh(FRESH),
        )
        self._server = Server(socket_path(fleet.home), self.answer)
        self._foothold = FileGuard(
            fleet,
            self._server,
            lock=lock,
            journal=self._journal,
            lost=self._step_down,
            renew_workers=self._renew_workers,
        )
        self._host.may_spawn = self._foothold.holds
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Future[Any]] = set()

    async def run(self, ready: Callable[[], None] | None = None) -> None:
        """Adopt what runs, call *ready*, and serve until told to end."""
        self._journal("supervisor.started", pid=os.getpid(), version=__version__)
        try:
            await adopt_all(self._fleet, self._units, self._host, self._journal)
            await self._listen()
            self._foothold.write_record()
            self._take_signals()
            async with asyncio.TaskGroup() as group:
                always = [
                    group.create_task(self._loop.run()),
                    group.create_task(self._prober.run()),
                    group.create_task(self._foothold.run()),
                    group.create_task(Retention(self._fleet, self._journal).run()),
                ]
                if ready is not None:
                    ready()
                await self._ended.wait()
                for task in always:
                    task.cancel()
        finally:
            await self._close()

    def end(self, *, drain: float = 30.0) -> None:
        """Stop every worker, then end; a second call hurries."""
        hurried = 0.0 if self._orders.ending else drain
        self._orders.ending = True
        self._begin(self._stop_all(hurried))

    async def order(self, order: Command) -> Outcome:
        """
        Carry out one order.

        Raises:
            CcproxyError: If it cannot be.

        """
        match order.op:
            case "start":
                return await self._orders.start(order)
            case "stop" if order.labels:
                return await self._orders.stop(order)
            case "stop":
                return await self._stop_all(order.drain)
            case "restart":
                return await self._orders.restart(order)
            case "reload":
                return await self._orders.reload(order)
            case "plan":
                return await self._orders.plan(order)
            case "status":
                return await self._orders.status()
            case "leave":
                return self._leave()
            case "ping":
                return Outcome(ok=not self._orders.ending, rows=[])
            case _:
                raise UsageError(f'the supervisor does not know "{order.op}"')

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one request of the control socket."""
        order = _read_order(request)
        if order.op == "records":
            return {"ok": True, "records": [record.to_json() for record in self._records()]}
        try:
            outcome = await self.order(order)
        except ConfigError as error:
            answer = _refusal(error) | {"mistakes": mistakes_to_json(error.mistakes)}
        except CcproxyError as error:
            answer = _refusal(error)
        except OSError as error:
            answer = _refusal(CcproxyError(f"the system refused: {error}"))
        else:
            answer = {
                "ok": outcome.ok,
                "proxies": [row.as_json() for row in outcome.rows],
                "plan": [{"label": label, "change": sign} for label, sign in outcome.plan],
                "error": outcome.error or None,
            }
        if not answer["ok"] and not self._units and order.op in ("start", "reload", "restart"):
            # Nothing runs and nothing could be started: there is nobody to watch over.
            self.end()
        return answer | {"supervisor": self._about(), "ending": self._orders.ending}

    async def _listen(self) -> None:
        try:
            await self._server.start()
        except OSError as error:
            raise CcproxyError(f"no control socket can be made: {error}") from error

    async def _stop_all(self, drain: float) -> Outcome:
        self._orders.ending = True
        outcome = await self._orders.stop(Command(op="stop", drain=drain))
        if not any(unit.goal is Goal.RUNNING for unit in self._units):
            self._orders.forget()
            # Not before the answer is on its way.
            asyncio.get_running_loop().call_soon(self._ended.set)
        return outcome

    def _leave(self) -> Outcome:
        """
        End, and leave the workers to a successor of another version.

        Raises:
            UsageError: If this process is in front: somebody waits for its end.

        """
        if self._in_front:
            raise UsageError("the supervisor runs in the foreground\n  fix: restart it there")
        self._orders.ending = True
        asyncio.get_running_loop().call_soon(self._ended.set)
        return Outcome(ok=True, rows=[])

    def _step_down(self) -> None:
        """End where another supervisor has taken over: the workers are its own."""
        self._orders.ending = True
        self._ended.set()

    def _records(self) -> list[WorkerRecord]:
        """Return what is known of the workers that are to run, whether the disk took it or not."""
        units = [unit for unit in self._units if unit.goal is Goal.RUNNING]
        return [unit.record for unit in units if unit.record is not None]

    def _renew_workers(self) -> None:
        for record in self._records():
            self._host.records.renew(record)

    def _wake(self) -> None:
        self._loop.wake()

    def _about(self) -> dict[str, Any]:
        me = identify(os.getpid())
        uptime = age_of(me) if me else 0.0
        return {
            "pid": os.getpid(),
            "uptime_s": round(uptime, 1),
            "version": __version__,
            "build": _BUILD,
            "in_front": self._in_front,
            "trouble": self._journal.trouble,
        }

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        self._begin(self.answer({"op": "reload", "command": "kill -HUP"}))

    def _begin(self, work: Any) -> None:  # noqa: ANN401 - any coroutine
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self) -> None:
        await self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        await self._prober.close()
        await self._host.close()
        self._foothold.remove_record()
        self._journal("supervisor.ended", pid=os.getpid())
        self._journal.close()


def _read_order(request: dict[str, Any]) -> Command:
    return Command(
        op=str(request.get("op", "")),
        labels=tuple(str(label).lower() for label in request.get("labels") or ()),
        timeout=float(15.0 if request.get("timeout") is None else request["timeout"]),
        drain=float(30.0 if request.get("drain") is None else request["drain"]),
        cwd=request.get("cwd"),
        command=str(request.get("command") or ""),
    )


def _refusal(error: CcproxyError) -> dict[str, Any]:
    return {"ok": False, "proxies": [], "kind": type(error).__name__, "error": str(error)}
