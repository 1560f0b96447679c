"""
Spending of an entry and its clients per day and month, exact across processes and crashes.

Each process has its own file, which it keeps locked and maps into memory; no other process writes
to it. The amount spent is the sum over all files, so no transaction is needed, and no request waits
for a disk or a lock. Data in mapped memory survives a kill -9; after a power failure the last
seconds may be missing. A new process continues the file of an exited one. Reservations count only
while their process lives.

A file consists of rows of 64-bit numbers, one row per account and unit:

    name (two numbers), day, spent on that day, month, spent in that month, reserved, unused
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from ccproxy.files import allocate, claim_numbered, errors_about, is_claimed, open_private

NAME_BYTES = 16
"""Length of a row's name."""
RESCAN_SECONDS = 1.0
"""Seconds between two searches for files of other processes."""
MOST_PROCESSES = 255
MOST_ROWS = 1023
MOST_SPENT = 1 << 62
"""The largest sum; a provider may report any amount."""

_FORMAT = 0x6363_7370_656E_0001
"""The first number of a file; incremented with every change of the row format."""
_WIDTH = 8
_NAME, _DAY, _MONTH, _RESERVED = 0, 2, 4, 6
"""Indexes in a row; the amount of a period is the number after it."""
_SIZE = (MOST_ROWS + 1) * _WIDTH * 8
_PREFIX = "slot"
_SLOT = re.compile(rf"{_PREFIX}\.[0-9]{{1,3}}")
_TWO = struct.Struct("=qq")


class Periods(NamedTuple):
    """A day and a month of the user's calendar, as numbers."""

    day: int
    month: int


class Spent(NamedTuple):
    """The spending of one account; the unit is the caller's."""

    day: int
    month: int
    reserved: int
    own: int = 0
    """The part of `reserved` that belongs to this process."""

    def within(self, period: Literal["day", "month"]) -> int:
        """Return the amount spent in the current *period*."""
        return self.day if period == "day" else self.month


class Ledger(Protocol):
    """Counts the spending of an entry and its clients."""

    def add(self, name: bytes, amount: int, periods: Periods) -> None:
        """Add *amount* to the spending of *name* in *periods*."""

    def reserve(self, name: bytes, amount: int) -> None:
        """Add *amount* to the reservation of *name*; a negative amount releases it."""

    def spent(self, name: bytes, periods: Periods) -> Spent:
        """Return the sums of all processes."""

    def reserved_for_others(self, name: bytes, period: Literal["day", "month"], limit: int) -> int:
        """Return how much of *limit* must be left to processes that are currently unreachable."""

    def check_later(
        self, raise_problem: Callable[[], None]
    ) -> Callable[[], Awaitable[None]] | None:
        """
        Call *raise_problem* as soon as the other processes see this one's reservations.

        Return a function that waits for that and raises its Problem, or None if they already do.
        """

    def close(self) -> None:
        """Release the ledger's resources."""


