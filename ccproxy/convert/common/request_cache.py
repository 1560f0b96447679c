"""
Reuse of work between the turns of a conversation.

A client sends the whole conversation with every turn, and everything but its end is the same as in
the previous turn. Two caches behind one interface, `RequestCache`, exploit this; `to_chat` and
`scan_body` return the same results without it, and differential tests compare both paths.

- `ScanCache` scans only the bytes that differ from an earlier body, which saves 0.2 to 0.4 ms for
  a request of 148 KB.
- `ConversationCache` stores the converted beginning of conversations, which saves 1.0 ms out of
  2.05 ms.

Rules:
    1. Reuse requires byte-for-byte equality; nothing relies on a hash.
    2. A converted beginning is reused only for the same target, signing key and thinking mode, and
       only if a system prompt precedes it in both turns or in neither.
    3. Both caches are bounded in bytes; the least recently used entry is removed first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from ccproxy.convert.common.conversion import Conversion
from ccproxy.protocol.messages import (
    BASE64,
    NO_CHARACTERS,
    CharacterCounts,
    Message,
    ScannedBody,
    scan_body,
)

_BLOCK: Final = 8 * 1024
"""Number of bytes compared at a time; the differing range is widened to whole blocks."""
_MAX_BODIES: Final = 8
_SCAN_ROOM: Final = 8 * 1024 * 1024
"""Maximum total bytes of the bodies in one scan cache."""

CONVERSATION_ROOM: Final = 16 * 1024 * 1024
"""Maximum total bytes of the conversations in one conversation cache."""
_KEY_BYTES: Final = 4 * 1024
"""Maximum bytes of the first message that are part of a key; longer keys are slow to hash."""
_MIN_MESSAGES: Final = 3
"""Shorter conversations contain no complete tool call and therefore no checkpoint."""

Key = tuple[Any, ...]


class ScanCache:
    r"""
    The bodies that one worker scanned most recently; `scan` returns the same as `scan_body`.

    Bodies with `\u` escapes are rare and are always scanned completely.
    """

    def __init__(
        self,
        *,
        block: int = _BLOCK,
        room: int = _SCAN_ROOM,
        scan: Callable[[bytes], ScannedBody] = scan_body,
    ) -> None:
        self._scan = scan
        self._block = block
        self._room = room
        self._bodies: list[ScannedBody] = []  # most recently used first

    def scan(self, body: bytes) -> ScannedBody:
        """Scan the *body* of a request; raise Problem if it is not UTF-8."""
        if not 2 * self._block <= len(body) <= self._room // 2:
            return self._scan(body)
        head = body[: self._block]
        similar = next((each for each in self._bodies if each.body.startswith(head)), None)
        scanned = None if similar is None else self._scan_difference(similar, body)
        if scanned is None:
            scanned = self._scan(body)
        if not scanned.has_escapes:
            self._store(scanned, replacing=similar)
        return scanned

    def _scan_difference(self, similar: ScannedBody, body: bytes) -> ScannedBody | None:
        """Scan only the bytes that differ; return None if a full scan is required."""
        if similar.body == body:
            return similar
        start, tail = self._common_ends(similar.body, body)
        end = len(body) - tail
        # An escape may begin in one part and end in the next.
        if b"\\" in body[max(0, start - 2) : start] or b"\\" in body[max(0, end - 2) : end]:
            return None
        new = self._scan(body[start:end])
        if new.has_escapes:
            return None
        old = self._scan(similar.body[start : len(similar.body) - tail])
        margin = len(BASE64) - 1
        has_new_base64 = BASE64 in body[max(0, start - margin) : end + margin]
        return ScannedBody(
            body,
            similar.counts.plus(old.counts, -1).plus(new.counts),
            has_escapes=False,
            # The base64 of the similar body may have been in the removed part.
            has_base64=has_new_base64 or (similar.has_base64 and BASE64 in body),
        )

    def _common_ends(self, old: bytes, new: bytes) -> tuple[int, int]:
        """Return the number of equal bytes at the start and at the end, in whole characters."""
        block, most = self._block, min(len(old), len(new))
        start = 0
        while start < most and new.startswith(old[start : start + block], start):
            start += block
        start = min(start, most)
        tail = 0
        while tail + block <= most - start and new.endswith(
            old[len(old) - tail - block : len(old) - tail], 0, len(new) - tail
        ):
            tail += block
        # A difference may continue or end a run, so one common byte at each end is scanned too.
        start, tail = max(0, start - 1), max(0, tail - 1)
        while start < len(old) and _is_continuation(old[start]):
            start -= 1
        while tail and _is_continuation(old[-tail]):
            tail -= 1
        return start, tail

    def _store(self, scanned: ScannedBody, *, replacing: ScannedBody | None) -> None:
        others = [each for each in self._bodies if each is not replacing]
        self._bodies = [scanned, *others[: _MAX_BODIES - 1]]
        while sum(len(each.body) for each in self._bodies) > self._room:
            self._bodies.pop()


def _is_continuation(byte: int) -> bool:
    """Return True if *byte* is a continuation byte of UTF-8."""
    return byte & 0xC0 == 0x80


class Checkpoint(NamedTuple):
    """
    A position from which conversion can resume: calls are written, but none of their results.

    Every field is a count that only grows.
    """

    messages: int
    written: int
    """Number of bytes of JSON written."""
    calls: int
    open: int
    """Number of calls at the end of the conversation that have no result yet."""
    dropped: int
    tool_names: int
    unsent: CharacterCounts = NO_CHARACTERS


class ConvertedPrefix(NamedTuple):
    """The converted beginning of a conversation, up to its last checkpoint."""

    checkpoints: Sequence[Checkpoint]
    written: bytes
    """The converted messages as JSON, without the brackets of their list."""
    client_ids: Sequence[bytes]
    sent_ids: Sequence[bytes]
    dropped: Sequence[str]
    tool_names: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _CachedConversation:
    conversion: Conversion
    messages: list[Message]
    prefix: ConvertedPrefix
    size: int


class ConversationCache:
    """The conversations that one worker converted most recently."""

    def __init__(self, room: int = CONVERSATION_ROOM) -> None:
        self._room = room
        self.size = 0
        """The number of cached bytes."""
        self._conversations: dict[Key, _CachedConversation] = {}  # least recently used first

    def find(
        self, messages: list[Message], conversion: Conversion, *, prompted: bool
    ) -> ConvertedPrefix | None:
        """Return the cached beginning of *messages*; *prompted*: a system prompt precedes them."""
        if len(messages) < _MIN_MESSAGES:
            return None
        key = _key(messages, conversion, prompted=prompted)
        cached = self._conversations.get(key)
        if cached is None:
            return None
        earlier = cached.conversion
        if earlier.signer is not conversion.signer or earlier.target != conversion.target:
            return None
        self._conversations[key] = self._conversations.pop(key)
        equal = _equal_messages(cached.messages, messages)
        points = [point for point in cached.prefix.checkpoints if point.messages <= equal]
        following = messages[points[-1].messages :] if points else ()
        if following and following[0].role == "assistant":
            points.pop()  # the assistant's turn continues, so its message changes
        return cached.prefix._replace(checkpoints=points) if points else None

    def store(
        self,
        messages: list[Message],
        conversion: Conversion,
        *,
        prompted: bool,
        prefix: ConvertedPrefix,
    ) -> None:
        """Cache the converted beginning of *messages*."""
        key = _key(messages, conversion, prompted=prompted)
        previous = self._conversations[key].messages if key in self._conversations else []
        equal, until = _equal_messages(previous, messages), prefix.checkpoints[-1].messages
        # Copied, because a view would keep the whole request in memory.
        copies = [
            Message(message.role, message.content.copy(), message.output_config)
            for message in messages[equal:until]
        ]
        cached = previous[: min(equal, until)] + copies
        size = len(prefix.written) + sum(len(memoryview(each.content)) for each in cached)
        self._remove(key)
        if size > self._room // 2:
            return
        self._conversations[key] = _CachedConversation(conversion, cached, prefix, size)
        self.size += size
        while self.size > self._room:
            self._remove(next(iter(self._conversations)))

    def clear(self) -> None:
        """Remove everything, because the conversion has changed."""
        self._conversations.clear()
        self.size = 0

    def _remove(self, key: Key) -> None:
        cached = self._conversations.pop(key, None)
        if cached is not None:
            self.size -= cached.size


def _key(messages: list[Message], conversion: Conversion, *, prompted: bool) -> Key:
    content = memoryview(messages[0].content)
    head = bytes(content[:_KEY_BYTES])
    return head, len(content), conversion.target.model, conversion.thinks, prompted


def _equal_messages(some: list[Message], others: list[Message]) -> int:
    """Return the number of equal messages at the start."""
    most = min(len(some), len(others))
    if some[:most] == others[:most]:  # the usual case, twice as fast as the loop
        return most
    return next(index for index in range(most) if some[index] != others[index])


@dataclass(frozen=True, slots=True)
class RequestCache:
    """The caches of one worker."""

    scans: ScanCache = field(default_factory=ScanCache)
    conversations: ConversationCache = field(default_factory=ConversationCache)
