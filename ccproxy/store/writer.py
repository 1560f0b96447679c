"""
The thread that writes one file: callers put items down and go on.

Theory of operation: `put` appends to a deque and, if the thread sleeps, wakes it. The thread
gathers for a while, so that a busy second is one transaction. Whoever wants to read what was just
put down asks the thread itself (`ask`): it writes what was put down before, answers, and only then
writes what came later. What cannot be written waits for the next try; of too much that waits, the
oldest is given up and counted, and so is a batch that no file could ever take.
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
from ccproxy.store.database import Schema, open_database

T = TypeVar("T")
Item = TypeVar("Item")

GATHER_SECONDS = 1.0
LONGEST_QUEUE = 10_000
AGAIN_SECONDS = 30.0
"""How long a file that could not be opened or written is left alone."""

Note = Callable[[str], None]
Answer = Callable[[sqlite3.Connection | None], None]


class Writer(Generic[Item]):
    """
    Writes items of one kind into the file at *path*.

    *write* gets a batch; *warn* is told, from the thread, about a damaged file and about failures.
    No method but `close` ever waits.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        *,
        write: Callable[[sqlite3.Connection, Sequence[Item]], None],
        warn: Note,
    ) -> None:
        self.path = path
        self.lost = 0
        """Items that were given up."""
        self._schema = schema
        self._write = write
        self._warn = warn
        self._items: deque[Item] = deque()
        self._asked: deque[tuple[list[Item], Answer]] = deque()
        self._taking = threading.Lock()
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._closing = False
        self._connection: sqlite3.Connection | None = None
        self._failed = ""
        name = f"writer of {path.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Have *item* written soon."""
        if len(self._items) >= LONGEST_QUEUE:
            with self._taking:
                if self._items:
                    self._items.popleft()
                    self.lost += 1
        self._items.append(item)
        if not self._work.is_set():
            self._work.set()

    def ask(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Have *work* done in the thread, after everything that was put down before is written."""
        future: Future[T] = Future()

        def answer(connection: sqlite3.Connection | None) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                if connection is None:
                    raise CcproxyError(f"{self.path.name} cannot be used: {self._failed}")
                future.set_result(work(connection))
            except Exception as error:  # noqa: BLE001 - whoever asked waits, and judges it
                future.set_exception(error)

        self._asked.append((self._take(), answer))
        self._hurry.set()
        self._work.set()
        return future

    def close(self) -> None:
        """Write what waits, and end; to be called once, last."""
        self._closing = True
        self._hurry.set()
        self._work.set()
        self._thread.join()

    # In the thread...

    def _run(self) -> None:
        while not self._closing:
            self._work.wait()
            self._hurry.wait(AGAIN_SECONDS if self._failed else GATHER_SECONDS)
            self._hurry.clear()
            self._work.clear()
            self._turn()
        self._turn()
        if self._connection is not None:
            self._connection.close()

    def _turn(self) -> None:
        """Answer who asked, each behind what was put down before; then write the rest."""
        for before, answer in [self._asked.popleft() for _ in range(len(self._asked))]:
            self._write_down(before)
            answer(self._connection)
        self._write_down(self._take())
        if self._items or self._asked:
            self._work.set()

    def _take(self) -> list[Item]:
        with self._taking:  # both threads do, and neither may get only a part
            return [self._items.popleft() for _ in range(len(self._items))]

    def _write_down(self, batch: list[Item]) -> None:
        try:
            self._open()
            if batch and self._connection is not None:
                self._write(self._connection, batch)
            self._failed = ""
        except (CcproxyError, OSError, sqlite3.Error) as error:
            self._items.extendleft(reversed(batch))
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - the thread must outlive what it is given
            self.lost += len(batch)
            self._warn(f"{len(batch)} entries of {self.path.name} were given up: {error!r}")

    def _open(self) -> None:
        if self._connection is not None:
            return
        opened = open_database(self.path, self._schema)
        self._connection = opened.connection
        if opened.set_aside is not None:
            self._warn(f"{self.path.name} was damaged; it lies at {opened.set_aside.name} now")

    def _fail(self, error: Exception) -> None:
        is_damage = isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        )
        if is_damage and self._connection is not None:
            self._connection.close()  # opened anew, it is checked and set aside
            self._connection = None
        if not self._failed:
            self._warn(f"{self.path.name} cannot be written: {error}")
        self._failed = str(error)
