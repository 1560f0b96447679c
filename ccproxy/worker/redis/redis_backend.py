"""
A pool back end for replicas on several hosts: the state is in Redis, and each replica has a copy.

An operation is applied to the copy and committed by one script call, which succeeds if the copy is
the newest version. Otherwise the call returns the newer fields, and the operation is applied to
these and committed again. So the rules of the pool exist only once, in `ccproxy.keys`, and every
decision is based on the state that it changes. Operations that arrive during a call are committed
together in the next one: however many requests are waiting, a replica retries a single call.

A request waits at most `REDIS_TIMEOUT` for the commit of its lease. If Redis has not confirmed it
by then, the replica continues on its own copy with its share of the limits
(`keys.backends.partition`), and reports its changes later. A commit whose reply was lost counts as
a use.

All times are the server's. A replica that is silent for `LEASE_SECONDS` loses its leases.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from hashlib import sha1
from importlib.resources import files
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from ccproxy.keys.backends.backend import PoolState
from ccproxy.keys.backends.partition import Baseline, Partition, baseline_of, merge
from ccproxy.keys.key_state import MINUTE, KeyLimits
from ccproxy.keys.pool import Lease
from ccproxy.worker.redis.connection import RedisConnection, RedisError, Reply
from ccproxy.worker.redis.server_clock import ServerClock
from ccproxy.worker.redis.shared_ledger import SharedLedger, Sums
from ccproxy.worker.redis.state_fields import Fields, changed_fields, decode_fields

T = TypeVar("T")

FORMAT = 1
"""Part of every name in Redis; incremented when older versions can no longer read the state."""
LEASE_SECONDS = 20.0
BEAT_SECONDS = 1.0
RETRY_SECONDS = 0.25
GRACE_SECONDS = 2.5
"""How long replicas may take to report their copies after Redis has lost the state."""
SETTLE_SECONDS = 0.005
"""How long the first part of a settlement waits for the other parts."""
TURN_SECONDS = 0.002
"""Delay before retrying a commit that was refused because it is another replica's turn."""
READY_SECONDS = 4.0
"""How long a new replica waits for its first contact before it accepts requests."""

_MOST_DIGITS = 18
"""Maximum number of digits in a process number."""
_TICKS = 10
"""Number of timer ticks in the deadline of a call."""
_SCRIPT = files(__package__).joinpath("commit.lua").read_text()
_SHA = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_ENCODE = msgspec.msgpack.Encoder().encode

Connect = Callable[[], Awaitable[RedisConnection]]


class Commit(NamedTuple):
    """The reply from the script; times are in microseconds."""

    status: bytes
    epoch: bytes
    version: int
    since: int
    now: int
    newer: list[bytes | None]
    members: list[bytes]
    sums: list[Sums]

    @property
    def newer_fields(self) -> Fields:
        """The fields that are newer than the known version."""
        pairs = zip(self.newer[::2], self.newer[1::2], strict=False)
        return {name: data for name, data in pairs if name is not None and data is not None}

    @property
    def processes(self) -> list[int]:
        """The process numbers of the members; entries written by other programs are ignored."""
        return sorted(int(one) for one in self.members if one.isdigit() and len(one) < _MOST_DIGITS)


