"""
The sessions of Claude Code that a worker has served, for their status lines.

Claude Code sends its session ID with each request. A session holds a few totals and the outcome of
the last turn; the least recently used session is dropped first.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from ccproxy.errors import CcproxyError
from ccproxy.protocol.claude_code import CLASS_HEADER
from ccproxy.routing.tiers import without_mark
from ccproxy.store.usage_totals import Totals, Used, summed
from ccproxy.worker.server.access_record import AccessRecord

MAX_SESSIONS = 256
MAX_PEERS = 8
TODAY_SECONDS = 15.0
"""Seconds for which the fleet's cost for today is cached."""


class LastTurn(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a session's last request, without its bodies."""

    requested: str = ""
    """The session's model at that time."""
    model: str = ""
    answered_by: str = ""
    route: str = ""
    error: str = ""
    at: float = 0.0


@dataclass(slots=True)
class ClientSession:
    """One session."""

    running: dict[int, AccessRecord] = field(default_factory=dict)
    """Running requests by their `id()`, in the order in which they began."""
    totals: Totals = field(default_factory=Totals)
    """Totals of the requests that this worker answered itself."""
    last_request: AccessRecord | None = None
    """The last finished turn."""
    peers: dict[str, None] = field(default_factory=dict)
    """Labels of the other entries that answered some of the session's requests."""

    def last_turn(self) -> LastTurn:
        """Return the outcome of the last turn."""
        record = self.last_request
        if record is None:
            return LastTurn()
        error = f"{record.error}: {record.reason}" if record.failed else ""
        return LastTurn(
            requested=without_mark(record.requested),
            model=record.model,
            answered_by=record.answered_by,
            route=record.route,
            error=error[:300],
            at=record.started_at + record.elapsed,
        )

    def waiting(self) -> AccessRecord | None:
        """Return the oldest running request whose answer has not begun, or None."""
        return next((one for one in self.running.values() if not one.has_begun), None)


_NEW = ClientSession()


class ClientSessions:
    """The sessions of one worker."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._sessions: OrderedDict[str, ClientSession] = OrderedDict()
        self._today: float | None = None
        self._read_at = float("-inf")

    def get(self, session_id: str) -> ClientSession:
        """Return a session, or an empty one if it is unknown."""
        return self._sessions.get(session_id, _NEW)

    def begin(self, record: AccessRecord, headers: Mapping[str, str]) -> None:
        """Add a new request to its session."""
        record.is_turn = not record.agent and headers.get(CLASS_HEADER, "main") in ("main", "")
        session = self._sessions.get(record.session)
        if session is None:
            session = self._sessions[record.session] = ClientSession()
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        else:
            self._sessions.move_to_end(record.session)
        session.running[id(record)] = record

    def end(self, record: AccessRecord) -> None:
        """Record the end of a request."""
        session = self._sessions.get(record.session)
        if session is None:
            return
        session.running.pop(id(record), None)
        if not record.requested:  # the request was refused before it was read
            return
        if record.answered_by and len(session.peers) < MAX_PEERS:
            session.peers[record.answered_by] = None
        if record.is_turn:
            session.last_request = record

    def count(self, record: AccessRecord, used: Used) -> None:
        """Add the usage of a request to its session."""
        if (session := self._sessions.get(record.session)) is not None:
            session.totals.add(used)

    async def cost_today(self) -> float | None:
        """Return the cost of all of the fleet's requests today, or None if it is unknown."""
        if time.monotonic() - self._read_at > TODAY_SECONDS:
            self._read_at = time.monotonic()
            self._today = await asyncio.to_thread(self._read_today)
        return self._today

    def _read_today(self) -> float | None:
        midnight = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
        try:
            rows = summed(self._state, by=("day",), since=midnight.timestamp())
        except CcproxyError:
            return None
        totals = Totals()
        for row in rows:
            totals.merge(row.totals)
        return totals.known_cost
