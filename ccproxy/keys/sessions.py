"""
The sessions of a pool: the key that each session uses, and the sessions' moves between keys.

Providers cache prompts per account, so a session that changes its key pays for its whole prompt
again. The table is bounded: a session expires after `SESSION_IDLE`, and when there are too many,
the one that has been idle longest is removed.

A move is made when the request is sent and confirmed when the provider accepts it. A refusal of the
new key undoes the move, so that a failed attempt neither counts nor splits a session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

SESSION_IDLE = 3600.0
"""Seconds after which a session is no longer active; few prompt caches live longer."""
MAX_SESSIONS = 2048
MIN_CACHED = 1024
"""Tokens; shorter prompts are not cached by any vendor that documents a minimum."""
SavedSession = tuple[str, str, str, float, int, bool, str]
_MOST_MOVES = 20
_REFRESH = 30.0
"""Seconds by which a session's last use may be outdated, since all processes share every change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRef:
    """The session of one request."""

    id: str
    """A hash of the client's session ID, or of the beginning of the conversation."""
    name: str
    """The beginning of the client's session ID, for display."""
    parent: str = ""
    """The ID of the session that a subagent belongs to; empty for other requests."""
    tokens: int = 0
    """Estimated size of the prompt in tokens."""
    is_compaction: bool = False
    """True if the next prompt of the session has a new prefix."""


class SessionRow(msgspec.Struct, array_like=True, kw_only=True):
    """One session in the table. Times are monotonic, and keys are given by their salted names."""

    key: str
    name: str
    used: float
    tokens: int
    """Estimated size in tokens of the last prompt that was long enough to be cached."""
    is_agent: bool = False
    """True if the row is a part of another session, which is counted instead."""
    is_compacted: bool = False
    origin: str = ""
    """The key before an unconfirmed move."""
    reason: str = ""
    """The reason for the unconfirmed move."""
    lost: int = 0
    """Number of cached tokens that the unconfirmed move loses."""
    wanted_since: float = 0.0
    """When a preferred key became ready; 0 if none is."""
    model: str = ""

    def begins_prefix(self, ref: SessionRef) -> bool:
        """Return True if the prompt of *ref* begins differently from the session's last prompt."""
        if ref.is_compaction:
            return False  # a compaction request contains the whole conversation
        return self.is_compacted or MIN_CACHED <= ref.tokens < self.tokens // 2

    def cached_tokens(self, ref: SessionRef) -> int:
        """Return how many tokens of *ref*'s prompt the session's key has probably cached."""
        if self.begins_prefix(ref):
            return 0
        tokens = min(self.tokens, ref.tokens)
        return tokens if tokens >= MIN_CACHED else 0


class Move(msgspec.Struct, array_like=True, kw_only=True, frozen=True):
    """A session's move to another key. Keys are given by their salted names."""

    session: str
    source: str
    target: str
    reason: str
    """An obstacle of the old key, or one of the reasons in `key_selection`."""
    tokens: int
    """Estimated number of cached tokens that were lost."""
    at: float
    """When the session moved, in wall-clock time."""


