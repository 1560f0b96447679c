"""
Notifies systemd that the fleet has started and that the supervisor is alive.

sd_notify(3) is one datagram to the socket in $NOTIFY_SOCKET. Without that variable nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class ServiceNotifier:
    """Sends notifications to the service manager named in *environ*."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        is_ours = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        timeout = environ.get("WATCHDOG_USEC", "") if is_ours else ""
        self.period = int(timeout) / 2_000_000 if timeout.isdigit() and int(timeout) else None
        """Seconds between two keep-alives, half the watchdog's timeout; None without a watchdog."""
        self._unsent = ""

    def ready(self, status: str) -> None:
        """Report that startup has finished; `systemctl status` shows *status*."""
        message = f"READY=1\nSTATUS={status}"
        self._unsent = "" if self._send(message) else message

    async def keep_alive(self) -> None:
        """Send keep-alives from the event loop, so that they stop when it hangs."""
        while self.period is not None:
            if self._send(self._unsent or "WATCHDOG=1"):
                self._unsent = ""
            await asyncio.sleep(self.period)

    def _send(self, message: str) -> bool:
        """Send *message* without waiting; return False while the manager's queue is full."""
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.connect(self._address)
                try:
                    sender.sendall(message.encode())
                except BlockingIOError:
                    return False
        return True
