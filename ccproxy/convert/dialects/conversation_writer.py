"""
Convert a conversation: the code common to both converted dialects.

A writer converts one message after another. The assistant's calls stay open until their results
arrive; messages in between wait, so that the results directly follow their calls. At a checkpoint,
all calls are written but none has its result. A later request in the same conversation can resume
from there (`convert/common/request_cache.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec import Raw

from ccproxy.convert.chat.content_parts import NO_RESULT, Part, block_to_parts, orphan_result
from ccproxy.convert.common.conversion import Conversion
from ccproxy.convert.common.request_cache import Checkpoint, ConversationCache, ConvertedPrefix
from ccproxy.convert.common.tool_names import ToolIds, id_literal
from ccproxy.errors import Problem
from ccproxy.protocol.literals import required_string, text_of, with_path
from ccproxy.protocol.messages import NO_CHARACTERS, Block, Message

Entry = dict[str, Any]
"""A message of Chat Completions or an item of the Responses API; its strings are `Raw` literals."""

_IDS = msgspec.json.Decoder(list[str])
_encode = msgspec.json.Encoder().encode


class ConversationWriter(ABC):
    """Converts the messages of one request: `add` each of them, then `finish`. Not reusable."""

    RESULT_FIELD: ClassVar[str]
    """The field of a result's entry that is None until the result arrives."""

    def __init__(self, conversion: Conversion, *, system: Entry | None = None) -> None:
        self._conversion = conversion
        self._quirks = conversion.quirks
        self._head: list[Entry] = [system] if system else []
        # The final entries as JSON, and the later ones that can still change.
        self._written = bytearray()
        self._entries: list[Entry] = []
        self._checkpoints: list[Checkpoint] = []
        self._resumed_checkpoints = 0
        self._ids = ToolIds(self._quirks.tool_ids)
        self._client_ids: list[bytes] = []
        self._sent_ids: list[bytes] = []
        self._names: dict[bytes, str] = {}
        # Open calls: the client's id, and the entry for the result.
        self._calls: list[tuple[bytes, Entry]] = []
        # All calls' entries by the client's id, in order; entries with a result are skipped.
        self._unanswered: dict[bytes, deque[Entry]] = {}
        self._waiting: list[Entry] = []
        self.unsent = NO_CHARACTERS
        """The number of characters in omitted thinking and in all signatures."""

    @abstractmethod
    def add(self, message: Message, index: int) -> None:
        """Convert the message at *index* of the request."""

    @abstractmethod
    def finish(self) -> list[Entry | Raw]:
        """Return the converted entries; one `Raw` can hold several of them."""

    def known_ids(self) -> frozenset[str]:
        """Return the client's ids of all calls."""
        return frozenset(_IDS.decode(b"[%b]" % b",".join(self._client_ids)))

    # Checkpoints

    def resume(self, prefix: ConvertedPrefix) -> int:
        """Continue after *prefix*; return the index of the message to add next."""
        point = prefix.checkpoints[-1]
        self._checkpoints = list(prefix.checkpoints)
        self._resumed_checkpoints = len(self._checkpoints)
        self._written += memoryview(prefix.written)[: point.written]
        self._client_ids += prefix.client_ids[: point.calls]
        self._sent_ids += prefix.sent_ids[: point.calls]
        self._ids.reserve(self._sent_ids)
        for client_id, sent_id in zip(
            self._client_ids[-point.open :], self._sent_ids[-point.open :], strict=True
        ):
            self._open(client_id, Raw(sent_id))
        self._conversion.dropped |= dict.fromkeys(prefix.dropped[: point.dropped])
        self._conversion.tool_names |= dict(prefix.tool_names[: point.tool_names])
        self.unsent = point.unsent
        return point.messages

    def prefix(self) -> ConvertedPrefix | None:
        """Return the converted prefix for later turns, or None if there is no new checkpoint."""
        if len(self._checkpoints) == self._resumed_checkpoints:
            return None
        return ConvertedPrefix(
            checkpoints=self._checkpoints,
            written=bytes(memoryview(self._written)[: self._checkpoints[-1].written]),
            client_ids=self._client_ids,
            sent_ids=self._sent_ids,
            dropped=tuple(self._conversion.dropped),
            tool_names=tuple(self._conversion.tool_names.items()),
        )

    def _add_checkpoint(self, index: int) -> None:
        """Add a checkpoint with the messages before *index* written and the last calls open."""
        if self._entries:
            if self._written:
                self._written += b","
            self._written += memoryview(_encode(self._entries))[1:-1]
            self._entries = []
        conversion = self._conversion
        point = Checkpoint(
            messages=index,
            written=len(self._written),
            calls=len(self._client_ids),
            open=len(self._calls),
            dropped=len(conversion.dropped),
            tool_names=len(conversion.tool_names),
            unsent=self.unsent,
        )
        self._checkpoints.append(point)

    # Calls and results

    def _begin_call(self, block: Block) -> tuple[Raw, str]:
        """Open the call in *block*, and return its id and name for the provider."""
        raw_name = bytes(block.name)
        name = self._names.get(raw_name)
        if name is None:
            name = self._conversion.sent_name(text_of(required_string(block.name, "name")))
            self._names[raw_name] = name
        client_id = id_literal(block.id)
        sent_id = Raw(self._ids.assign(client_id, name))
        self._client_ids.append(client_id)
        self._sent_ids.append(bytes(sent_id))
        self._open(client_id, sent_id)
        return sent_id, name

    def _open(self, client_id: bytes, sent_id: Raw) -> None:
        entry = self._result_entry(sent_id)
        self._calls.append((client_id, entry))
        self._unanswered.setdefault(client_id, deque()).append(entry)

    @abstractmethod
    def _result_entry(self, sent_id: Raw) -> Entry:
        """Return an entry for the result of a call, with None as the result."""

    @abstractmethod
    def _fill(self, entry: Entry, block: Block) -> list[Part]:
        """Store the result *block* in its *entry*, and return the parts that must follow it."""

    def _take_result(self, block: Block, media: list[Part], parts: list[Part]) -> None:
        """Store a result in its entry and its media in *media*; without a call, add to *parts*."""
        entries = self._unanswered.get(id_literal(block.tool_use_id))
        while entries:
            entry = entries.popleft()
            if entry[self.RESULT_FIELD] is None:
                media += self._fill(entry, block)
                return
        parts += orphan_result(block, self._conversion)

    def _write_results(self, calls: list[tuple[bytes, Entry]]) -> None:
        """Write the results of *calls*, with a placeholder for each missing one."""
        for _, entry in calls:
            if entry[self.RESULT_FIELD] is None:
                entry[self.RESULT_FIELD] = NO_RESULT
            self._entries.append(entry)

    def _user_parts(self, blocks: list[Block]) -> list[Part]:
        """Store the results in *blocks*, and return the parts of the user message."""
        media: list[Part] = []
        parts: list[Part] = []
        index = 0
        try:
            for index, block in enumerate(blocks):  # noqa: B007 - used by the error
                if block.type == "tool_result":
                    self._take_result(block, media, parts)
                else:
                    parts += block_to_parts(block, self._conversion)
        except Problem as problem:
            raise with_path(problem, "content", index) from problem
        return media + parts if media else parts


Writer = TypeVar("Writer", bound=ConversationWriter)


def convert_messages(
    messages: list[Message],
    system: Entry | None,
    conversion: Conversion,
    cache: ConversationCache | None,
    make: Callable[..., Writer],
) -> tuple[Writer, list[Entry | Raw]]:
    """
    Convert *messages*, which follow the prompt *system*, with the writer that *make* creates.

    Return the writer and the converted entries.
    """
    target, signer, thinks = conversion.target, conversion.signer, conversion.thinks
    # Separate, because a cached prefix must not depend on the system prompt or the tools.
    own = Conversion(target=target, signer=signer, thinks=thinks)
    writer = make(own, system=system)
    prompted = system is not None
    cached = cache.find(messages, own, prompted=prompted) if cache else None
    first = writer.resume(cached) if cached else 0
    for index, message in enumerate(messages[first:], first):
        writer.add(message, index)
    entries = writer.finish()
    prefix = writer.prefix() if cache else None
    if cache and prefix:
        cache.store(messages, own, prompted=prompted, prefix=prefix)
    conversion.dropped |= own.dropped
    conversion.tool_names |= own.tool_names
    return writer, entries