class SessionTable:
    """The sessions of a pool by ID, in the order of their last use, and the last moves."""

    def __init__(self, data: bytes = b"") -> None:
        """Load the rows from *data*, which `encoded` returned; it is decoded on first use."""
        self._data: bytes | None = data
        self._rows: dict[str, SessionRow] = {}
        self._moves: list[Move] = []
        self._is_decoded = not data
        self.version = 0
        """Incremented with every change in this process."""

    def __len__(self) -> int:
        return len(self._content())

    def __iter__(self) -> Iterator[tuple[str, SessionRow]]:
        return iter(self._content().items())

    @property
    def moves(self) -> list[Move]:
        """The last moves, newest last."""
        self._content()
        return self._moves

    def get(self, session_id: str, now: float) -> SessionRow | None:
        """Return the row of an active session, or None."""
        row = self._content().get(session_id)
        return row if row is not None and now - row.used < SESSION_IDLE else None

    def put(self, session_id: str, row: SessionRow) -> None:
        """Add or change a row, which becomes the most recently used one."""
        rows = self._content()
        rows.pop(session_id, None)
        rows[session_id] = row
        if len(rows) > MAX_SESSIONS:
            del rows[next(iter(rows))]
        self._change()

    def note_use(self, ref: SessionRef, row: SessionRow, now: float) -> None:
        """Record a request of a session; changes too small to affect a decision are deferred."""
        tokens = ref.tokens if ref.tokens >= MIN_CACHED else max(ref.tokens, row.tokens)
        is_steady = abs(tokens - row.tokens) * 8 <= row.tokens
        is_same = row.is_compacted == ref.is_compaction
        if is_same and is_steady and now - row.used < _REFRESH:
            return
        row.used, row.tokens, row.is_compacted = now, tokens, ref.is_compaction
        self.add(ref, row)

    def add(self, ref: SessionRef, row: SessionRow) -> None:
        """Add or change the row of *ref*, and keep the session of which it is a part active."""
        self.put(ref.id, row)
        parent = self._content().get(ref.parent)
        if parent is not None and row.used - parent.used >= _REFRESH:
            parent.used = row.used
            self.put(ref.parent, parent)

    def want(self, row: SessionRow, *, since: float) -> None:
        """Record when a preferred key became ready for a session; 0 if none is ready."""
        if row.wanted_since != since:
            row.wanted_since = since
            self._change()

    def move(self, ref: SessionRef, row: SessionRow, target: str, reason: str) -> None:
        """Move the session to another key until the move is confirmed or undone."""
        lost = row.cached_tokens(ref)
        if not row.origin:
            row.origin, row.lost = row.key, lost
        row.key, row.reason, row.wanted_since = target, reason, 0.0
        self._change()

    def confirm(self, session_id: str, key: str, wall: float) -> Move | None:
        """Confirm the session's move to *key*, which has just worked; return it, or None."""
        row = self._content().get(session_id)
        if row is None or not row.origin or row.key != key:
            return None
        source, row.origin = row.origin, ""
        self._change()
        if source == key:
            return None
        move = Move(
            session=row.name,
            source=source,
            target=key,
            reason=row.reason,
            tokens=row.lost,
            at=wall,
        )
        self._moves = [*self._moves, move][-_MOST_MOVES:]
        return move

    def undo(self, session_id: str, key: str) -> None:
        """Move the session back from *key*, which was refused, to its previous key."""
        row = self._content().get(session_id)
        if row is not None and row.origin and row.key == key:
            row.key, row.origin = row.origin, ""
            self._change()

    def count_by_key(self, now: float) -> Counter[str]:
        """Return the number of active sessions by key."""
        return Counter(
            row.key
            for row in self._content().values()
            if not row.is_agent and now - row.used < SESSION_IDLE
        )

    # Persistence and sharing.

    def export(self, names: Mapping[str, str], *, now: float, wall: float) -> list[SavedSession]:
        """Return the sessions as plain data; *names* are the saved names of the keys."""
        return [
            (
                session_id,
                names[row.key],
                row.name,
                wall + row.used - now,
                row.tokens,
                row.is_agent,
                row.model,
            )
            for session_id, row in self._content().items()
            if row.key in names
        ]

    def restore(
        self, rows: Iterable[Sequence[Any]], names: Mapping[str, str], *, now: float, wall: float
    ) -> None:
        """
        Restore the sessions that `export` returned, except those that are already in the table.

        *names* maps saved names of keys to current ones.

        Raises:
            TypeError, ValueError: If *rows* is invalid.
        """
        current = self._content()
        for session_id, key, name, used, tokens, is_agent, model in rows:
            if key not in names or session_id in current:
                continue  # another process may already have served the session
            row = SessionRow(
                key=names[key],
                name=str(name),
                used=min(now, now + float(used) - wall),
                tokens=int(tokens),
                is_agent=bool(is_agent),
                model=str(model),
            )
            self.put(str(session_id), row)

    def encoded(self) -> bytes:
        """Return the contents as bytes; the same object if nothing has changed."""
        if self._data is None:
            self._data = _ENCODER.encode((self._rows, self._moves))
        return self._data

    def adopt(self, other: SessionTable) -> None:
        """Reuse the decoded contents of *other* if the encoded contents are equal."""
        if not self._is_decoded and other._is_decoded and self._data == other._data:
            self._rows, self._moves, self._is_decoded = other._rows, other._moves, True
        self.version = max(self.version, other.version) + (self._data != other._data)

    def add_missing(self, other: SessionTable) -> None:
        """Add the sessions of *other* that are not in this table."""
        rows = self._content()
        for session_id, row in other:
            if session_id not in rows:
                self.put(session_id, row)

    def _content(self) -> dict[str, SessionRow]:
        if not self._is_decoded:
            # A table written by another program counts as empty; sessions then change keys.
            with suppress(msgspec.DecodeError):
                self._rows, self._moves = _DECODER.decode(self._data or b"")
            self._is_decoded = True
        return self._rows

    def _change(self) -> None:
        self._content()
        self._data = None
        self.version += 1


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[dict[str, SessionRow], list[Move]])
