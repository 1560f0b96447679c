"""
A pool back end for several worker processes of one entry, with one rotation and set of cooldowns.

The state is in a small file that every process maps into memory. A transaction locks the file,
reads it if another process has changed it, and writes any changes; that takes about 50 µs. One of
two areas in the file is valid, so a process that is killed while writing does not damage the state.

Each process owns a slot: a file that it keeps locked while it runs. The others notice when it
exits, and release its leases and probes. The process with the lowest slot saves the pool to
disk. A process that finds no others starts with an empty state.

A process that is stopped while it holds the lock must not block the others, which wait for
`LOCK_TIMEOUT`, then use their own copy of the state for a while and merge it later.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import secrets
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import msgspec

from ccproxy.files import allocate, claim_numbered, is_claimed, open_private
from ccproxy.keys.backends.backend import PoolState, T
from ccproxy.keys.backends.partition import Baseline, baseline_of, merge
from ccproxy.keys.sessions import SessionTable

POLL_SECONDS = 0.05
"""How soon waiting requests notice a lease that another process has released."""
FORMAT = 6
"""Incremented with every change to `PoolState`, so that different versions share nothing."""
POLLS_PER_REAPING = 20
LOCK_TIMEOUT = 0.25
"""Seconds that a transaction waits for the lock; it blocks the event loop."""
DETACHED_SECONDS = 5.0
"""Seconds for which a process uses its own copy if the lock could not be acquired."""

_LOCK_POLL = 0.0005
_SLOTS = 255
_AREA = 4 << 20
_VERSION = struct.Struct("<Q")
_LENGTH = struct.Struct("<I")
_SIZE = _VERSION.size + 2 * _AREA
_ENCODER = msgspec.msgpack.Encoder(enc_hook=SessionTable.encoded)
_DECODER = msgspec.msgpack.Decoder(PoolState, dec_hook=lambda kind, data: kind(data))
_FLAGS = os.O_RDWR | os.O_CREAT


class SharedMemoryBackend:
    """
    The state of a pool in a file that the processes of one entry share.

    Raises:
        OSError: If the file cannot be created or mapped.
    """

    def __init__(self, folder: Path, *, warn: Callable[[str], None] = lambda _: None) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._warn = warn
        self._fd = open_private(folder / "table", _FLAGS)
        self._map = mmap.mmap(self._fd, allocate(self._fd, _SIZE))
        self._depth = 0
        self._seen = -1
        self._has_news = False
        """True if another process has changed the state since the last `on_remote_change`."""
        self._detached_until = 0.0
        self._has_own_changes = False
        self._baseline: Baseline = {}
        self._timer: asyncio.TimerHandle | None = None
        self._polls = 0
        self.on_remote_change: Callable[[], None] = lambda: None
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # blocking is harmless during start-up
        try:
            self._is_first = not self.live_processes()
            self.process, self._slot_fd = claim_numbered(folder, "slot", most=_SLOTS)
            # A previous owner of this slot will not release its leases.
            new = PoolState(salt=secrets.token_bytes(16))
            self._state = new if self._is_first else self._read()
            self._write(self._state.without_processes({self.process}))
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    @property
    def is_first(self) -> bool:
        """True if no other live process was using the state when this one opened it."""
        return self._is_first

    @property
    def is_writer(self) -> bool:
        """True if this process has the lowest slot of all live processes."""
        return min(self.live_processes() | {self.process}) == self.process

    @property
    def is_detached(self) -> bool:
        """True while this process uses its own copy of the state."""
        return time.monotonic() < self._detached_until

    def reading(self) -> AbstractContextManager[PoolState]:
        """Return the state, which is locked against other processes until the context ends."""
        return self._transaction(changes=False)

    def run(self, operation: Callable[[PoolState], T], *, may_wait: bool = False) -> T:
        """Apply *operation* to the state and publish the change."""
        del may_wait
        with self._transaction(changes=True) as state:
            return operation(state)

    @contextmanager
    def _transaction(self, *, changes: bool) -> Iterator[PoolState]:
        if self._depth or not self._lock():
            # A transaction that is nested or has no lock does not access the file.
            self._has_own_changes |= changes and not self._depth
            yield self._state
            return
        self._depth += 1
        try:
            self._catch_up()
            yield self._state
            if changes or self._has_own_changes:
                self._write(self._state)
                self._has_own_changes = False
        finally:
            self._depth -= 1
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _lock(self) -> bool:
        """Lock the file; return False if a stuck process holds the lock."""
        now = time.monotonic()
        if now < self._detached_until:
            return False
        deadline = now + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    break
                time.sleep(_LOCK_POLL)
            else:
                return True
        self._detached_until = time.monotonic() + DETACHED_SECONDS
        if not self._has_own_changes:
            self._baseline = baseline_of(self._state)
        self._warn(
            f"another process of this entry holds the lock of {self._folder} and is stuck; "
            f"this process will use its own copy for {DETACHED_SECONDS:g} s"
        )
        return False

    def _catch_up(self) -> None:
        """Read the state if it has changed, and merge this process's unshared changes into it."""
        if self._version == self._seen:
            return
        self._has_news = True
        own, self._state = self._state, self._read()
        self._seen = self._version
        self._state.sessions.adopt(own.sessions)
        if self._has_own_changes:
            merge(own, self._state, self.process, self._baseline)

    @property
    def _version(self) -> int:
        """A number that increases with every write."""
        (version,) = _VERSION.unpack_from(self._map)
        return int(version)

    def _read(self) -> PoolState:
        start = self._area(self._version)
        (length,) = _LENGTH.unpack_from(self._map, start)
        start += _LENGTH.size
        return _DECODER.decode(self._map[start : start + length])

    def _write(self, state: PoolState) -> None:
        """Write *state* to the invalid area, then make that area the valid one."""
        data = _ENCODER.encode(state)
        version = self._version + 1
        start = self._area(version)
        _LENGTH.pack_into(self._map, start, len(data))
        start += _LENGTH.size
        self._map[start : start + len(data)] = data
        _VERSION.pack_into(self._map, 0, version)
        self._seen = version

    # The other processes.

    def live_processes(self) -> set[int]:
        """Return the slots that are in use."""
        numbers = (int(path.suffix[1:]) for path in self._folder.glob("slot.*"))
        return {number for number in numbers if self._is_live(number)}

    def watch(self) -> None:
        """Poll for changes of other processes; must be called inside the event loop."""
        self._timer = asyncio.get_running_loop().call_later(POLL_SECONDS, self._poll)

    def close(self) -> None:
        """Stop polling and release the slot."""
        if self._timer is not None:
            self._timer.cancel()
        os.close(self._slot_fd)
        self._map.close()
        os.close(self._fd)

    def _poll(self) -> None:
        self._polls += 1
        if not self.is_detached:
            if self._polls % POLLS_PER_REAPING == 0:
                with suppress(OSError):  # no descriptor is free; try again in a second
                    self._reap_dead()
            if self._version != self._seen:
                with self.reading():
                    pass
            if self._has_news:
                self._has_news = False
                self.on_remote_change()
        self.watch()

    def _reap_dead(self) -> None:
        """Release the leases and probes of processes that have exited."""
        with self.reading() as state:
            dead = state.processes() - self.live_processes() - {self.process}
            if dead and not self.is_detached:
                self._write(state.without_processes(dead))
        self._has_news |= bool(dead)

    def _is_live(self, number: int) -> bool:
        fd = open_private(self._slot(number), _FLAGS)
        try:
            return is_claimed(fd)
        finally:
            os.close(fd)

    def _slot(self, number: int) -> Path:
        return self._folder / f"slot.{number}"

    @staticmethod
    def _area(version: int) -> int:
        return _VERSION.size + (version & 1) * _AREA
