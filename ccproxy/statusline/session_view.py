"""
The state of one session, requested from the workers over their control sockets and merged.

Every process of the session's entry is queried, and then those of the other entries that have
answered requests of the session or will answer the next one. The deadline is short, because the
status line must appear.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ccproxy.ipc.socket_paths import worker_sockets
from ccproxy.statusline.entry_state import EntryState, read_entry

DEADLINE_SECONDS = 0.25
MAX_REPLY = 64 * 1024


class SessionView(NamedTuple):
    """A session, merged over the processes of its entry and the other entries."""

    own: EntryState
    others: tuple[EntryState, ...] = ()

    @property
    def answering(self) -> EntryState:
        """The entry that answered last."""
        label = self.own.answered_by.lower()
        return next((one for one in self.others if one.label.lower() == label), self.own)

    @property
    def cost(self) -> float:
        """The cost across all entries, in US dollars."""
        return sum(one.cost for one in (self.own, *self.others))

    @property
    def unpriced(self) -> int:
        """The number of requests without a known price."""
        return sum(one.unpriced for one in (self.own, *self.others))

    @property
    def cache_share(self) -> float | None:
        """The part of the input that providers read from their caches; None without input."""
        entries = (self.own, *self.others)
        cached = sum(one.cached for one in entries)
        total = cached + sum(one.input + one.written for one in entries)
        return cached / total if total else None


def view_session(home: str, request: bytes, *, label: str, port: int | None) -> SessionView | None:
    """
    Send *request* to the workers of the fleet at *home*; return the merged replies, or None.

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


def _named(paths: Iterable[str], label: str) -> list[str]:
    """Return the sockets that may belong to *label*; that of `my-kimi` also matches `kimi`."""
    return [path for path in paths if f"{label.lower()}." in path.rpartition("/")[2].lower()]


def _merged(states: Sequence[EntryState]) -> EntryState:
    """Merge the states of one entry's processes: the latest turn, and the sums of all counts."""
    last = max(states, key=lambda one: one.at)
    waiting = max(states, key=lambda one: one.waiting_s)
    return last._replace(
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


def _ask(paths: Iterable[str], request: bytes, *, deadline: float) -> list[EntryState]:
    """Return the replies that arrive before the *deadline*."""
    waiting = {
        connection.fileno(): (connection, bytearray())
        for path in paths
        if (connection := _sent(path, request)) is not None
    }
    states: list[EntryState | None] = []
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
                    states.append(read_entry(bytes(data)))
    finally:
        for connection, _ in waiting.values():
            connection.close()
    return [state for state in states if state is not None]


def _sent(path: str, line: bytes) -> socket.socket | None:
    """Return a connection on which *line* was sent; None if no process of this user listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.stat(path).st_uid != os.getuid():  # noqa: PTH116 - without pathlib
            raise PermissionError
        connection.setblocking(False)
        connection.connect(path)
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
