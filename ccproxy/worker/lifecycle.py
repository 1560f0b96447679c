"""
The lifecycle of a worker: accept, drain, end.

A drain closes this process's copy of the listening socket. While the supervisor or the next worker
holds another copy, connections queue there; otherwise the port refuses them. Running requests may
finish, and every response from then on closes its connection. Connections without a request are
closed a second later, so that a client that is about to use one still can. At the deadline, running
requests are cancelled and end with an error for the client. A second drain can bring the deadline
forward, but not postpone it.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

from ccproxy.ipc.control_messages import DRAIN_SECONDS
from ccproxy.worker.gateway.server_tls import ServerTls, TlsListener
from ccproxy.worker.server.app import answer
from ccproxy.worker.server.http import ClientServer
from ccproxy.worker.worker import Worker

BACKLOG = 1024
IDLE_SECONDS = 1.0
"""How long a connection without a request stays open during a drain."""
POLL_SECONDS = 0.05
FLUSH_SECONDS = 2.0
"""Time limit for the last responses to reach their clients."""


class Lifecycle:
    """Starts, drains and ends one worker at its listening socket."""

    def __init__(
        self,
        worker: Worker,
        listener: socket.socket,
        *,
        on_drain: Callable[[], None] = lambda: None,
    ) -> None:
        self.listener = listener
        self._worker = worker
        self._on_drain = on_drain
        self._drain_requested: asyncio.Event = asyncio.Event()
        self._time_is_up: asyncio.Event = asyncio.Event()
        self._deadline: asyncio.TimerHandle | None = None
        self._is_foreground = False

    async def start(self) -> None:
        """Start accepting connections."""
        loop = asyncio.get_running_loop()
        self.http = ClientServer(answer, self._worker)
        # The server closes its copy; this one can still be passed on afterwards.
        listener, files = self.listener.dup(), self._worker.config.gateway.tls
        self._server: asyncio.Server | TlsListener
        if files is None:
            self._server = await loop.create_server(self.http, sock=listener, backlog=BACKLOG)
        else:
            tls = ServerTls(files, log=self._worker.logs.events)
            self._server = TlsListener(listener, tls.context, self.http, backlog=BACKLOG)
        self._worker.accounts.start()
        if self._worker.config.added_features.auto_probe:
            # Imported here, so that only workers with AUTO_PROBE load it.
            from ccproxy.worker.probing.auto_probe import AutoProbe

            self._worker.auto_probe = AutoProbe(self._worker)

    def handle_signals(self, *, foreground: bool = False) -> None:
        """
        Drain on SIGTERM; end at once on a second SIGTERM, or on SIGINT.

        In the *foreground*, Ctrl-C and a closed terminal are handled like SIGTERM, and the settings
        control the start and length of the drain, because there is no supervisor to control them.
        """
        loop = asyncio.get_running_loop()
        self._is_foreground = foreground
        loop.add_signal_handler(signal.SIGTERM, self._on_term)
        loop.add_signal_handler(signal.SIGINT, self._on_term if foreground else self.stop)
        if foreground and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(signal.SIGHUP, self._on_term)

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Accept no new requests; end when running requests have finished, or after *seconds*."""
        loop = asyncio.get_running_loop()
        if self._deadline is not None and self._deadline.when() <= loop.time() + seconds:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = loop.call_later(seconds, self._time_is_up.set)
        self._drain_requested.set()

    def stop(self) -> None:
        """Stop immediately."""
        self._time_is_up.set()
        self._drain_requested.set()

    async def run(self) -> None:
        """Serve until a drain has ended."""
        await self._drain_requested.wait()
        requests = self._worker.requests
        requests.draining = True
        self._worker.logs.events.info("worker.draining", running=len(requests.tasks))
        self._server.close()
        self.listener.close()
        self._on_drain()
        closing = asyncio.get_running_loop().call_later(IDLE_SECONDS, self.http.pre_shutdown)
        await self._wait_until_closed()
        closing.cancel()
        requests.cancel()
        self.http.pre_shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._wait_until_closed(ignore_deadline=True)
        await self.http.shutdown(timeout=0.1)
        if self._deadline is not None:
            self._deadline.cancel()

    async def _wait_until_closed(self, *, ignore_deadline: bool = False) -> None:
        deadline = asyncio.Event() if ignore_deadline else self._time_is_up
        while self.http.connections and not deadline.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(deadline.wait(), POLL_SECONDS)

    def _on_term(self) -> None:
        drain, requests = self._worker.config.drain, self._worker.requests
        if self._drain_requested.is_set() or requests.leaving:
            self.stop()
        elif not self._is_foreground:
            self.drain()
        elif not drain.delay:
            self.drain(drain.timeout)
        else:
            requests.leaving = True
            self._worker.logs.events.info("worker.leaving", seconds=drain.delay)
            loop = asyncio.get_running_loop()
            loop.call_later(drain.delay, self.drain, drain.timeout)


def bind(host: str, port: int) -> socket.socket:
    """Bind the address of a worker that inherits no socket."""
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
