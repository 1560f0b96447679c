"""
From the listening socket to the last byte: accept, say so, drain, end.

Draining: the socket is left to whoever else holds it (the supervisor, the next worker), so that a
port that nobody else holds refuses from then on. What runs may finish, and every answer from then
on asks its client to connect anew. A connection without a request is closed a second later, so
that a client that is about to use it still can. When the time is up, what still runs is told to
end and says so to its client. A second drain may shorten the first, never lengthen it.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import suppress

from ccproxy.ipc.control_messages import DRAIN_SECONDS
from ccproxy.worker.server.app import answer
from ccproxy.worker.server.http import ClientServer
from ccproxy.worker.state import Worker

BACKLOG = 1024
IDLE_SECONDS = 1.0
"""How long a connection without a request stays open in a drain."""
LOOK_EVERY_SECONDS = 0.05
LAST_WORDS_SECONDS = 2.0
"""How long the last answers may take to reach their clients."""


class Service:
    """One worker at its socket."""

    def __init__(self, worker: Worker, listener: socket.socket) -> None:
        self.listener = listener
        self._worker = worker
        self._asked_to_drain: asyncio.Event = asyncio.Event()
        self._time_is_up: asyncio.Event = asyncio.Event()
        self._deadline: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Accept connections from now on."""
        loop = asyncio.get_running_loop()
        self._web = ClientServer(answer, self._worker)
        # The event loop gets a copy: closing its server must leave ours to be handed on.
        self._server = await loop.create_server(
            self._web, sock=self.listener.dup(), backlog=BACKLOG
        )

    def listen_to_signals(self, *, foreground: bool = False) -> None:
        """
        SIGTERM drains; a second one, or SIGINT, ends at once.

        In somebody's *foreground* Ctrl-C and a closed terminal are no different from SIGTERM.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_term)
        loop.add_signal_handler(signal.SIGINT, self._on_term if foreground else self.stop)
        if foreground and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(signal.SIGHUP, self._on_term)

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Take nothing new, and end when what runs has finished, or after *seconds*."""
        loop = asyncio.get_running_loop()
        if self._deadline is not None and self._deadline.when() <= loop.time() + seconds:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = loop.call_later(seconds, self._time_is_up.set)
        self._asked_to_drain.set()

    def stop(self) -> None:
        """End at once."""
        self._time_is_up.set()
        self._asked_to_drain.set()

    async def run(self) -> None:
        """Serve until a drain has ended."""
        await self._asked_to_drain.wait()
        self._worker.draining = True
        self._worker.log.info("worker.draining", running=len(self._worker.running))
        self._server.close()
        # As long as anybody holds it open, connections queue instead of being refused.
        self.listener.close()
        closing = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._web.pre_shutdown)
        await self._until_closed()
        closing.cancel()
        self._worker.end()
        self._web.pre_shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self._until_closed(patient=True)
        await self._web.shutdown(timeout=0.1)
        if self._deadline is not None:
            self._deadline.cancel()

    async def _until_closed(self, *, patient: bool = False) -> None:
        """Wait until every connection is closed or, unless *patient*, the time is up."""
        patience = asyncio.Event() if patient else self._time_is_up
        while self._web.connections and not patience.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(patience.wait(), LOOK_EVERY_SECONDS)

    def _on_term(self) -> None:
        if self._asked_to_drain.is_set():
            self.stop()
        else:
            self.drain()


def bind(host: str, port: int) -> socket.socket:
    """Bind the address of a worker that was given no socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(BACKLOG)
    return listener


def inherit(fd: int) -> socket.socket:
    """Take over the listening socket that the supervisor bound."""
    listener = socket.socket(fileno=fd)
    listener.set_inheritable(False)
    return listener
