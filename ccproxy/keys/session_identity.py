"""
Finds the session of a request, which determines the key for the request.

The client's session ID identifies the session. Without one, the session is identified by the
beginning of the prompt: system prompt, tools and first message. A session is needed only for a
prompt that a provider might have cached: at least 4 KB, with tools or earlier turns.

A subagent has its own prompt and therefore its own row in the table, which starts with the key of
its session. An auxiliary request, such as one for a title, has no prompt that a cache could hold,
and belongs to no session.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from ccproxy.keys.policy import Affinity
from ccproxy.keys.sessions import MIN_CACHED, SessionRef
from ccproxy.protocol.claude_code import (
    AGENT_ID_HEADER,
    BILLING_LINE,
    CLASS_HEADER,
    COMPACTION_PROMPT,
    SESSION_HEADER,
)
from ccproxy.protocol.conversation_outline import OutlineTurn
from ccproxy.protocol.literals import is_present
from ccproxy.protocol.messages import Message

BYTES_PER_TOKEN = 4
_LONGEST_ID = 256
"""Maximum number of characters of a client's session ID."""
_NAME_LENGTH = 8
_END, _MOST_FIRST = 512, 32 * 1024
"""Number of bytes to hash: at each end of the system prompt and tools, and in the first message."""
_COMPACTION_START = 4 * 1024
# The marker of a cache breakpoint moves to another message with every turn.
_CACHE_CONTROL = re.compile(rb'(?:,\s*)?"cache_control"\s*:\s*\{[^{}]*\}')
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class Conversation(Protocol):
    """The parts of a request that identify its conversation."""

    system: msgspec.Raw
    tools: msgspec.Raw

    @property
    def messages(self) -> Sequence[Message | OutlineTurn]:
        """The turns; in Chat Completions they include the system prompt."""


def find_session(
    headers: Mapping[str, str],
    conversation: Callable[[], Conversation | None],
    *,
    affinity: Affinity,
    size: int,
    client: str = "",
) -> SessionRef | None:
    """
    Return the session of a request, or None if any key can serve the request.

    *headers* must be accessible by lower-case names. *conversation* is called only if the headers
    are not enough; *size* is the length of the body in bytes. *client* names the sender if there
    are several, so that a session ID cannot be used to join another client's session.
    """
    kind = headers.get(CLASS_HEADER, "").strip().lower()
    if affinity == "off" or kind == "auxiliary":
        return None
    tokens = size // BYTES_PER_TOKEN
    session = headers.get(SESSION_HEADER, "")[:_LONGEST_ID]
    if not session:
        return _session_of_conversation(conversation(), tokens, client)
    name = _UNSAFE.sub("", session)[:_NAME_LENGTH]
    session = f"{client}\n{session}" if client else session
    is_compaction = kind == "compaction" or (not kind and _is_compaction(conversation()))
    agent = headers.get(AGENT_ID_HEADER, "")[:_LONGEST_ID]
    if not agent:
        return SessionRef(
            id=_digest_of(session), name=name, tokens=tokens, is_compaction=is_compaction
        )
    return SessionRef(
        id=_digest_of(f"{session}\n{agent}"),
        name=name,
        parent=_digest_of(session) if affinity == "session" else "",
        tokens=tokens,
        is_compaction=is_compaction,
    )


def _session_of_conversation(
    conversation: Conversation | None, tokens: int, client: str
) -> SessionRef | None:
    if conversation is None or tokens < MIN_CACHED or not conversation.messages:
        return None
    tools = memoryview(conversation.tools)
    if len(tools) <= len(b"[]") and len(conversation.messages) == 1:
        return None
    first = next((one for one in conversation.messages if one.role == "user"), None)
    system = conversation.system
    if not is_present(system) and conversation.messages[0] is not first:
        system = conversation.messages[0].content
    start = b"" if first is None else bytes(memoryview(first.content)[:_MOST_FIRST])
    if b"cache_control" in start:
        start = _CACHE_CONTROL.sub(b"", start)
    prompt = _stable_part(system)
    parts = (prompt[:_END], prompt[-_END:], tools[:_END], tools[-_END:], start)
    owner = client.encode("utf-8", "surrogateescape")
    sizes = b"%d %d " % (len(prompt), len(tools))
    session_id = _digest(b"".join((owner, sizes, *parts)))
    return SessionRef(
        id=session_id,
        name=f"~{session_id[:_NAME_LENGTH]}",
        tokens=tokens,
        is_compaction=_is_compaction(conversation),
    )


def _stable_part(system: msgspec.Raw) -> memoryview:
    """Return the system prompt without a first block that varies between requests."""
    view = memoryview(system)
    start = bytes(view[:_END])
    if (line := start.find(BILLING_LINE, 0, 256)) >= 0:
        return view[start.find(b"}", line) + 1 :]
    return view


def _is_compaction(conversation: Conversation | None) -> bool:
    if conversation is None or not conversation.messages:
        return False
    last = conversation.messages[-1]
    if last.role != "user":
        return False
    return COMPACTION_PROMPT in bytes(memoryview(last.content)[:_COMPACTION_START])


def _digest_of(text: str) -> str:
    return _digest(text.encode("utf-8", "surrogateescape"))


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()
