"""
Recording of conversations by a worker.

It is off unless HISTORY or a client's /conversation/enable switches it on. A turn is recorded when
its answer is complete, so that a failed and retried request is recorded once. Only the conversation
itself is recorded, not Claude Code's own requests (titles, summaries).

All file access is in the writer's thread. In addition to the database, turns can be written to a
file in `exports/` as they arrive (`enable` with a name).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from ccproxy.errors import Problem, UsageError
from ccproxy.protocol.messages import read_request
from ccproxy.routing.rules import request_facts
from ccproxy.store import exports, history
from ccproxy.store.history import Turn
from ccproxy.store.wall_clock import WallClock
from ccproxy.store.writer import Note, Writer
from ccproxy.worker.admin.turn_text import assistant_turn, user_turn
from ccproxy.worker.server.access_record import AccessRecord

T = TypeVar("T")

PRUNE_INTERVAL = 3600.0
"""Seconds between deletions of expired turns, which are hidden in the meantime."""


class FinishedExchange(NamedTuple):
    """A request and its answer, before the turns are extracted."""

    at: float
    ended: float
    model: str
    user: str
    answer: bytes
    is_stream: bool


class HistoryRecorder:
    """Records the conversations of one entry of the fleet at *home*."""

    def __init__(
        self, home: Path, label: str, *, redact: Callable[[str], str], on: bool, warn: Note
    ) -> None:
        self.is_on = on
        self.file_name = ""
        """The export to which turns are also written, or empty."""
        self._home = home
        self._label = label
        self._redact = redact
        self._file: int | None = None
        self._warn = warn
        path = home / "state" / history.FILE_NAME
        self._writer: Writer[FinishedExchange] = Writer(
            path, history.SCHEMA, write=self._write, warn=warn, size_of=_size_of
        )
        self._clock = WallClock(path.parent)
        self._next_prune = 0.0
        if path.exists():  # old turns expire even if recording is off
            self._writer.ask(self._prune)

    def note(self, record: AccessRecord, *, headers: Mapping[str, str], ended: float) -> None:
        """Record the turns of a request that succeeded."""
        if not self.is_on or record.error or not record.stop_reason:
            return
        if not _is_conversation(record.request_body, headers):
            return
        user = user_turn(record.request_body)
        self._writer.put(
            FinishedExchange(
                record.started_at, ended, record.model, user, record.response_body, record.stream
            )
        )

    # For the event loop

    async def last(self, limit: int | None) -> tuple[list[Turn], int]:
        """Return the last *limit* turns, and the total number of turns."""
        return await self._ask(
            lambda db: (
                history.last(db, self._label, limit=limit),
                history.count(db, self._label),
            )
        )

    async def clear(self) -> int:
        """Delete all turns; return their number."""
        return await self._ask(lambda db: history.clear(db, self._label))

    async def enable(self, name: str = "") -> None:
        """
        Start recording turns; with a *name*, also to a new file of that name.

        Raises:
            UsageError, FileExistsError, OSError: If the file cannot be created.
        """
        if name:
            await self._ask(lambda _: self._begin_file(name))
        self.is_on = True

    async def disable(self) -> None:
        """Stop recording turns; the recorded ones remain."""
        self.is_on = False
        await self._ask(lambda _: self._end_file())

    def follow(self, *, on: bool, name: str) -> None:
        """Apply the state that another process of the entry has switched to; never blocks."""
        self.is_on = on
        if name != self.file_name:
            self._writer.ask(lambda _: self._join_file(name))

    async def flush(self) -> None:
        """Write everything that is pending, and sync the export."""
        await self._ask(lambda _: self._sync_file())

    async def load(self, name: str) -> int:
        """
        Add the turns of an export that are not recorded yet; return their number.

        Raises:
            UsageError, FileNotFoundError, OSError: If the file is missing or malformed.
        """
        return await self._ask(lambda db: self._load(db, name))

    def close(self) -> None:
        """Write pending turns; blocks until they are written."""
        self._writer.close()
        self._end_file()

    async def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.wrap_future(self._writer.ask(work))

    # In the writer's thread

    def _write(self, connection: sqlite3.Connection, batch: Sequence[FinishedExchange]) -> None:
        turns = [turn for exchange in batch for turn in self._turns(exchange)]
        history.add(connection, self._label, turns)
        self._append(turns)
        if time.monotonic() >= self._next_prune:
            self._prune(connection)

    def _prune(self, connection: sqlite3.Connection) -> None:
        self._next_prune = time.monotonic() + PRUNE_INTERVAL
        if not self._clock.jump():
            history.prune(connection, now=time.time())

    def _turns(self, exchange: FinishedExchange) -> Iterable[Turn]:
        """Return the redacted turns; an answer that is only a tool call has none."""
        if exchange.user:
            yield Turn(exchange.at, "user", self._redact(exchange.user), exchange.model)
        if text := assistant_turn(exchange.answer, is_stream=exchange.is_stream):
            yield Turn(exchange.ended, "assistant", self._redact(text), exchange.model)

    def _sync_file(self) -> None:
        if self._file is not None:
            os.fsync(self._file)

    def _load(self, connection: sqlite3.Connection, name: str) -> int:
        return history.add_new(connection, self._label, exports.load(self._home, name))

    def _begin_file(self, name: str) -> None:
        file = exports.create(self._home, name)
        self._end_file()
        self._file, self.file_name = file, name

    def _join_file(self, name: str) -> None:
        """Append to the file that another process has created."""
        self._end_file()
        try:
            if name:
                self._file, self.file_name = exports.append(self._home, name), name
        except (UsageError, OSError) as error:
            self._warn(f"exports/{name} cannot be written: {error}")

    def _end_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self.file_name = None, ""

    def _append(self, turns: Iterable[Turn]) -> None:
        """Append to the export; a failure ends only the export, not the recording of turns."""
        if self._file is None:
            return
        try:
            for turn in turns:
                os.write(self._file, exports.line_of(turn))
        except OSError as error:
            self._warn(f"exports/{self.file_name} cannot be written: {error.strerror}")
            self._end_file()


def _size_of(exchange: FinishedExchange) -> int:
    return len(exchange.user) + len(exchange.answer)


def _is_conversation(body: bytes, headers: Mapping[str, str]) -> bool:
    """Return True for the main conversation, not for subagents or Claude Code's own requests."""
    try:
        return request_facts(read_request(body), headers).kind == "main"
    except Problem:
        return False
