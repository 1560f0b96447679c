"""The fleet in the foreground: the same supervisor, in this very process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError
from ccproxy.supervisor.control.client import let_recover
from ccproxy.supervisor.control.operations import Command, Outcome
from ccproxy.supervisor.fleet.host import Settings
from ccproxy.supervisor.main_loop import Supervisor
from ccproxy.supervisor.notify import Notifier
from ccproxy.supervisor.state.lock import Lock


def run_foreground(
    fleet: Fleet,
    *,
    labels: Sequence[str] = (),
    patience: float = 15.0,
    on_started: Callable[[Outcome], None] | None = None,
    settings: Settings | None = None,
) -> bool:
    """
    Run *fleet* until it is told to end by SIGINT or SIGTERM (a second one hurries).

    *on_started* is told what came of the start, and so is a service manager. Returns whether
    every entry came up.

    Raises:
        Busy: If the fleet has a supervisor already.
        ConfigError: If the user's files are wrong; nothing was started.

    """
    let_recover(fleet)
    with Lock(fleet, command="ccproxy up") as lock:
        order = Command(op="start", labels=tuple(map(str.lower, labels)), timeout=patience)
        return asyncio.run(
            _run(Supervisor(fleet, lock=lock, settings=settings, in_front=True), order, on_started)
        )


async def _run(
    resident: Supervisor, order: Command, on_started: Callable[[Outcome], None] | None
) -> bool:
    starting: list[asyncio.Task[bool]] = []
    notifier = Notifier(os.environ)
    sign_of_life = asyncio.create_task(notifier.keep_alive())

    async def start() -> bool:
        try:
            outcome = await resident.order(order)
        except CcproxyError:
            resident.end(drain=0.0)  # no half a fleet is left behind
            raise
        if on_started is not None:
            on_started(outcome)
        up = sum(row.state in ("ready", "degraded") for row in outcome.rows)
        notifier.ready(f"{up} of {len(outcome.rows)} running")
        return outcome.ok

    await resident.run(lambda: starting.append(asyncio.create_task(start())))
    sign_of_life.cancel()
    return await starting[0]
