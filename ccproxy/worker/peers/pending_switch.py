"""
A switch of models that running sessions follow once their prompt has a new prefix.

Only the current models have cached the prompt of a running session. With `ccproxy switch --wait`,
such a session keeps its models until its next compaction, but at most for the specified time. New
conversations, including those of new subagents, and requests without a session use the new models
at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ccproxy.keys.session_identity import find_session
from ccproxy.keys.sessions import MAX_SESSIONS
from ccproxy.protocol.conversation_outline import ConversationOutline, read_outline
from ccproxy.routing.switching import ModelSwitch


class PendingSwitch:
    """Tracks which sessions follow the last switch."""

    def __init__(self) -> None:
        self._switch: ModelSwitch | None = None
        self._sessions: dict[str, bool] = {}
        """By session ID: True once the session follows the switch, False after its compaction."""

    def switch_for(
        self, switch: ModelSwitch, headers: Mapping[str, str], body: Callable[[], bytes]
    ) -> ModelSwitch:
        """Return the switch that applies to a request while *switch* is pending."""
        if switch != self._switch:
            self._switch = switch
            self._sessions.clear()
        outline = read_outline(data := body())
        session = find_session(headers, lambda: outline, affinity="conversation", size=len(data))
        if session is None or self._sessions.get(session.id):
            return switch
        was_compacted = session.id in self._sessions
        if not session.is_compaction and (was_compacted or _is_new(outline)):
            self._note(session.id, follows=True)
            return switch
        if session.is_compaction:
            self._note(session.id, follows=False)
        return ModelSwitch(tiers=switch.before)

    def _note(self, session_id: str, *, follows: bool) -> None:
        self._sessions[session_id] = follows
        if len(self._sessions) > MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]


def _is_new(outline: ConversationOutline | None) -> bool:
    return outline is None or all(turn.role != "assistant" for turn in outline.messages)
