"""
The key pool: selects the key for each request, and explains why none is available.

`take` leases a ready key: the one of the request's session, or else the one with the fewest
requests in flight, and among equals the one that has been unused longest; this is plain rotation if
requests arrive one by one (`key_selection` has the other strategies). The caller sends the request,
judges the response and calls `settle`; once the response is complete, it calls `release`.

Each of these is one operation on the state without side effects, which a back end may apply
under a lock, or again after a conflict.

* The only key of a pool never cools down: its refusals reach the client.
* A key whose cooldown is over is probed by one request at a time until one succeeds.
* Rate limits of the same model on three keys in a row that name no key, model or quota are
  attributed to the account or address. All keys then stop for this model, no key is blamed, and
  one request at a time probes. If a second model is refused during that time, all models stop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ccproxy.convert.errors.causes import Cause
from ccproxy.errors import Problem
from ccproxy.keys.account_report import AccountReport
from ccproxy.keys.backends.backend import (
    WHOLE_ACCOUNT,
    AccountLimit,
    LocalBackend,
    PoolBackend,
    PoolState,
    seconds_left,
)
from ccproxy.keys.cooldown import LONGEST_COOLDOWN, Probe
from ccproxy.keys.display import (
    TEMPORARY,
    AccountLimitView,
    KeyView,
    MoveView,
    describe_account_limit,
    describe_obstacles,
    limit_problem,
    quote_error,
    view_key,
)
from ccproxy.keys.key_selection import (
    REFUSED_REQUEST,
    REMOVED,
    Candidate,
    PoolKey,
    bounded_name,
    salted_name,
    select_by_weight,
    select_for_session,
    select_in_turn,
)
from ccproxy.keys.key_state import (
    NO_ERROR,
    KeyLimits,
    KeyState,
    Obstacle,
)
from ccproxy.keys.policy import KeyPolicy
from ccproxy.keys.sessions import Move, SavedSession, SessionRef
from ccproxy.keys.verdict import Effect, Verdict
from ccproxy.text import mask_key

ACCOUNT_LIMIT_KEYS = 3
"""Number of keys that must be limited in a row for the account to be considered limited."""
ACCOUNT_LIMIT_GAP = 2.0
"""Maximum seconds between two such limits."""
ACCOUNT_LIMIT_NO_SUCCESS = 10.0
"""Minimum seconds without a successful request for the model."""
ACCOUNT_PROBE_EVERY = 5.0
_MOST_MODELS = 256
"""Maximum number of models to track, because clients may name any number of them."""

NO_LIMITS = KeyLimits()
ROTATION = KeyPolicy()


@dataclass(slots=True, kw_only=True, eq=False)
class Lease:
    """The use of one key by one attempt."""

    secret: str = field(repr=False)
    id: str
    tail: str
    """The key for display: `…last4`."""
    model: str
    name: str = ""
    """The salted name of the key's state."""
    started: float = 0.0
    """When the lease began, by the pool's clock."""
    probe: Probe = (0, 0)
    """The process number and turn of this lease."""
    probed_cooldowns: tuple[str, ...] = ()
    probed_limits: tuple[str, ...] = ()
    session: str = ""
    """The ID of the row in the session table; empty if the request has no session."""
    is_test: bool = False
    """True if the user is testing this key, which may be disabled or cooling down."""
    is_settled: bool = False
    is_released: bool = False

    @property
    def is_probe(self) -> bool:
        """True if the request tests whether a cooldown or a limit is over."""
        return bool(self.probed_cooldowns or self.probed_limits)


