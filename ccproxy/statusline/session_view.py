"""
What the workers know about one session: asked over their control sockets, and merged.

Every process of the session's entry is asked, and then those of the other entries that have
answered requests of the session or will answer the next one. All of it has a short deadline: the
status line must appear.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ccproxy.ipc.control_messages import (
    ClientSessionRequest,
    ClientSessionState,
    MessageError,
    decode,
    encode,
)
from ccproxy.ipc.socket_paths import worker_sockets

DEADLINE_SECONDS = 0.25
MAX_REPLY = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """A session, merged over the processes of its entry and the other entries."""

    own: ClientSessionState
    others: tuple[ClientSessionState, ...] = ()

    @property
    def answering(self) -> ClientSessionState:
        """The entry that answered last."""
        label = self.own.answered_by.lower()
        return next((one for one in self.others if one.label.lower() == label), self.own)

    @property
    def cost(self) -> float:
        """US dollars at all entries."""
        return sum(one.cost for one in (self.own, *self.others))

    @property
    def unpriced(self) -> int:
        """Requests without a known price."""
        return sum(one.unpriced for one in (self.own, *self.others))

    @property
    def cache_share(self) -> float | None:
        """The part of the input that providers read from their caches; None without input."""
        entries = (self.own, *self.others)
        cached = sum(one.cached for one in entries)
        total = cached + sum(one.input + one.written for one in entries)
        return cached / total if total else None


def view_session(
    home: Path, request: ClientSessionRequest, *, label: str, port: int | None
) -> SessionView | None:
    """
    Return what the workers of the fleet at *home* know about a session; None if none answers.

    Without a *label*, the entry is the one that listens on *port*.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    paths = worker_sockets(home)
    first = _named(paths, label) if label else paths
    states = _ask(first, request, deadline=deadline)
    if label:
        own = [one for one in states if one.label.lower() == label.lower()]
    else:
        own = [one for one in states if one.port == port]
    if not own:
        return None
    merged = _merged(own)
    peers = dict.fromkeys(filter(None, [*merged.peers, merged.answered_by]))
    others = _ask(
        [path for peer in peers for path in _named(paths, peer)], request, deadline=deadline
    )
    labels = dict.fromkeys(one.label for one in others if one.label != merged.label)
    return SessionView(
        own=merged,
        others=tuple(_merged([one for one in others if one.label == name]) for name in labels),
    )


def _named(paths: Iterable[Path], label: str) -> list[Path]:
    """Return the sockets that may be of *label*: another label may begin with it."""
    return [path for path in paths if f"{label.lower()}." in path.name.lower()]


def _merged(states: Sequence[ClientSessionState]) -> ClientSessionState:
    """Return the processes of one entry as one: the last turn of any, and the sums of all."""
    last = max(states, key=lambda one: one.at)
    waiting = max(states, key=lambda one: one.waiting_s)
    return replace(
        last,
        waiting_s=waiting.waiting_s,
        attempts=waiting.attempts,
        key=waiting.key,
        refusal=waiting.refusal,
        input=sum(one.input for one in states),
        cached=sum(one.cached for one in states),
        written=sum(one.written for one in states),
        cost=sum(one.cost for one in states),
        unpriced=sum(one.unpriced for one in states),
        peers=tuple(dict.fromkeys(peer for one in states for peer in one.peers)),
    )


def _ask(
    paths: Iterable[Path], request: ClientSessionRequest, *, deadline: float
) -> list[ClientSessionState]:
    """Return the replies that arrive before the *deadline*."""
    line = encode(request)
    waiting = {
        connection.fileno(): (connection, bytearray())
        for path in paths
        if (connection := _sent(path, line)) is not None
    }
    states = []
    try:
        while waiting and (remaining := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select(list(waiting), [], [], remaining)
            for fd in ready:
                connection, data = waiting[fd]
                piece = _receive(connection)
                data += piece
                if not piece or b"\n" in piece or len(data) > MAX_REPLY:
                    del waiting[fd]
                    connection.close()
                    states += _decoded(bytes(data))
    finally:
        for connection, _ in waiting.values():
            connection.close()
    return states


def _sent(path: Path, line: bytes) -> socket.socket | None:
    """Return a connection on which *line* was sent; None if nobody of this user listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.stat().st_uid != os.getuid():
            raise PermissionError
        connection.setblocking(False)
        connection.connect(os.fspath(path))
        connection.send(line)
    except OSError:
        connection.close()
        return None
    return connection


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(MAX_REPLY)
    except OSError:
        return b""


def _decoded(line: bytes) -> list[ClientSessionState]:
    try:
        state = decode(ClientSessionState, line)
    except MessageError:
        return []
    return [state] if state.ok and state.label else []