class SpendingLedger:
    """
    The amounts of one entry, as read and written by one of its processes.

    If the folder is removed later and cannot be created again, the amounts are kept in memory, and
    *warn* is called with the reason.

    Raises:
        OSError: On creation, if the disk does not allow it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._warn = warn
        self._has_failed = False
        self._own = self._claim()
        self._others: dict[str, _Sheet] = {}
        self._scanned_at = -RESCAN_SECONDS
        self._changed_at = 0
        """The modification time of the folder at the last scan; 0 to scan again at once."""

    def add(self, name: bytes, amount: int, periods: Periods) -> None:
        """Add *amount* to the spending of *name* in *periods*."""
        self._own.add(name, amount, periods)

    def reserve(self, name: bytes, amount: int) -> None:
        """Add *amount* to the reservation of *name*; a negative amount releases it."""
        self._own.reserve(name, amount)

    def spent(self, name: bytes, periods: Periods) -> Spent:
        """Return the sums of all processes."""
        now = self._clock()
        if now - self._scanned_at >= RESCAN_SECONDS or self._has_new_files():
            self._scanned_at = now
            self._rescan()
        day, month, reserved, own = self._own.read(name, periods)
        for sheet in self._others.values():
            other = sheet.read(name, periods)
            day, month = day + other.day, month + other.month
            reserved += other.reserved if sheet.is_live else 0
        return Spent(day, month, reserved, own)

    def reserved_for_others(self, name: bytes, period: Literal["day", "month"], limit: int) -> int:
        """Return 0: every process sees all others."""
        del name, period, limit
        return 0

    def check_later(
        self, raise_problem: Callable[[], None]
    ) -> Callable[[], Awaitable[None]] | None:
        """Return None: the other processes see a reservation before the first check."""
        del raise_problem
        return None

    def close(self) -> None:
        """Close the files; this process's reservations end."""
        for sheet in (self._own, *self._others.values()):
            sheet.close()

    def _claim(self) -> _Sheet:
        with errors_about(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            number, fd = claim_numbered(self._folder, _PREFIX, most=MOST_PROCESSES)
            sheet = _Sheet(self._folder / f"{_PREFIX}.{number}", fd)
        sheet.begin()
        return sheet

    def _has_new_files(self) -> bool:
        """Return whether files were added or removed since the last scan."""
        try:
            return self._folder.stat().st_mtime_ns != self._changed_at
        except OSError:
            return False  # the folder was removed; the next regular scan creates it again

    def _rescan(self) -> None:
        try:
            self._scan()
        except OSError as error:
            # Removed files that cannot be created again still count while they are open.
            if not self._has_failed:
                self._warn(f"{error.filename}: {error.strerror}; spending is not saved")
            self._has_failed = True
        else:
            self._has_failed = False

    def _scan(self) -> None:
        """
        Find the files of other processes, and determine which processes are alive.

        Raises:
            OSError: If the folder was removed and cannot be created again.
        """
        if not self._own.is_in_place():  # the folder was removed
            old = self._own
            self._own = self._claim()
            self._own.merge(old)
            old.close()
            if (ended := self._others.pop(self._own.path.name, None)) is not None:
                ended.close()  # this process continues its file
        for name in [name for name, sheet in self._others.items() if not sheet.is_in_place()]:
            self._others.pop(name).close()
        self._changed_at = self._folder.stat().st_mtime_ns
        for path in self._folder.iterdir():
            if path == self._own.path or not _SLOT.fullmatch(path.name):
                continue
            if path.name not in self._others:
                with suppress(OSError):
                    fd = open_private(path, os.O_RDWR)
                    if os.fstat(fd).st_size < _SIZE:
                        os.close(fd)  # its process has just created it
                        self._changed_at = 0
                        continue
                    self._others[path.name] = _Sheet(path, fd)
        for sheet in self._others.values():
            sheet.is_live = is_claimed(sheet.fd)


class _Sheet:
    """The file of one process."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.is_live = True
        self._map = mmap.mmap(fd, allocate(fd, _SIZE))
        self._numbers = memoryview(self._map).cast("q")
        self._starts: dict[bytes, int] = {}
        """The start of each name's row."""
        self._rows = 0
        """The number of rows in `_starts`."""

    def begin(self) -> None:
        """Take over the file for writing; drop the reservations of its previous process."""
        if self._numbers[0] != _FORMAT:
            self._map[:] = bytes(_SIZE)
            self._numbers[0] = _FORMAT
        for row in range(1, self._count + 1):
            self._numbers[row * _WIDTH + _RESERVED] = 0

    def merge(self, other: _Sheet) -> None:
        """Add the amounts of *other*, as far as there is room; of two periods the later counts."""
        for row in range(1, other._count + 1):
            numbers = other._numbers[row * _WIDTH : (row + 1) * _WIDTH]
            try:
                start = self._find_or_add(_TWO.pack(*numbers[_NAME:_DAY]))
            except OSError:  # it has no room for another account
                continue
            for at in (_DAY, _MONTH):
                if numbers[at] >= self._numbers[start + at]:
                    self._add(start + at, numbers[at + 1], numbers[at])
            self._numbers[start + _RESERVED] += numbers[_RESERVED]

    def is_in_place(self) -> bool:
        """Return False if the file was removed or replaced."""
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self.fd))
        except OSError:
            return False

    def close(self) -> None:
        """Release the lock and the memory."""
        self._numbers.release()
        self._map.close()
        os.close(self.fd)

    def read(self, name: bytes, periods: Periods) -> Spent:
        """Return the amounts of *name*."""
        start = self._find(name)
        if start is None:
            return Spent(0, 0, 0)
        row = self._numbers[start : start + _WIDTH]
        return Spent(
            row[_DAY + 1] if row[_DAY] == periods.day else 0,
            row[_MONTH + 1] if row[_MONTH] == periods.month else 0,
            row[_RESERVED],
            row[_RESERVED],
        )

    def add(self, name: bytes, amount: int, periods: Periods) -> None:
        """Add *amount* to both periods of *name*; sums stay below the largest number."""
        start = self._find_or_add(name)
        self._add(start + _DAY, amount, periods.day)
        self._add(start + _MONTH, amount, periods.month)

    def reserve(self, name: bytes, amount: int) -> None:
        """Change the reserved amount of *name*."""
        start = self._find_or_add(name)
        total = self._numbers[start + _RESERVED] + amount
        self._numbers[start + _RESERVED] = min(max(0, total), MOST_SPENT)

    def _add(self, at: int, amount: int, period: int) -> None:
        """Add *amount* to the sum of *period*, whose number is at index *at*, before the sum."""
        if self._numbers[at] != period:
            # In this order, so that a reader never mistakes an old amount for a new one.
            self._numbers[at + 1] = 0
            self._numbers[at] = period
        self._numbers[at + 1] = min(self._numbers[at + 1] + amount, MOST_SPENT)

    @property
    def _count(self) -> int:
        if self._numbers[0] != _FORMAT:
            return 0
        return min(max(self._numbers[1], 0), MOST_ROWS)

    def _find(self, name: bytes) -> int | None:
        for row in range(self._rows + 1, self._count + 1):
            start = row * _WIDTH
            self._starts[_TWO.pack(*self._numbers[start + _NAME : start + _DAY])] = start
            self._rows = row
        return self._starts.get(name)

    def _find_or_add(self, name: bytes) -> int:
        start = self._find(name)
        if start is not None:
            return start
        row = self._count + 1
        if row > MOST_ROWS:
            raise OSError(f"{self.path} is full: {MOST_ROWS} accounts")
        start = row * _WIDTH
        self._numbers[start : start + _WIDTH] = memoryview(bytes(_WIDTH * 8)).cast("q")
        self._numbers[start + _NAME], self._numbers[start + _NAME + 1] = _TWO.unpack(name)
        self._numbers[1] = row
        self._starts[name] = start
        self._rows = row
        return start
