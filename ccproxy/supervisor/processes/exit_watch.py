"""
Detects when a process exits.

Uses a pidfd, which works for children and adopted processes alike. Without pidfds it checks twice a
second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from ccproxy.supervisor.processes.identity import Identity

POLL = 0.5
"""Seconds between two checks on systems without pidfds."""


class ExitWatch:
    """Calls *on_exit* once, when the process exits."""

    def __init__(self, identity: Identity, on_exit: Callable[[], None]) -> None:
        self._identity = identity
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._pidfd = -1
        with contextlib.suppress(OSError, AttributeError):
            self._pidfd = os.pidfd_open(identity.pid)
        if self._pidfd >= 0:
            self._loop.add_reader(self._pidfd, self._finish)
        else:
            self._poll()

    def close(self) -> None:
        """Stop watching."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._timer is not None:
            self._timer.cancel()

    def _poll(self) -> None:
        if self._identity.is_alive():
            self._timer = self._loop.call_later(POLL, self._poll)
        else:
            self._loop.call_soon(self._finish)

    def _finish(self) -> None:
        self.close()
        self._on_exit()