class _Operation(Generic[T]):
    """One unconfirmed operation."""

    __slots__ = ("apply", "error", "future", "is_applied", "result", "undo")

    def __init__(
        self,
        apply: Callable[[PoolState], T],
        future: asyncio.Future[T] | None = None,
        undo: Callable[[T], None] = lambda _result: None,
    ) -> None:
        self.apply = apply
        self.future = future
        """The future of the request that is waiting for the commit, or None."""
        self.undo = undo
        self.is_applied = future is None
        self.error: Exception | None = None
        self.result: T

    def run(self, state: PoolState) -> None:
        self.is_applied, self.error = True, None
        try:
            self.result = self.apply(state)
        except Exception as error:  # noqa: BLE001 - raised in the request that waits for it
            self.error = error

    def resolve(self) -> None:
        """Pass the result to the waiting request, or undo it if the request was cancelled."""
        if self.future is None:
            return
        if self.future.done():
            if self.error is None and self.is_applied:
                self.undo(self.result)
        elif self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class RedisBackend:
    """The state of a pool in Redis. Must be created inside the event loop."""

    is_first = True
    is_writer = True

    def __init__(
        self,
        connect: Connect,
        *,
        prefix: str,
        salt: bytes,
        limits: KeyLimits,
        timeout: float,
        replicas: int = 1,
        grace: float = GRACE_SECONDS,
        on_mode: Callable[[], None] = lambda: None,
    ) -> None:
        self.process = secrets.randbits(48)
        self.on_remote_change: Callable[[], None] = lambda: None
        self.on_mode = on_mode
        self.clock = ServerClock()
        self.is_shared = False
        self.reason = "not connected yet"
        """Why the replica is working without Redis."""
        self.since = time.time()
        """When the mode last changed."""
        self.members: tuple[int, ...] = ()
        self.calls = 0
        self._replies = 0
        self.repeated_calls = 0
        self.errors = 0
        self.on_call: Callable[[float], None] = lambda _seconds: None
        self._connect = connect
        self._keys = [f"{prefix}:{name}" for name in ("head", "state", "versions", "members")]
        self._salt = salt
        self._limits = limits
        self._timeout = timeout
        self._replicas = replicas
        self._grace = grace
        self._connection: RedisConnection | None = None
        self._state = PoolState(salt=salt)
        self._confirmed: Fields = {}
        self._epoch = b""
        self._version = 0
        self._pending: list[_Operation[Any]] = []
        self._sent: list[_Operation[Any]] | None = None
        self._sent_fields: Fields = {}
        self._is_scheduled = False
        self._late: asyncio.TimerHandle | None = None
        self._wants_members = False
        self._baseline: Baseline = {}
        self._partition: Partition | None = None
        self._own_starts: dict[str, deque[float]] = {}
        self._ledgers: dict[str, SharedLedger] = {}
        """Ledgers by their name in Redis."""
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self.has_contact = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # The interface of a back end.

    def reading(self) -> AbstractContextManager[PoolState]:
        """Return this replica's copy of the state."""
        return nullcontext(self._state)

    def run(self, operation: Callable[[PoolState], T], *, may_wait: bool = False) -> T:
        """Apply *operation* to the copy; commit it soon, or with a later one if *may_wait*."""
        result = operation(self._state)
        if self.is_shared:
            self._pending.append(_Operation(operation))
            if not may_wait:
                self._schedule_late()
        return result

    async def commit(self, operation: Callable[[PoolState], T], *, undo: Callable[[T], None]) -> T:
        """
        Apply *operation* to the newest state and return its result once it is confirmed.

        *undo* is called with the result if the caller is cancelled while waiting.
        """
        if not self.is_shared:
            return operation(self._own_state())
        future: asyncio.Future[T] = self._loop.create_future()
        self._pending.append(_Operation(operation, future, undo))
        try:
            return await self._wait(future)
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                undo(future.result())
            raise

    async def _wait(self, future: asyncio.Future[T]) -> T:
        """Send pending operations and wait for *future*; on a timeout, continue without Redis."""
        self._schedule()
        return await self._in_time(future)

    async def _in_time(self, future: asyncio.Future[T]) -> T:
        tick = self._timeout / _TICKS
        timer = self._loop.call_later(tick, self._expire, future, _TICKS, self._replies)
        try:
            return await future
        finally:
            timer.cancel()

    async def call(self, *command: str | int | bytes) -> Reply:
        """Send a command other than the script; raise RedisError if Redis is unavailable."""
        if not self.is_shared:
            raise RedisError(self.reason)
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._write(command, lambda reply: None if future.done() else future.set_result(reply))
        reply = await self._in_time(future)
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def ledger(self, name: str) -> SharedLedger:
        """Return the ledger *name* in Redis, which this pool's script calls keep up to date."""
        ledger = self._ledgers.get(name)
        if ledger is None:
            ledger = self._ledgers[name] = SharedLedger(
                replicas=self._replicas, on_change=self._schedule_late, wait=self._wait
            )
        return ledger

    def note_start(self, lease: Lease) -> None:
        """Note a use by this replica, which counts only its own uses while Redis is unavailable."""
        if self._limits.per_minute is None:
            return
        starts = self._own_starts.setdefault(lease.name, deque())
        starts.append(lease.started)
        while starts[0] <= lease.started - MINUTE:
            starts.popleft()

    def _own_state(self) -> PoolState:
        """Return the copy with the replica's current share of the limits."""
        if self._partition is not None:
            self._state.shares = self._partition.limits(self._limits, self.clock())
        return self._state

    # A commit.

    def _schedule(self) -> None:
        if not self._is_scheduled and self._sent is None:
            self._is_scheduled = True
            self._loop.call_soon(self._send)

    def _schedule_late(self, seconds: float = 0.0) -> None:
        """Send operations for which no request waits, delayed to include a whole settlement."""
        if self._late is None and not self._is_scheduled and self._sent is None:
            self._late = self._loop.call_later(seconds or SETTLE_SECONDS, self._send)

    def _send(self) -> None:
        self._is_scheduled = False
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if not self.is_shared or self._sent is not None:
            return
        self._sent, self._pending = self._pending, []
        for operation in self._sent:
            if not operation.is_applied:
                operation.run(self._state)
        self._sent_fields = changed_fields(self._state, self._confirmed)
        self._call(self._epoch, self._version, self._sent_fields, self._on_reply)

    def _call(
        self,
        epoch: bytes,
        version: int,
        fields: Fields,
        on_reply: Callable[[Commit | RedisError], None],
        *,
        new_epoch: str = "",
        life: float = LEASE_SECONDS,
    ) -> None:
        pairs = [part for field in fields.items() for part in field]
        member_count = 0 if version < 0 or self._wants_members else len(self.members)
        self._wants_members = False
        ledgers = {name: one for name, one in self._ledgers.items() if one.has_changed}
        batches = _ENCODE([ledger.batch() for ledger in ledgers.values()]) if ledgers else b""
        arguments = (
            *(len(self._keys) + len(ledgers), *self._keys, *ledgers, self.process),
            *(int(life * 1000), epoch, version, new_epoch, member_count, batches, *pairs),
        )
        self.calls += 1
        on_result = partial(self._read, tuple(ledgers.values()), on_reply, time.monotonic())

        def on_first_result(reply: Reply) -> None:
            if isinstance(reply, RedisError) and str(reply).startswith("NOSCRIPT"):
                self._write(("EVAL", _SCRIPT, *arguments), on_result)
            else:
                on_result(reply)

        self._write(("EVALSHA", _SHA, *arguments), on_first_result)

    def _read(
        self,
        ledgers: Sequence[SharedLedger],
        on_reply: Callable[[Commit | RedisError], None],
        sent_at: float,
        reply: Reply,
    ) -> None:
        received_at = time.monotonic()
        self._replies += 1
        self.on_call(received_at - sent_at)
        if isinstance(reply, RedisError):
            on_reply(reply)
            return
        try:
            commit = msgspec.convert(reply, Commit)
        except msgspec.ValidationError as error:
            on_reply(RedisError(_unreadable(error)))
            return
        self.clock.note(commit.now / 1e6, sent_at, received_at)
        for ledger, sums in zip(ledgers, commit.sums, strict=False):
            ledger.note(sums)
        on_reply(commit)

    def _write(self, command: tuple[Any, ...], on_reply: Callable[[Reply], None]) -> None:
        try:
            if self._connection is None:
                raise RedisError("not connected")
            self._connection.send(command, on_reply)
        except RedisError as error:
            self._loop.call_soon(on_reply, error)

    def _on_reply(self, reply: Commit | RedisError) -> None:
        if self._sent is None:
            return
        if isinstance(reply, RedisError):
            self._leave(str(reply))
            return
        self._note_members(reply.processes)
        if reply.status == b"OK":
            self._confirm(reply.version)
        elif reply.status in (b"NEWER", b"BUSY"):
            self.repeated_calls += 1
            self._adopt(reply)
        elif reply.status == b"EXPIRED":
            self._leave(f"this replica was silent for {LEASE_SECONDS:g} s")
        else:
            self._leave("Redis has lost the state")

    def _confirm(self, version: int) -> None:
        self._confirmed.update(self._sent_fields)
        self._version = version
        done, self._sent = self._sent or [], None
        for operation in done:
            operation.resolve()
        if self._pending or any(ledger.has_changed for ledger in self._ledgers.values()):
            self._schedule()

    def _adopt(self, reply: Commit) -> None:
        """Apply the unconfirmed operations to the newer state and commit them again."""
        self._pending, self._sent = [*(self._sent or ()), *self._pending], None
        is_newer = reply.version != self._version
        if is_newer:
            try:
                self._rebuild({**self._confirmed, **reply.newer_fields}, reply.version)
            except msgspec.DecodeError as error:
                self._leave(_unreadable(error))
                return
        if reply.status == b"BUSY":
            self._schedule_late(TURN_SECONDS)
        else:
            self._send()
        if is_newer:
            self.on_remote_change()

    def _rebuild(self, fields: Fields, version: int) -> None:
        """Rebuild the copy from the confirmed *fields* and the pending operations."""
        previous = self._state
        self._state = decode_fields(fields, self._salt)
        self._confirmed, self._version = fields, version
        self._state.sessions.adopt(previous.sessions)
        for operation in self._pending:
            if operation.future is None:
                operation.run(self._state)
            else:
                operation.is_applied = False

    def _expire(self, future: asyncio.Future[Any], ticks: int, replies: int) -> None:
        """
        End the wait for *future* after *ticks* ticks; *replies* is the reply count at its start.

        A single timer would also count the time during which this process, or the whole machine,
        was suspended. Before the last tick, a reply that has already arrived is read. If Redis has
        replied but other replicas committed first, the deadline is extended once by the same time.
        """
        if future.done():
            return
        if ticks > 0:
            wait = self._timeout / _TICKS if ticks > 1 else 0.001
            self._loop.call_later(wait, self._expire, future, ticks - 1, replies)
        elif replies < 0:
            self._leave(f"other replicas committed first for {self._timeout * 2000:g} ms")
        elif replies != self._replies:
            self._expire(future, _TICKS, -1)
        else:
            self._leave(f"no reply within {self._timeout * 1000:g} ms")

    # Without Redis.

    def _leave(self, reason: str) -> None:
        """Continue on this replica's own copy."""
        self.errors += 1
        self._pending, self._sent = [*(self._sent or ()), *self._pending], None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if not self.is_shared:
            self.reason = reason
            return
        self._set_mode(is_shared=False, reason=reason)
        unconfirmed = self._state
        self._rebuild(self._confirmed, self._version)
        self._separate(decode_fields(self._confirmed, self._salt), unconfirmed)
        pending, self._pending = self._pending, []
        for operation in pending:
            if operation.future is not None and not operation.future.done():
                operation.run(self._own_state())
                operation.resolve()
        self._wake.set()

    def _separate(self, confirmed: PoolState, unconfirmed: PoolState) -> None:
        """
        Compute this replica's shares, and drop the part of the state that other replicas maintain.

        Redis contains either the *confirmed* or the *unconfirmed* state.
        """
        self._baseline = baseline_of(confirmed)
        now = self.clock()
        for key in self._state.keys.values():
            in_flight = key.flights.get(self.process)
            key.flights = {self.process: in_flight} if in_flight else {}
        self._state.line.clear()
        members = sorted({*self.members, self.process})
        has_joined = self.has_contact.is_set()
        own, foreign = dict[str, int](), dict[str, list[float]]()
        for name, key in self._state.keys.items():
            starts = [start for start in key.minute if start > now - MINUTE]
            mine = {*self._own_starts.get(name, ())}
            foreign[name] = [start for start in starts if start not in mine]
            own[name] = len(starts) - len(foreign[name])
        self._partition = Partition(
            at=now,
            replicas=len(members) if has_joined else self._replicas,
            rank=members.index(self.process) if has_joined else None,
            baseline=baseline_of(self._state),
            leases={name: key.in_flight for name, key in confirmed.keys.items()},
            own_leases={
                name: min(
                    state.keys[name].flights.get(self.process, 0)
                    for state in (confirmed, unconfirmed)
                )
                for name in confirmed.keys
            },
            own_starts=own,
            foreign_starts=foreign,
        )
        for ledger in self._ledgers.values():
            ledger.separate()

    def _set_mode(self, *, is_shared: bool, reason: str) -> None:
        self.is_shared, self.reason, self.since = is_shared, reason, time.time()
        self.on_mode()

    # Contact.

    def start(self) -> None:
        """Start connecting."""
        self._separate(self._state, self._state)
        self._task = self._loop.create_task(self._maintain())

    async def wait_for_contact(self) -> None:
        """Wait until the state is shared, but at most `READY_SECONDS`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                await self.has_contact.wait()

    async def close(self) -> None:
        """Commit pending operations, release the leases and the membership, and disconnect."""
        if self._task is not None:
            self._task.cancel()
        if self.is_shared:
            with suppress(RedisError, TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await self.commit(
                        lambda state: state.without_processes({self.process}),
                        undo=lambda _state: None,
                    )
                    for ledger in self._ledgers.values():
                        ledger.refresh()
                    await self._request(b"", -1, {}, life=0)
        self.is_shared = False
        if self._connection is not None:
            self._connection.close()

    async def _maintain(self) -> None:
        while True:
            self._wake.clear()
            try:
                wait = await (self._beat() if self.is_shared else self._join())
            except (RedisError, TimeoutError) as error:
                self._leave(str(error) or f"no reply within {self._timeout * 1000:g} ms")
                wait = RETRY_SECONDS
            except (msgspec.DecodeError, OverflowError) as error:
                self._leave(_unreadable(error))
                wait = BEAT_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    async def _beat(self) -> float:
        """Renew this replica's leases and reservations, and release those of departed replicas."""
        self._wants_members = True
        for ledger in self._ledgers.values():
            ledger.refresh()
        await self.commit(lambda _state: None, undo=lambda _result: None)
        return BEAT_SECONDS

    def _note_members(self, members: list[int]) -> None:
        if not members:
            return
        self.members = tuple(members)
        departed = self._state.processes() - {*self.members, self.process}
        if departed and self.is_shared:
            self._pending.append(_Operation(lambda state: state.without_processes(departed)))
            self._state.without_processes(departed)
            self._loop.call_soon(self.on_remote_change)

    async def _request(
        self, epoch: bytes, version: int, fields: Fields, *, new_epoch: str = "", life: float = 20.0
    ) -> Commit:
        future: asyncio.Future[Commit | RedisError] = self._loop.create_future()

        def on_reply(reply: Commit | RedisError) -> None:
            if not future.done():
                future.set_result(reply)

        self._call(epoch, version, fields, on_reply, new_epoch=new_epoch, life=life)
        async with asyncio.timeout(self._timeout):
            reply = await future
        if isinstance(reply, RedisError):
            raise reply
        return reply

    async def _join(self) -> float:
        """Report the changes made without Redis; use the shared state after the grace period."""
        if self._connection is None:
            self._connection = await self._connect()
            self._connection.on_lost = self._leave
        commit = await self._request(b"", -1, {})
        epoch, version, fields = commit.epoch, commit.version, commit.newer_fields
        # Replicas join a new state one by one; until all have, this one's share must not grow.
        self.members = tuple(sorted({*commit.processes, *self.members}))
        grace = commit.since / 1e6 + self._grace - self.clock() if epoch else self._grace
        is_rebuilt = epoch != self._epoch and (not epoch or grace > 0 or bool(self._epoch))
        if not epoch or grace > 0:
            if not await self._report(epoch, version, fields, is_rebuilt=is_rebuilt):
                return 0.02
            return min(RETRY_SECONDS, max(grace, 0.0) + 0.01)
        self._share_again(fields, version, is_rebuilt=is_rebuilt)
        self._epoch, self.members = epoch, tuple(commit.processes)
        return BEAT_SECONDS

    async def _report(
        self, epoch: bytes, version: int, fields: Fields, *, is_rebuilt: bool
    ) -> bool:
        """Merge this replica's copy into a new state; return False if another replica was first."""
        state = decode_fields(fields, self._salt)
        merge(self._state, state, self.process, self._baseline, is_rebuilt=is_rebuilt)
        reported = baseline_of(self._state)
        changed = changed_fields(state, fields)
        new_epoch = "" if epoch else secrets.token_hex(8)
        reply = await self._request(epoch, version if epoch else 0, changed, new_epoch=new_epoch)
        if reply.status != b"OK":
            return False
        self._epoch, self._baseline = reply.epoch, reported
        return True

    def _share_again(self, fields: Fields, version: int, *, is_rebuilt: bool) -> None:
        own, baseline, process = self._state, self._baseline, self.process
        own.shares = {}

        def report(state: PoolState) -> None:
            merge(own, state, process, baseline, is_rebuilt=is_rebuilt)

        self._pending = [_Operation(report)]
        self._rebuild(fields, version)
        self._partition = None
        for ledger in self._ledgers.values():
            ledger.join()
        self._set_mode(is_shared=True, reason="")
        self.has_contact.set()
        self._wants_members = True
        self._schedule()
        self.on_remote_change()


def _unreadable(error: Exception) -> str:
    return f"the state in Redis is not from this version of ccproxy ({error})"
