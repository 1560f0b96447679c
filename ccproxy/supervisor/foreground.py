"""Runs the supervisor in the foreground, inside the process of `ccproxy up`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError
from ccproxy.supervisor.control.client import wait_for_recovery
from ccproxy.supervisor.control.protocol import ControlCommand, ControlReply
from ccproxy.supervisor.fleet.host import Settings
from ccproxy.supervisor.main_loop import Supervisor
from ccproxy.supervisor.service_notify import ServiceNotifier
from ccproxy.supervisor.state.lock import Lock


def run_foreground(
    fleet: Fleet,
    *,
    labels: Sequence[str] = (),
    timeout: float = 15.0,
    on_started: Callable[[ControlReply], None] | None = None,
    settings: Settings | None = None,
) -> bool:
    """
    Run *fleet* until SIGINT or SIGTERM; a second signal cuts off running requests.

    *on_started* receives the result of the start, which is also reported to the service manager.
    Returns whether every entry was started.

    Raises:
        Busy: If the fleet already has a supervisor.
        ConfigError: If the user's files have mistakes; nothing is started.
        OSError: If the system refuses the start, for example because the disk is read-only.
    """
    wait_for_recovery(fleet)
    with Lock(fleet, command="ccproxy up") as lock:
        command = ControlCommand(op="start", labels=tuple(map(str.lower, labels)), timeout=timeout)
        supervisor = Supervisor(fleet, lock=lock, settings=settings, is_foreground=True)
        return asyncio.run(_run(supervisor, command, on_started))


async def _run(
    supervisor: Supervisor,
    command: ControlCommand,
    on_started: Callable[[ControlReply], None] | None,
) -> bool:
    start_tasks: list[asyncio.Task[bool]] = []
    notifier = ServiceNotifier(os.environ)
    keep_alive = asyncio.create_task(notifier.keep_alive())

    async def start() -> bool:
        try:
            reply = await supervisor.execute(command)
        except (CcproxyError, OSError):
            supervisor.end(drain=0.0)  # do not leave a part of the fleet running
            raise
        if on_started is not None:
            on_started(reply)
        up = sum(row.state in ("ready", "degraded") for row in reply.proxies)
        notifier.ready(f"{up} of {len(reply.proxies)} running")
        return reply.ok

    await supervisor.run(lambda: start_tasks.append(asyncio.create_task(start())))
    keep_alive.cancel()
    return await start_tasks[0]
