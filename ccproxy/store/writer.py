"""
A thread that writes one file, so that callers never wait.

`put` appends to a deque and wakes the thread, which collects items for a second, so that a busy
second is one transaction. `ask` runs a function in the thread after all earlier items are written
and before any later ones. Items that cannot be written wait for the next attempt. If too many wait,
the oldest are discarded and counted, and so is an item that can never be written. A removed file is
recreated.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Generic, TypeVar

from ccproxy.errors import CcproxyError
from ccproxy.store.database import DatabaseFile, Schema, open_database

T = TypeVar("T")
Item = TypeVar("Item")

COLLECT_SECONDS = 1.0
MAX_QUEUE = 10_000
MAX_BYTES = 64 * 1024 * 1024
"""Maximum total size of the queued items."""
RETRY_SECONDS = 30.0
"""Seconds between two attempts to open or write a file after a failure."""

Note = Callable[[str], None]
_Answer = Callable[[sqlite3.Connection | None], None]


class Writer(Generic[Item]):
    """
    Writes items of one kind into the file at *path*.

    *write* receives a batch, of which it writes all or nothing. *warn* is called, in the thread,
    with messages for the user about a damaged or removed file and about failures. *size_of* returns
    the size of an item in bytes; without it, only the number of items is limited. Only `close`
    blocks.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        *,
        write: Callable[[sqlite3.Connection, Sequence[Item]], None],
        warn: Note,
        size_of: Callable[[Item], int] = lambda _: 0,
    ) -> None:
        self.path = path
        self.lost = 0
        """Number of discarded items."""
        self._schema = schema
        self._write = write
        self._warn = warn
        self._size_of = size_of
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._questions: deque[tuple[list[Item], _Answer]] = deque()
        self._lock = threading.Lock()
        """Held while the queue changes; never during work on the file."""
        self._has_work = threading.Event()
        self._is_urgent = threading.Event()
        self._is_closing = False
        self._file: DatabaseFile | None = None
        self._failure = ""
        name = f"writer of {path.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queue *item* for writing."""
        with self._lock:
            self._items.append(item)
            self._bytes += self._size_of(item)
            self._discard_excess()
        if not self._has_work.is_set():
            self._has_work.set()

    def ask(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run *work* in the thread after all earlier items are written."""
        future: Future[T] = Future()

        def answer(connection: sqlite3.Connection | None) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                if connection is None:
                    raise CcproxyError(f"{self.path.name} cannot be used: {self._failure}")
                future.set_result(work(connection))
            except Exception as error:  # noqa: BLE001 - the caller of `ask` handles it
                future.set_exception(error)

        self._questions.append((self._take(), answer))
        self._is_urgent.set()
        self._has_work.set()
        return future

    def close(self) -> None:
        """Write the remaining items and end the thread; must be the last call."""
        self._is_closing = True
        self._is_urgent.set()
        self._has_work.set()
        self._thread.join()

    def _discard_excess(self) -> None:
        """Discard the oldest items beyond the limits; the lock is held."""
        while len(self._items) > MAX_QUEUE or self._bytes > MAX_BYTES:
            self._bytes -= self._size_of(self._items.popleft())
            self.lost += 1

    # In the thread.

    def _run(self) -> None:
        while not self._is_closing:
            self._has_work.wait()
            self._is_urgent.wait(RETRY_SECONDS if self._failure else COLLECT_SECONDS)
            self._is_urgent.clear()
            self._has_work.clear()
            self._work()
        self._work()
        if self._file is not None:
            self._file.connection.close()

    def _work(self) -> None:
        """Write the items before each question and answer it; then write the rest."""
        for items, answer in [self._questions.popleft() for _ in range(len(self._questions))]:
            answer(self._store(items))
        self._store(self._take())
        if self._items or self._questions:
            self._has_work.set()

    def _take(self) -> list[Item]:
        with self._lock:
            items = list(self._items)
            self._items.clear()
            self._bytes = 0
        return items

    def _store(self, batch: list[Item]) -> sqlite3.Connection | None:
        """Write *batch*; return the connection, or None if the file cannot be used."""
        parts = deque([batch] if batch else [])
        try:
            connection = self._open()
            while parts:
                try:
                    self._write(connection, parts[0])
                except (CcproxyError, OSError, sqlite3.Error):
                    raise
                except Exception as error:  # noqa: BLE001 - about an item, not the file
                    if len(parts[0]) > 1:  # discard only the items that cannot be written
                        parts = deque([item] for item in batch)
                        continue
                    self.lost += 1
                    self._warn(f"an entry of {self.path.name} was discarded: {error!r}")
                parts.popleft()
            self._failure = ""
        except Exception as error:  # noqa: BLE001 - the thread must survive any error
            rest = [item for part in parts for item in part]
            with self._lock:
                self._items.extendleft(reversed(rest))
                self._bytes += sum(map(self._size_of, rest))
                self._discard_excess()
            self._fail(error)
        return None if self._file is None else self._file.connection

    def _open(self) -> sqlite3.Connection:
        if self._file is not None and not self._file.is_in_place():
            self._file.connection.close()
            self._file = None
            self._warn(f"{self.path.name} was removed; creating a new one")
        if self._file is None:
            self._file = open_database(self.path, self._schema)
            if self._file.set_aside is not None:
                self._warn(f"{self.path.name} was damaged; moved to {self._file.set_aside.name}")
        return self._file.connection

    def _fail(self, error: Exception) -> None:
        is_damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        )
        if is_damaged and self._file is not None:
            self._file.connection.close()  # the next attempt checks it and sets it aside
            self._file = None
        if not self._failure:
            self._warn(f"{self.path.name} cannot be written: {error}")
        self._failure = str(error)
