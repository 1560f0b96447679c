"""
Sessions that stay with the fallback that answers them.

A session that returns from a fallback to its own entry pays for its whole prompt again, once the
provider's cache of that prompt has expired. So a session that has used a fallback for
`CACHE_SECONDS` stays with it until its prompt has a new prefix (after a compaction; /clear begins a
new session), but for FALLBACK_HOLD at most; until then, its own entry is not tried. If the fallback
fails, the session's own entry is tried at once.

Each process of an entry has its own table, so in another process, the session's own entry is tried
first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ccproxy.keys.sessions import MAX_SESSIONS, SESSION_IDLE, SessionRef, SessionRow

CACHE_SECONDS = 300.0
"""How long providers cache an unused prompt, according to their documentation."""


@dataclass(slots=True, kw_only=True)
class _Held:
    prompt: SessionRow
    """The last prompt; its `key` is the label of the fallback, empty while this entry is tried."""
    since: float
    """When the session first fell back."""
    tried_at: float
    """When this entry was last tried."""


class HeldFallbacks:
    """The sessions of one entry that its fallbacks answer."""

    def __init__(self, hold: float, *, clock: Callable[[], float]) -> None:
        """*hold* is FALLBACK_HOLD; if it is 0, no session stays with a fallback."""
        self._hold = hold
        self._clock = clock
        self._sessions: dict[str, _Held] = {}

    def __bool__(self) -> bool:
        return bool(self._sessions)

    @property
    def is_on(self) -> bool:
        """Whether sessions can stay with a fallback."""
        return self._hold > 0

    def note(self, ref: SessionRef, label: str) -> None:
        """Note that the fallback *label* answers because this entry has failed."""
        now = self._clock()
        held = self._sessions.pop(ref.id, None)
        if held is None or now - held.tried_at > SESSION_IDLE:
            prompt = SessionRow(key=label, name=ref.name, used=now, tokens=ref.tokens)
            held = _Held(prompt=prompt, since=now, tried_at=now)
        held.prompt.key, held.tried_at = label, now
        self._sessions[ref.id] = held
        if len(self._sessions) > MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]

    def label_of(self, ref: SessionRef) -> str:
        """Return the label of the fallback to use; empty if this entry should be tried."""
        held = self._sessions.get(ref.id)
        if held is None:
            return ""
        if not held.prompt.key:
            del self._sessions[ref.id]  # this entry was tried and did not fall back again
            return ""
        now = self._clock()
        is_cold = now - held.since >= CACHE_SECONDS
        is_due = held.prompt.begins_prefix(ref) or now - held.tried_at >= self._hold
        held.prompt.tokens, held.prompt.is_compacted = ref.tokens, ref.is_compaction
        if is_cold and not is_due:
            return held.prompt.key
        held.prompt.key = ""
        return ""