class KeyPool:
    """Leases keys in turn; a key that the provider has refused has to cool down first."""

    def __init__(
        self,
        keys: Iterable[str],
        *,
        provider: str,
        clock: Callable[[], float],
        wall: Callable[[], float],
        jitter: Callable[[], float],
        limits: KeyLimits = NO_LIMITS,
        policy: KeyPolicy = ROTATION,
        command: str = "",
        backend: PoolBackend | None = None,
    ) -> None:
        """*command* is the command that lists these keys; it is mentioned in refusals."""
        self._keys = [
            PoolKey(
                secret=key,
                id=f"k{position + 1}",
                tail=mask_key(key),
                tier=policy.tier(position),
                weight=policy.weight(position),
            )
            for position, key in enumerate(dict.fromkeys(keys))
        ]
        self._by_id = {key.id: key for key in self._keys}
        self._salt: bytes | None = None
        self._paired_with: PoolState | None = None
        self._pairs: list[Candidate] = []
        self._provider = provider
        self._command = command
        self._clock = clock
        self._wall = wall
        self._jitter = jitter
        self._limits = limits
        self._policy = policy
        self._is_weighted = policy.is_weighted
        self._backend = self.backend = backend or LocalBackend()
        self._backend.on_remote_change = self._notice_remote_change
        self.on_change: Callable[[], None] = lambda: None
        """Called whenever the part of the state that is saved to disk changes."""
        self.on_release: Callable[[], None] = lambda: None
        """Called when another process may have released a lease."""

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def has_one_key(self) -> bool:
        """True if there is no other key to use."""
        with self._backend.reading() as state:
            return self._has_one_key(state)

    # The life of an attempt.

    @property
    def keeps_sessions(self) -> bool:
        """True if sessions stay with their keys, so that `take` needs the session."""
        return len(self._keys) > 1 and self._policy.affinity != "off"

    def take(
        self, model: str, *, skip: Collection[str] = (), session: SessionRef | None = None
    ) -> Lease:
        """
        Lease the next key; *skip* contains the IDs of the keys that this request has tried.

        Raises:
            Problem: If no key is available; states the reason and the time until the next attempt.
        """
        lease = self._backend.run(lambda state: self.take_from(state, model, skip, session))
        self.on_change()
        return lease

    def take_from(
        self, state: PoolState, model: str, skip: Collection[str], session: SessionRef | None
    ) -> Lease:
        """Lease a key as an operation on *state*; otherwise the same as `take`."""
        model = bounded_name(model)
        now, wall = self._clock(), self._wall()
        limits = self._account_limits_to_probe(state, model, now)
        usable = self._usable(state, model, skip, now, wall)
        if not usable:
            raise self._refusal(state, model, skip)
        chosen, session_id = self._select(state, usable, session, model, now)
        lease = self._lease(state, *chosen, model, now, wall)
        lease.session = session_id
        lease.probed_limits = limits
        for name in limits:
            state.account_limits[name].probe = lease.probe
        return lease

    def take_in_line(
        self, state: PoolState, model: str, skip: Collection[str], session: SessionRef | None
    ) -> Lease | None:
        """
        Lease a key as `take_from` does; return None if the request must wait for a free key.

        In that case, this process has a place in the line; a freed key goes to the first in line.
        """
        if self._limits.in_flight is None:
            return self.take_from(state, model, skip, session)
        model = bounded_name(model)
        now, process = self._clock(), self._backend.process
        usable = self._usable(state, model, skip, now, self._wall())
        names = {key.name for key, _ in usable}
        free = sum(
            (self._limits_of(state, key).in_flight or 0) - key_state.in_flight
            for key, key_state in usable
        )
        if free > state.count_ahead(process, names, now) or (
            not usable and not self._is_full(state, model, skip)
        ):
            state.line.pop(process, None)
            return self.take_from(state, model, skip, session)
        reasons = {
            key.name: self._obstacle(state, key, model) for key in self._keys if key.id not in skip
        }
        full = {name for name, one in reasons.items() if one and one.reason == "in_flight"}
        state.wait_in_line(process, names | full, now)
        return None

    def _usable(
        self, state: PoolState, model: str, skip: Collection[str], now: float, wall: float
    ) -> list[Candidate]:
        limits, shares = self._limits, state.shares
        only = self._has_one_key(state)
        return [
            (key, key_state)
            for key, key_state in self._states(state)
            if key.id not in skip
            and not key_state.obstacle(
                model,
                shares.get(key.name, limits) if shares else limits,
                now=now,
                wall=wall,
                is_only=only,
            )
        ]

    def _limits_of(self, state: PoolState, key: PoolKey) -> KeyLimits:
        return state.shares.get(key.name, self._limits)

    def _select(
        self,
        state: PoolState,
        usable: Sequence[Candidate],
        session: SessionRef | None,
        model: str,
        now: float,
    ) -> tuple[Candidate, str]:
        """Return one of the *usable* keys, and the ID of the session's row or an empty string."""
        if session is not None:
            return select_for_session(
                session,
                state.sessions,
                usable,
                model,
                now=now,
                move_wait=self._policy.move_wait,
                obstacle=lambda name: self._reason_to_leave(state, name, model),
            )
        if self._is_weighted:
            return select_by_weight(usable, state.share), ""
        return select_in_turn(usable), ""

    def _reason_to_leave(self, state: PoolState, name: str, model: str) -> str:
        """Return why a session cannot use its key, which has the salted name *name*."""
        key = next((key for key, _ in self._states(state) if key.name == name), None)
        if key is None:
            return REMOVED
        obstacle = self._obstacle(state, key, model)
        return obstacle.reason if obstacle is not None else REFUSED_REQUEST

    def take_key(self, key_id: str, model: str) -> Lease:
        """Lease the key *key_id* for a test, in any state; raise KeyError if it is unknown."""
        key, model = self._by_id[key_id], bounded_name(model)

        def lease_key(state: PoolState) -> Lease:
            now, wall = self._clock(), self._wall()
            return self._lease(state, key, self._state_of(state, key), model, now, wall)

        lease = self._backend.run(lease_key)
        lease.is_test = True
        return lease

    def _lease(
        self,
        state: PoolState,
        key: PoolKey,
        key_state: KeyState,
        model: str,
        now: float,
        wall: float,
    ) -> Lease:
        state.turn += 1
        key_state.turn = state.turn
        if self._is_weighted:
            state.share = max(key_state.share, state.share)
            key_state.share = state.share + 1 / key.weight
        probe = (self._backend.process, state.turn)
        return Lease(
            secret=key.secret,
            id=key.id,
            tail=key.tail,
            name=key.name,
            model=model,
            started=now,
            probe=probe,
            probed_cooldowns=key_state.start(model, self._limits, now=now, wall=wall, probe=probe),
        )

    def peek(self, model: str) -> str | None:
        """Return a usable key without leasing it, or None; this does not count toward any limit."""
        name = bounded_name(model)
        with self._backend.reading() as state:
            usable = (key for key in self._keys if self._obstacle(state, key, name) is None)
            return next((key.secret for key in usable), None)

    def is_full(self, model: str, *, skip: Collection[str] = ()) -> bool:
        """Return True if only the limit of requests in flight prevents a lease."""
        with self._backend.reading() as state:
            return self._is_full(state, bounded_name(model), skip)

    def _is_full(self, state: PoolState, model: str, skip: Collection[str]) -> bool:
        obstacles = [self._obstacle(state, key, model) for key in self._keys if key.id not in skip]
        reasons = {obstacle.reason if obstacle else "" for obstacle in obstacles}
        return "in_flight" in reasons and "" not in reasons

    def settle(self, lease: Lease, verdict: Verdict) -> Move | None:
        """
        Apply the consequences of a response to the key, which stays leased.

        Return the move of the request's session to this key, if the response confirms one.
        """
        lease.is_settled = True
        move = self._backend.run(
            lambda state: self._settle(state, lease, verdict),
            may_wait=verdict.effect is Effect.WORKS and not lease.is_probe,
        )
        self.on_change()
        return move

    def _settle(self, state: PoolState, lease: Lease, verdict: Verdict) -> Move | None:
        now = self._clock()
        key = self._by_id[lease.id]
        key_state = self._state_of(state, key)
        if lease.is_probe:
            self._end_probe(state, lease)
        if verdict.is_unreachable:
            key_state.withdraw_use(self._wall())
        if verdict.effect is Effect.WORKS:
            self._note_success(state, lease.model, now)
            is_only = lease.is_test or self._has_one_key(state)
            key_state.succeed(lease.model, now=now, is_only=is_only)
            if lease.session:
                return state.sessions.confirm(lease.session, key.name, self._wall())
        elif verdict.effect is not Effect.NONE:
            if lease.session:
                state.sessions.undo(lease.session, key.name)
            self._refuse(state, lease, verdict, now)
        return None

    def _refuse(self, state: PoolState, lease: Lease, verdict: Verdict, now: float) -> None:
        if self._is_account_limit(state, lease, verdict, now):
            self._limit_account(state, lease.model, verdict, now)
            return
        key_state = self._state_of(state, self._by_id[lease.id])
        wall, jitter = self._wall(), self._jitter()
        key_state.refuse(lease.model, verdict, now=now, wall=wall, jitter=jitter)

    def release(self, lease: Lease) -> None:
        """Release the lease; calling this again has no effect."""
        if lease.is_released:
            return
        lease.is_released = True
        self._backend.run(lambda state: self._release(state, lease))

    def _release(self, state: PoolState, lease: Lease) -> None:
        self._state_of(state, self._by_id[lease.id]).finish(self._backend.process)
        if not lease.is_settled:
            self._end_probe(state, lease)

    def start_cooldown(self, lease: Lease, seconds: float) -> None:
        """Cool the key down, because an answer's headers report that a limit is used up."""
        now, wall = self._clock(), self._wall()
        self._change(
            lease.id, lambda key: key.start_cooldown(lease.model, seconds, now=now, wall=wall)
        )

    def note_account(self, key_id: str, report: AccountReport) -> None:
        """Store the provider's report on a key's account; raise KeyError if the key is unknown."""
        self._change(
            key_id, lambda key: key.note_account(report, now=self._clock(), wall=self._wall())
        )

    def _change(self, key_id: str, change: Callable[[KeyState], None]) -> None:
        """Change the state of one key; raise KeyError if the key is unknown."""
        key = self._by_id[key_id]
        self._backend.run(lambda state: change(self._state_of(state, key)))
        self.on_change()

    # Refusals without a key.

    def refusal(
        self, model: str, *, skip: Collection[str] = (), last: Problem | None = None
    ) -> Problem:
        """Return the error for a request that gets no key; *last* is its last provider error."""
        with self._backend.reading() as state:
            return self._refusal(state, bounded_name(model), skip, last)

    def _refusal(
        self, state: PoolState, model: str, skip: Collection[str], last: Problem | None = None
    ) -> Problem:
        now = self._clock()
        last_text = "" if last is None else last.message
        for name in (WHOLE_ACCOUNT, model):
            if (seconds := seconds_left(state.account_limits.get(name), now)) is not None:
                text = describe_account_limit(self._provider, name, seconds)
                return limit_problem(f"{text}.{quote_error(last_text)}", seconds)
        obstacles = [one for key in self._keys if (one := self._obstacle(state, key, model))]
        if skip and last is not None and not obstacles:
            return last  # the cooldowns of the keys that this request tried are over
        errors = [obstacle.last_error for obstacle in obstacles]
        error = quote_error(last_text or max(errors, default=NO_ERROR).text)
        text = describe_obstacles(self._provider, len(self._keys), obstacles, command=self._command)
        waits = [one.seconds for one in obstacles if one.reason in TEMPORARY]
        if waits:
            return limit_problem(f"{text}.{error}", min(waits))
        no_credit = any(one.reason == Cause.OUT_OF_CREDIT.value for one in obstacles)
        kind = "billing_error" if no_credit else "authentication_error"
        return Problem(kind, f"{text}.{error}", should_retry=False)

    def _obstacle(self, state: PoolState, key: PoolKey, model: str) -> Obstacle | None:
        return self._state_of(state, key).obstacle(
            model,
            self._limits_of(state, key),
            now=self._clock(),
            wall=self._wall(),
            is_only=self._has_one_key(state),
        )

    # A limit of the account or address.

    def _account_limits_to_probe(self, state: PoolState, model: str, now: float) -> tuple[str, ...]:
        """Return the account limits that this request probes; raise Problem if it may not probe."""
        if not state.account_limits:
            return ()
        names = [name for name in (WHOLE_ACCOUNT, model) if name in state.account_limits]
        if any(seconds_left(state.account_limits[name], now) is not None for name in names):
            raise self._refusal(state, model, ())
        return tuple(names)

    def _is_account_limit(
        self, state: PoolState, lease: Lease, verdict: Verdict, now: float
    ) -> bool:
        """Return True if this limit seems to apply to the account, given the previous limits."""
        if not verdict.may_be_account_wide or self._has_one_key(state):
            return False
        if lease.model and lease.model.lower() in verdict.error_text.lower():
            return False
        if state.is_limited(lease.model, now):
            return True
        limits = state.recent_limits
        if limits and now - limits[-1][2] > ACCOUNT_LIMIT_GAP:
            limits.clear()
        name = self._name(state, self._by_id[lease.id])
        same = (name, lease.model)
        state.recent_limits = [entry for entry in limits if entry[:2] != same][-_MOST_MODELS:]
        state.recent_limits.append((*same, now))
        keys = {key for key, model, _ in state.recent_limits if model == lease.model}
        no_success = state.seconds_since_success(lease.model, now) >= ACCOUNT_LIMIT_NO_SUCCESS
        return len(keys) >= ACCOUNT_LIMIT_KEYS and no_success

    def _limit_account(self, state: PoolState, model: str, verdict: Verdict, now: float) -> None:
        """Start or extend a limit; once a second model is limited, it covers the whole account."""
        stated = verdict.seconds
        until = now + (ACCOUNT_PROBE_EVERY if stated is None else min(stated, LONGEST_COOLDOWN))
        is_second_model = any(
            name != model and limit.until > now for name, limit in state.account_limits.items()
        )
        is_whole = is_second_model or WHOLE_ACCOUNT in state.account_limits
        for name in (model, WHOLE_ACCOUNT) if is_whole else (model,):
            old = state.account_limits.get(name)
            state.account_limits[name] = AccountLimit(until=max(until, old.until if old else 0.0))
        while len(state.account_limits) > _MOST_MODELS:
            del state.account_limits[next(name for name in state.account_limits if name)]
        for key_name, limited_model, _ in state.recent_limits:
            state.keys[key_name].forgive_rate_limit(limited_model)
        state.recent_limits.clear()

    def _note_success(self, state: PoolState, model: str, now: float) -> None:
        state.last_success.pop(model, None)
        state.last_success[model] = now
        if len(state.last_success) > _MOST_MODELS:
            del state.last_success[next(iter(state.last_success))]
        for name in (model, WHOLE_ACCOUNT) if state.account_limits else ():
            state.account_limits.pop(name, None)

    def _end_probe(self, state: PoolState, lease: Lease) -> None:
        key_state = self._state_of(state, self._by_id[lease.id])
        key_state.end_probe(lease.probed_cooldowns, lease.probe)
        state.end_probe(lease.probed_limits, lease.probe)

    # For the user.

    def snapshot(self) -> tuple[KeyView, ...]:
        """Return the view of every key, without the key itself."""
        now, wall = self._clock(), self._wall()
        with self._backend.reading() as state:
            sessions = state.sessions.count_by_key(now)
            return tuple(
                view_key(key, one, limits, sessions[key.name], now=now, wall=wall)
                for key, one in self._states(state)
                for limits in (self._limits_of(state, key),)
            )

    def moves(self) -> tuple[MoveView, ...]:
        """Return the last moves of sessions between keys, newest last."""
        with self._backend.reading() as state:
            return tuple(self.view_move(move) for move in state.sessions.moves)

    def view_move(self, move: Move) -> MoveView:
        """Return the view of *move*, with the display names of its keys."""
        names = {key.name: f"{key.id} {key.tail}" for key in self._keys}
        return MoveView(
            session=move.session,
            source=names.get(move.source, "-"),
            target=names.get(move.target, "-"),
            reason=move.reason,
            tokens=move.tokens,
            at=move.at,
        )

    def counts(self) -> tuple[int, int]:
        """Return the number of keys that are ready for every model, and the number of all keys."""
        return sum(key.state == "ready" for key in self.snapshot()), len(self._keys)

    def account_limits(self) -> tuple[AccountLimitView, ...]:
        """Return the limits of the account or address that are in effect."""
        now = self._clock()
        with self._backend.reading() as state:
            return tuple(
                AccountLimitView(model=name or None, seconds=seconds)
                for name, limit in state.account_limits.items()
                if (seconds := seconds_left(limit, now)) is not None
            )

    def disable(self, key_id: str) -> None:
        """Stop using a key until it is enabled; raise KeyError if it is unknown."""
        self._change(key_id, KeyState.disable)

    def enable(self, key_id: str) -> None:
        """Use a key again and remove its cooldowns; raise KeyError if it is unknown."""
        self._change(key_id, KeyState.enable)

    def reset(self, key_id: str | None = None) -> None:
        """Remove the cooldowns of one key, or of all keys and the account; KeyError if unknown."""
        if key_id is not None:
            self._change(key_id, lambda key: key.cooldowns.clear())
        else:
            self._backend.run(self._reset_all)
            self.on_change()

    def _reset_all(self, state: PoolState) -> None:
        for _, key_state in self._states(state):
            key_state.cooldowns.clear()
        state.recent_limits.clear()
        state.account_limits.clear()

    # Persistence.

    @property
    def is_writer(self) -> bool:
        """True if this process saves the state to disk."""
        return self._backend.is_writer

    def export(self, salt: bytes) -> dict[str, dict[str, Any]]:
        """Return the state that must survive a restart, under key names salted with *salt*."""
        now, wall = self._clock(), self._wall()
        with self._backend.reading() as state:
            return {
                salted_name(key.secret, salt): key_state.export(now=now, wall=wall)
                for key, key_state in self._states(state)
            }

    def restore(self, rows: Mapping[str, dict[str, Any]], salt: bytes) -> None:
        """
        Restore the state that `export` returned, unless another process has a newer state.

        Raises:
            KeyError, TypeError, ValueError: If *rows* is invalid.
        """
        if not self._backend.is_first:
            return
        now, wall = self._clock(), self._wall()

        def restore(state: PoolState) -> None:
            for key, key_state in self._states(state):
                if (row := rows.get(salted_name(key.secret, salt))) is not None:
                    key_state.restore(row, now=now, wall=wall)

        self._backend.run(restore)

    @property
    def sessions_version(self) -> int:
        """A number that changes with the table of sessions."""
        with self._backend.reading() as state:
            return state.sessions.version

    def export_sessions(self, salt: bytes) -> list[SavedSession]:
        """Return the sessions that must survive a restart; keys are replaced by salted names."""
        now, wall = self._clock(), self._wall()
        with self._backend.reading() as state:
            names = {key.name: salted_name(key.secret, salt) for key, _ in self._states(state)}
            return state.sessions.export(names, now=now, wall=wall)

    def restore_sessions(self, rows: Iterable[Sequence[Any]], salt: bytes) -> None:
        """
        Restore what `export_sessions` returned, unless another process has a newer state.

        Raises:
            TypeError, ValueError: If *rows* is invalid.
        """
        if not self._backend.is_first:
            return
        now, wall = self._clock(), self._wall()

        def restore(state: PoolState) -> None:
            names = {salted_name(key.secret, salt): key.name for key, _ in self._states(state)}
            state.sessions.restore(rows, names, now=now, wall=wall)

        self._backend.run(restore)

    # The states of the keys.

    def _states(self, state: PoolState) -> Sequence[tuple[PoolKey, KeyState]]:
        # A back end returns a new object whenever another process has changed the state.
        if state is not self._paired_with:
            self._pairs = [(key, self._state_of(state, key)) for key in self._keys]
            self._paired_with = state
        return self._pairs

    def _state_of(self, state: PoolState, key: PoolKey) -> KeyState:
        name = key.name if state.salt == self._salt else self._name(state, key)
        key_state = state.keys.get(name)
        if key_state is None:
            key_state = state.keys[name] = KeyState()
        return key_state

    def _name(self, state: PoolState, key: PoolKey) -> str:
        if state.salt != self._salt:
            self._salt = state.salt
            for one in self._keys:
                one.name = salted_name(one.secret, state.salt)
        return key.name

    def _has_one_key(self, state: PoolState) -> bool:
        enabled = 0
        for _, key_state in self._states(state):
            if not key_state.disabled:
                enabled += 1
                if enabled > 1:
                    return False
        return True

    def _notice_remote_change(self) -> None:
        self.on_change()
        self.on_release()
