"""
What the supervisor tells systemd: that the fleet is up, and that it lives.

sd_notify(3) is one datagram to the socket in $NOTIFY_SOCKET. Without it nothing is told.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Notifier:
    """Tells the service manager; made from the environment, once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        meant_for = environ.get("WATCHDOG_PID", "")
        watched = meant_for in ("", str(os.getpid()))
        text = environ.get("WATCHDOG_USEC", "") if watched else ""
        self.period = int(text) / 2_000_000 if text.isdigit() and int(text) else None
        """Seconds between two signs of life: half of what is allowed; None if nobody waits."""

    def ready(self, status: str) -> None:
        """Tell that the start has ended; *status* is shown by `systemctl status`."""
        self._tell(f"READY=1\nSTATUS={status}")

    async def keep_alive(self) -> None:
        """Give signs of life from the event loop, so that they end when it hangs."""
        while self.period is not None:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.period)

    def _tell(self, message: str) -> None:
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.connect(self._address)
                sender.sendall(message.encode())
