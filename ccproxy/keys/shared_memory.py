"""
One pool for several worker processes of an entry: one rotation, one set of rests and counts.

Theory of operation: what a pool knows lies in a small file that every process maps into memory.
Every step of the pool (take, settle, release …) locks the file, reads it if somebody else was
there last, and writes what has changed; that takes some 50 µs. Of two areas in the file, one is
valid: a process that is killed while it writes leaves the other.

Each process holds a place, a file that it keeps locked as long as it lives. So the others see
when it is gone, and its permits and probes are given up. The process with the lowest place keeps
the pool on disk. The file is only worth something while somebody holds a place; who comes first
begins it anew.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import secrets
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ccproxy.errors import Problem
from ccproxy.keys.display import KeyShown
from ccproxy.keys.pool import KeyPool, Lease, PoolLive
from ccproxy.keys.verdict import Verdict

LOOK_EVERY_SECONDS = 0.05
"""How soon a permit that came back elsewhere is noticed by those who wait for one."""
FORM = 2
"""Counts up with every change of `PoolLive`: processes of two versions share nothing."""
COUNT_EVERY = 20
"""So many looks pass between two roll calls."""

_PLACES = 256
_AREA = 4 << 20
_VERSION = struct.Struct("<Q")
_LENGTH = struct.Struct("<I")
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(PoolLive)
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Table:
    """
    The file that the processes of one entry share, and this process's place at it.

    Raises:
        OSError: On opening, if the disk does not allow it.

    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._fd = os.open(folder / "table", _FLAGS, 0o600)
        self._map = mmap.mmap(self._fd, _reserve(self._fd))
        with self.locked():
            is_first = not self.living()
            self.place, self._place_fd = self._sit_down()
            # What the last one at this place held is nobody's any more.
            left = PoolLive(salt=secrets.token_bytes(16)) if is_first else self.read()
            self.write(left.without({self.place}))
        self.is_first = is_first
        """Whether nobody else was there."""

    @property
    def version(self) -> int:
        """Counts up with everything that is written."""
        (version,) = _VERSION.unpack_from(self._map)
        return int(version)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the others out; the system lets them in again should we be killed."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def read(self) -> PoolLive:
        """Return what was written last."""
        start = self._area(self.version)
        (length,) = _LENGTH.unpack_from(self._map, start)
        start += _LENGTH.size
        return _DECODER.decode(self._map[start : start + length])

    def write(self, live: PoolLive) -> None:
        """Put *live* into the area that is not valid, then make it the valid one."""
        data = _ENCODER.encode(live)
        version = self.version + 1
        start = self._area(version)
        _LENGTH.pack_into(self._map, start, len(data))
        start += _LENGTH.size
        self._map[start : start + len(data)] = data
        _VERSION.pack_into(self._map, 0, version)

    def living(self) -> set[int]:
        """Return the places that are taken."""
        numbers = (int(path.suffix[1:]) for path in self._folder.glob("place.*"))
        return {number for number in numbers if not self._is_free(number)}

    def close(self) -> None:
        """Give the place up."""
        os.close(self._place_fd)
        self._map.close()
        os.close(self._fd)

    def _sit_down(self) -> tuple[int, int]:
        for number in range(1, _PLACES):
            fd = os.open(self._place(number), _FLAGS, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                continue
            return number, fd
        raise OSError(f"{_PLACES} processes share {self._folder}")

    def _is_free(self, number: int) -> bool:
        fd = os.open(self._place(number), _FLAGS, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        return True

    def _place(self, number: int) -> Path:
        return self._folder / f"place.{number}"

    @staticmethod
    def _area(version: int) -> int:
        return _VERSION.size + (version & 1) * _AREA


def _reserve(fd: int) -> int:
    """Make the file as large as it ever gets, now: a full disk would kill us while we write."""
    size = _VERSION.size + 2 * _AREA
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError:
            os.close(fd)
            raise
    else:
        os.ftruncate(fd, size)
    return size


class SharedPool(KeyPool):
    """A pool that all processes of an entry have in common."""

    def __init__(self, keys: Collection[str], *, table: Table, **how: Any) -> None:  # noqa: ANN401 - KeyPool's
        super().__init__(keys, **how)
        self._table = table
        self._me = table.place
        self._there = table.read()
        self._seen = 0
        self._is_inside = False
        self._timer: asyncio.TimerHandle | None = None
        self._looks = 0

    # What each step is wrapped in...

    @contextmanager
    def _together(self, *, changes: bool = True) -> Iterator[None]:
        if self._is_inside:
            yield
            return
        with self._table.locked():
            self._is_inside = True
            try:
                self._catch_up()
                yield
                if changes:
                    self._publish()
            finally:
                self._is_inside = False

    def _catch_up(self) -> None:
        if self._table.version != self._seen:
            self._there = self._table.read()
            self._seen = self._table.version
            self.revive(self._there)

    def _publish(self) -> None:
        self._there = self.live(self._there)
        self._table.write(self._there)
        self._seen = self._table.version

    # ...and the steps.

    def take(self, model: str, *, skip: Collection[str] = ()) -> Lease:
        """As `KeyPool.take`."""
        with self._together():
            return super().take(model, skip=skip)

    def take_this(self, key_id: str, model: str) -> Lease:
        """As `KeyPool.take_this`."""
        with self._together():
            return super().take_this(key_id, model)

    def settle(self, lease: Lease, verdict: Verdict) -> None:
        """As `KeyPool.settle`."""
        with self._together():
            super().settle(lease, verdict)

    def release(self, lease: Lease) -> None:
        """As `KeyPool.release`."""
        with self._together():
            super().release(lease)

    def is_full(self, model: str, *, skip: Collection[str] = ()) -> bool:
        """As `KeyPool.is_full`."""
        with self._together(changes=False):
            return super().is_full(model, skip=skip)

    def refusal(self, model: str, *, skip: Collection[str] = (), last: str = "") -> Problem:
        """As `KeyPool.refusal`."""
        with self._together(changes=False):
            return super().refusal(model, skip=skip, last=last)

    def snapshot(self) -> tuple[KeyShown, ...]:
        """As `KeyPool.snapshot`."""
        with self._together(changes=False):
            return super().snapshot()

    @property
    def provider_rests_for(self) -> float | None:
        """As `KeyPool.provider_rests_for`."""
        with self._together(changes=False):
            return super().provider_rests_for

    def disable(self, key_id: str) -> None:
        """As `KeyPool.disable`."""
        with self._together():
            super().disable(key_id)

    def enable(self, key_id: str) -> None:
        """As `KeyPool.enable`."""
        with self._together():
            super().enable(key_id)

    def reset(self, key_id: str | None = None) -> None:
        """As `KeyPool.reset`."""
        with self._together():
            super().reset(key_id)

    def export(self, salt: bytes) -> dict[str, dict[str, Any]]:
        """As `KeyPool.export`."""
        with self._together(changes=False):
            return super().export(salt)

    def restore(self, kept: Mapping[str, dict[str, Any]], salt: bytes) -> None:
        """As `KeyPool.restore`; whoever comes later learns it from the first."""
        if self._table.is_first:
            with self._together():
                super().restore(kept, salt)

    @property
    def is_kept_here(self) -> bool:
        """Whether this process has the lowest place of those that live."""
        return min(self._table.living() | {self._me}) == self._me

    # What the others do meanwhile.

    def watch(self) -> None:
        """Look now and then from now on; must be called inside the event loop."""
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_SECONDS, self._look)

    def close(self) -> None:
        """Look no more, and leave the table."""
        if self._timer is not None:
            self._timer.cancel()
        self._table.close()

    def _look(self) -> None:
        self._looks += 1
        if self._looks % COUNT_EVERY == 0:
            self._call_the_roll()
        if self._table.version != self._seen:
            with self._together(changes=False):
                self.on_change()
            self.on_permit()
        self.watch()

    def _call_the_roll(self) -> None:
        """Take from those that are gone what they held."""
        with self._together(changes=False):
            gone = _holders(self._there) - self._table.living() - {self._me}
            if gone:
                self._there = self._there.without(gone)
                self.revive(self._there)
                self._publish()
                self.on_permit()


def _holders(live: PoolLive) -> set[int]:
    """Return who holds permits or probes."""
    holders = {who for key in live.keys.values() for who, count in key.flights.items() if count}
    rests = [rest for key in live.keys.values() for rest in key.rests.values()]
    probes = [live.provider_probed_by, *(rest.probed_by for rest in rests)]
    return holders | {probe[0] for probe in probes if probe is not None}
