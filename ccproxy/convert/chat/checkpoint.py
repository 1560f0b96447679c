"""
Conversations that were converted before.

A client sends the whole conversation with every turn, and all but its end is what it was in the
turn before. The beginning of a conversation converts to the same bytes in every turn (rule 5 of
`messages`), so they are kept, with the notes that `Conversation` needs to go on behind them.

Rules:
    1. What is converted is the same with and without a memory.
    2. Only what is equal, byte for byte, is taken for known; nothing relies on a hash.
    3. What was made for one target or key, or without a system prompt, serves no other.
    4. A memory has room for so many bytes; what was not needed for longest goes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ccproxy.convert.common.conversion import Conversion
from ccproxy.protocol.messages import Message

ROOM: Final = 16 * 1024 * 1024
"""Bytes of one worker's memory."""

_BEGINNING: Final = 4 * 1024
"""Bytes of the first message by which a conversation is found; more would be slow to hash."""
_FEWEST: Final = 3
"""Messages with a call and its result among them; in shorter ones there is nothing to keep."""

Key = tuple[Any, ...]


class Point(NamedTuple):
    """
    Where a conversation can be gone on with: calls were just written, none has its result.

    Everything is a count of the beginning of something that only grows.
    """

    messages: int
    written: int
    """Bytes of JSON."""
    calls: int
    open: int
    """How many of the calls, the last ones, wait for their results."""
    dropped: int
    tool_names: int


class Start(NamedTuple):
    """What a conversation can go on behind: everything up to the last of its points."""

    points: Sequence[Point]
    written: bytes
    """The messages for the provider, as JSON, without the brackets of their list."""
    client_ids: Sequence[bytes]
    sent_ids: Sequence[bytes]
    dropped: Sequence[str]
    tool_names: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Past:
    made_for: Conversion
    messages: list[Message]
    start: Start
    size: int


class Memory:
    """Keeps the conversations of one worker."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._size = 0
        # In the order of their last use.
        self._pasts: dict[Key, _Past] = {}

    @property
    def size(self) -> int:
        """Return how many bytes are kept."""
        return self._size

    def find(
        self, messages: list[Message], conversion: Conversion, *, prompted: bool
    ) -> Start | None:
        """Return what the known part of *messages* became; *prompted*: a system prompt precedes."""
        if len(messages) < _FEWEST:
            return None
        key = _key(messages, conversion, prompted=prompted)
        past = self._pasts.get(key)
        if past is None or not _serves(past.made_for, conversion):
            return None
        self._pasts[key] = self._pasts.pop(key)
        same = _same(past.messages, messages)
        points = [point for point in past.start.points if point.messages <= same]
        if points and _goes_on(messages, points[-1].messages):
            points.pop()
        return past.start._replace(points=points) if points else None

    def keep(
        self, messages: list[Message], conversion: Conversion, *, prompted: bool, start: Start
    ) -> None:
        """Keep what *messages* became."""
        key = _key(messages, conversion, prompted=prompted)
        known = self._pasts[key].messages if key in self._pasts else []
        same, until = _same(known, messages), start.points[-1].messages
        # Copies: a view would keep the whole request.
        kept = known[: min(same, until)] + [_copy(message) for message in messages[same:until]]
        size = len(start.written) + sum(len(memoryview(each.content)) for each in kept)
        self._forget(key)
        if size > self._room // 2:
            return
        self._pasts[key] = _Past(conversion, kept, start, size)
        self._size += size
        while self._size > self._room:
            self._forget(next(iter(self._pasts)))

    def _forget(self, key: Key) -> None:
        past = self._pasts.pop(key, None)
        if past is not None:
            self._size -= past.size


def _key(messages: list[Message], conversion: Conversion, *, prompted: bool) -> Key:
    content = memoryview(messages[0].content)
    beginning = bytes(content[:_BEGINNING])
    return beginning, len(content), conversion.target.model, conversion.thinks, prompted


def _serves(made_for: Conversion, conversion: Conversion) -> bool:
    return made_for.signer is conversion.signer and made_for.target == conversion.target


def _same(some: list[Message], others: list[Message]) -> int:
    """Return how many messages at the beginning are equal."""
    count = 0
    for one, other in zip(some, others, strict=False):
        if one != other:
            break
        count += 1
    return count


def _goes_on(messages: list[Message], index: int) -> bool:
    """Whether the assistant says more at *index*: then what was written before is not its end."""
    return index < len(messages) and messages[index].role == "assistant"


def _copy(message: Message) -> Message:
    return Message(message.role, message.content.copy(), message.output_config)
