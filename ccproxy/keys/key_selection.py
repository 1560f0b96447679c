"""
Selects a key from those that can serve a request. Pure functions; the pool provides the states.

| strategy   | a request without a session     | a new session                              |
|------------|---------------------------------|--------------------------------------------|
| rotate     | fewest in flight, longest unused | fewest sessions                           |
| fill-first | the first key of the list       | the first key of the list                  |
| priority   | lowest priority, then rotate    | lowest priority, then fewest sessions      |
| weights    | rotation in proportion          | fewest sessions in proportion              |

With fill-first and priority, keys form tiers: a key of a later tier is used only while no key of an
earlier tier can serve the request. Within a tier the weights apply, if there are any.

A session stays with its key while that key can serve. When a key of an earlier tier is ready
again, the move waits for a prompt with a new prefix, but at most KEY_MOVE_WAIT seconds.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ccproxy.keys.key_state import KeyState
from ccproxy.keys.sessions import SessionRef, SessionRow, SessionTable

NEW_PREFIX = "preferred_key_at_new_prefix"
WAITED = "preferred_key_after_wait"
REFUSED_REQUEST = "refused_request"
REMOVED = "removed"
"""The four reasons for a move that are not obstacles of a key."""
_LONGEST_MODEL = 128
"""Maximum length of a model's name in the state, which has a limited size."""


@dataclass(slots=True, kw_only=True)
class PoolKey:
    """A key of a pool, and the name under which its state is stored."""

    secret: str = field(repr=False)
    id: str
    tail: str
    tier: int = 0
    weight: int = 1
    name: str = ""


Candidate = tuple[PoolKey, KeyState]
"""A key that can serve the request, and its state."""


def salted_name(key: str, salt: bytes) -> str:
    """Return the name for a key's state, from which the key cannot be derived."""
    return hmac.new(salt, key.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:32]


def bounded_name(model: str) -> str:
    """Return the name of *model* in the state; a hash replaces the end of a long name."""
    if len(model) <= _LONGEST_MODEL:
        return model
    digest = hashlib.blake2b(model.encode(), digest_size=12).hexdigest()
    return f"{model[: _LONGEST_MODEL - len(digest) - 1]}…{digest}"


def select_in_turn(usable: Sequence[Candidate]) -> Candidate:
    """Return the key of the first tier with the fewest requests in flight, then the oldest use."""
    return min(usable, key=_turn)


def select_by_weight(usable: Sequence[Candidate], share: float) -> Candidate:
    """
    Return the key that has used the least of its share.

    *share*, the used share of the last selected key, is the minimum for every key, so that a key
    that becomes usable again does not catch up.
    """

    def used(candidate: Candidate) -> tuple[int, float, float, int]:
        key, state = candidate
        return key.tier, state.in_flight / key.weight, max(state.share, share), state.turn

    return min(usable, key=used)


def select_for_session(
    ref: SessionRef,
    table: SessionTable,
    usable: Sequence[Candidate],
    model: str,
    *,
    now: float,
    move_wait: float,
    obstacle: Callable[[str], str],
) -> tuple[Candidate, str]:
    """
    Return the key of a session and the ID of its row, and note the use in *table*.

    Prompt caches and the limits of keys are per model. So a session has a row for each further
    *model*, which starts with the session's key and moves independently. *obstacle* returns why
    the key with the given name cannot serve.
    """
    row = table.get(ref.id, now)
    if row is not None and row.model != model:
        ref = replace(ref, id=f"{ref.id}/{model}", parent=ref.id)
        row = table.get(ref.id, now)
    if row is None:
        chosen = _first_key(ref, table, usable, now)
        new = SessionRow(
            key=chosen[0].name,
            name=ref.name,
            used=now,
            tokens=ref.tokens,
            is_agent=bool(ref.parent),
            is_compacted=ref.is_compaction,
            model=model,
        )
        table.add(ref, new)
        return chosen, ref.id
    current, reason = _named(usable, row.key), ""
    if current is None:
        reason = obstacle(row.key)
    elif current[0].tier == _first_tier(usable):
        table.want(row, since=0.0)
    else:
        reason = _reason_to_prefer(ref, row, now=now, move_wait=move_wait)
        table.want(row, since=row.wanted_since or now)
    if current is None or reason:
        current = _fewest_sessions(usable, table.count_by_key(now))
        table.move(ref, row, current[0].name, reason)
    table.note_use(ref, row, now)
    return current, ref.id


def _first_key(
    ref: SessionRef, table: SessionTable, usable: Sequence[Candidate], now: float
) -> Candidate:
    """Return the key of a new session; a subagent starts with the key of its session."""
    parent = table.get(ref.parent, now) if ref.parent else None
    inherited = _named(usable, parent.key) if parent is not None else None
    if inherited is not None and inherited[0].tier == _first_tier(usable):
        return inherited
    return _fewest_sessions(usable, table.count_by_key(now))


def _reason_to_prefer(ref: SessionRef, row: SessionRow, *, now: float, move_wait: float) -> str:
    """Return why this request moves its session to a preferred key; empty if it does not."""
    if row.begins_prefix(ref):
        return NEW_PREFIX
    waited = now - (row.wanted_since or now)
    return WAITED if waited >= move_wait else ""


def _fewest_sessions(usable: Sequence[Candidate], sessions: Counter[str]) -> Candidate:
    def load(candidate: Candidate) -> tuple[int, float, float, int]:
        key, state = candidate
        weight = key.weight
        return key.tier, (sessions[key.name] + 1) / weight, state.in_flight / weight, state.turn

    return min(usable, key=load)


def _turn(candidate: Candidate) -> tuple[int, int, int]:
    key, state = candidate
    return key.tier, state.in_flight, state.turn


def _first_tier(usable: Sequence[Candidate]) -> int:
    return min(key.tier for key, _ in usable)


def _named(usable: Sequence[Candidate], name: str) -> Candidate | None:
    return next((candidate for candidate in usable if candidate[0].name == name), None)
