"""
The worker's side of history: which turns are kept, and what is done with those that are.

Off unless HISTORY or a client's /conversation/enable switches it on. A turn is kept when its
answer has come to its end, so that a request which failed and was asked again is there once. Only
the conversation itself is kept: what Claude Code asks besides (titles, summaries) is not.

Everything that touches a file happens in the writing thread. Beside the database turns can be
written to a file in `exports/` as they come (`enable` with a name).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from ccproxy.convert.common.turn_text import assistant_turn, user_turn
from ccproxy.errors import Problem, UsageError
from ccproxy.protocol.messages import read_request
from ccproxy.routing.rules import facts_of
from ccproxy.store import exports, history
from ccproxy.store.history import Turn
from ccproxy.store.writer import Note, Writer
from ccproxy.worker.server.access_record import Record

T = TypeVar("T")


class Heard(NamedTuple):
    """One request and its answer, not yet looked into."""

    at: float
    ended: float
    model: str
    user: str
    answer: bytes
    is_stream: bool


class Conversation:
    """What was said at one entry of the fleet at *home*."""

    def __init__(
        self, home: Path, label: str, *, redact: Callable[[str], str], on: bool, warn: Note
    ) -> None:
        self.is_on = on
        self.file_name = ""
        """The export that turns are written to as they come; empty if there is none."""
        self._home = home
        self._label = label
        self._redact = redact
        self._file: int | None = None
        self._warn = warn
        path = home / "state" / history.FILE_NAME
        self._writer: Writer[Heard] = Writer(path, history.SCHEMA, write=self._write, warn=warn)
        if path.exists():  # also where nothing is kept any more, what is there grows old
            self._writer.ask(lambda db: history.prune(db, now=time.time()))

    def note(self, record: Record, *, headers: Mapping[str, str], ended: float) -> None:
        """Keep the turns of a request that has ended well."""
        if not self.is_on or record.error or not record.stop_reason:
            return
        if not _is_conversation(record.asked, headers):
            return
        user = user_turn(record.asked)
        heard = Heard(record.at, ended, record.model, user, record.answer, record.stream)
        self._writer.put(heard)

    # What is asked of it...

    async def last(self, limit: int | None) -> tuple[list[Turn], int]:
        """Return the last *limit* turns, and how many there are."""
        return await self._ask(
            lambda db: (
                history.last(db, self._label, limit=limit),
                history.count(db, self._label),
            )
        )

    async def clear(self) -> int:
        """Forget everything that was said; return how many turns that were."""
        return await self._ask(lambda db: history.clear(db, self._label))

    async def enable(self, name: str = "") -> None:
        """
        Keep turns from now on; with a *name* also in the new file of that name.

        Raises:
            UsageError, FileExistsError, OSError: If there can be no such file.

        """
        if name:
            await self._ask(lambda _: self._begin_file(name))
        self.is_on = True

    async def disable(self) -> None:
        """Keep no more turns; what is kept stays."""
        self.is_on = False
        await self._ask(lambda _: self._end_file())

    def follow(self, *, on: bool, name: str) -> None:
        """Do what another process of the entry was told: `enable` or `disable`; never waits."""
        self.is_on = on
        if name != self.file_name:
            self._writer.ask(lambda _: self._join_file(name))

    async def flush(self) -> int:
        """Have everything written that was said until now; return how many turns there are."""
        return await self._ask(self._flush)

    async def load(self, name: str) -> int:
        """
        Add the turns of an export that are not known already; return how many those were.

        Raises:
            UsageError, FileNotFoundError, OSError: If the file is not what it should be.

        """
        return await self._ask(lambda db: self._load(db, name))

    def close(self) -> None:
        """Write what waits; blocks until it is written."""
        self._writer.close()
        self._end_file()

    async def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.wrap_future(self._writer.ask(work))

    # ...and done in the thread.

    def _write(self, connection: sqlite3.Connection, batch: Sequence[Heard]) -> None:
        turns = [turn for heard in batch for turn in self._turns(heard)]
        history.add(connection, self._label, turns)
        self._append(turns)

    def _turns(self, heard: Heard) -> Iterable[Turn]:
        """Make turns of what was heard, without keys; the answer of a mere tool call is none."""
        if heard.user:
            yield Turn(heard.at, "user", self._redact(heard.user), heard.model)
        if said := assistant_turn(heard.answer, is_stream=heard.is_stream):
            yield Turn(heard.ended, "assistant", self._redact(said), heard.model)

    def _flush(self, connection: sqlite3.Connection) -> int:
        if self._file is not None:
            os.fsync(self._file)
        return history.count(connection, self._label)

    def _load(self, connection: sqlite3.Connection, name: str) -> int:
        return history.add_new(connection, self._label, exports.load(self._home, name))

    def _begin_file(self, name: str) -> None:
        file = exports.create(self._home, name)
        self._end_file()
        self._file, self.file_name = file, name

    def _join_file(self, name: str) -> None:
        """Write on in the file that another process has made."""
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
        """Write to the export; the turns are in the database already, so a failure only ends it."""
        if self._file is None:
            return
        try:
            for turn in turns:
                os.write(self._file, exports.line_of(turn))
        except OSError as error:
            self._warn(f"exports/{self.file_name} cannot be written: {error.strerror}")
            self._end_file()


def _is_conversation(body: bytes, headers: Mapping[str, str]) -> bool:
    """Tell whether user and model talk; else an agent asks, or Claude Code for itself."""
    try:
        return facts_of(read_request(body), headers).kind == "main"
    except Problem:
        return False
