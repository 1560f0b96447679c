"""
Assembly of tool calls: the call that a delta belongs to, its id, and its arguments.

Rules:

* A delta without a name continues a call: the one at its index, else the one with its id, else the
  last one. Some servers send a new id or index with every piece.
* A delta with a name continues the call at its index; if it has no index, the call with its id; if
  it has neither, the last call. It begins a new call instead if it has another id, another name
  after arguments, or arguments after complete arguments. "" and null count as absent.
* A name may arrive in pieces before the arguments. It ends at `<|`: gpt-oss leaks its channel
  markers into names.
* A call that repeats the id, name and arguments of an earlier one is the same call, at any index.
* The provider's id is kept if it is valid and new in the conversation. Otherwise a new one is
  derived from the message id: Claude Code drops a call with an id that it has already seen.
* Arguments are passed on as they arrive. Arguments that do not begin with an object are held until
  the call is complete and then converted to one. `{}` is held as well: some servers begin every
  call with it, as an Anthropic stream does in content_block_start, and send the real arguments
  afterwards.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from ccproxy.convert.common.held_text import MAX_HELD, check_held
from ccproxy.errors import BadAnswer
from ccproxy.protocol.chat import ToolCallDelta
from ccproxy.protocol.json_splice import NOT_JSON, object_of
from ccproxy.protocol.lenient_json import string

_VALID_ID = re.compile(r"[A-Za-z0-9_-]+")
_MAX_TWINS = 16
"""Maximum number of earlier calls with the same id that a call is compared with."""
_BLANKS = " \t\r\n"
"""White space between JSON values."""
MAX_CALLS = 4096
"""Maximum number of calls in one answer; a model in a loop never stops."""
_MAX_INDEXES = 65_536
"""Maximum number of indexes that are stored: some servers send a new one with every piece."""
_LONGEST_NAME = 1024
"""Maximum number of characters read from a name; real tool names are shorter."""


class ToolCall:
    """One call of an answer, as received so far."""

    def __init__(self) -> None:
        self.provider_id = ""
        self.name = ""
        self.id = ""  # the client's id; set when the block opens
        self.thought_signature: str | None = None
        self.is_whole = False  # no further deltas can follow
        self.is_signed = False  # the signature is queued for the client
        self.is_closed = False
        self.twins: tuple[ToolCall, ...] = ()  # earlier calls with the same id and name
        self.has_arguments = False
        self._raw_name = ""
        self._parts: list[str] = []
        self._size = 0  # characters of the parts
        self._sent = 0  # number of parts already sent
        self._begins_object: bool | None = None  # None: not known yet
        self._extent = _JsonExtent()

    @property
    def is_named(self) -> bool:
        """True if the name and id are complete, or no later delta can complete them."""
        if not self.name or not self.has_arguments:
            return False
        return bool(self.provider_id) or self.is_complete

    @property
    def is_complete(self) -> bool:
        """True if the arguments are one whole JSON value."""
        return self._extent.is_complete(self._parts, self._size)

    @property
    def is_final(self) -> bool:
        """True if the arguments are one whole object or array; a number might gain more digits."""
        return self.is_complete and self._extent.has_container

    @property
    def is_settled(self) -> bool:
        """True if the arguments are complete, and not a `{}` that may be a placeholder."""
        return self.is_complete and not self.is_held

    @property
    def is_held(self) -> bool:
        """True if the arguments are `{}`, which may be a placeholder."""
        return self._parts == ["{}"] and not self._sent

    @property
    def is_repetition(self) -> bool:
        """True if an earlier call has the same id, name and arguments."""
        return any(not self._parts or twin.arguments == self.arguments for twin in self.twins)

    @property
    def arguments(self) -> str:
        """All argument text so far."""
        return "".join(self._parts)

    def has_arguments_of(self, text: str) -> bool:
        """Return True if *text* equals the arguments; the lengths are compared first."""
        return len(text) == self._size and text == self.arguments

    def add_name(self, piece: str) -> None:
        """Append a piece of the name, unless it only repeats the name received so far."""
        if piece and piece != self._raw_name:
            self._raw_name = f"{self._raw_name}{piece}"[:_LONGEST_NAME]
            self.name = clean_name(self._raw_name)

    def add(self, arguments: object) -> None:
        """
        Add arguments: text, or a whole value (some servers send an object).

        Raises:
            Problem: If the client has already received the whole call, or if the arguments are too
            long.
        """
        if arguments is None:
            return
        text = _as_text(arguments)
        if self.is_closed:
            if text.strip():
                raise BadAnswer(f"The provider continued a call to {self.name} that had ended")
            return
        if self.is_held and text.lstrip().startswith("{"):
            self._parts.clear()
            self._size = 0
            self._extent = _JsonExtent()
        if text:
            self._parts.append(text)
            self._grow(len(text))
            self.has_arguments = self.has_arguments or not text.isspace()

    def absorb(self, parts: list[str], size: int) -> None:
        """Add *parts* that were already sent to the client; *size* is their total length."""
        self._parts += parts
        self._size += size  # checked inline, to save a call per chunk
        if self._size > MAX_HELD:
            check_held(self._size)
        self._sent = len(self._parts)
        self.has_arguments = True

    def take(self) -> str:
        """Return the arguments that can be sent now."""
        if self.is_whole or self.is_held:
            return ""
        if self._begins_object is None and self.has_arguments:
            self._begins_object = self.arguments.lstrip().startswith("{")
        return self._unsent() if self._begins_object else ""

    def rest(self) -> str:
        """Return what remains to be sent when the call closes."""
        text = self.arguments
        if self._begins_object or (text.lstrip().startswith("{") and not self.is_complete):
            return self._unsent()
        arguments = to_input(text)
        if parse_json(text) == (arguments,):
            return text
        return _dump(arguments) if arguments else ""

    def _grow(self, characters: int) -> None:
        self._size += characters
        check_held(self._size)

    def _unsent(self) -> str:
        unsent = self._parts[self._sent :]
        self._sent = len(self._parts)
        return unsent[0] if len(unsent) == 1 else "".join(unsent)


class _JsonExtent:
    """Finds the end of a JSON value in growing text; scans every character once."""

    _TOKEN = re.compile(r'\\.|\\$|["{}\[\]]', re.DOTALL)
    _LONGEST_SCALAR = 64

    def __init__(self) -> None:
        self._checked = 0  # number of parts
        self._was_valid = False
        self._depth = 0
        self._in_string = False
        self._is_escaped = False  # the last part ended with a backslash
        self.has_container = False
        self._is_final = False  # no later text can make the value valid

    def is_complete(self, parts: list[str], size: int) -> bool:
        """
        Return True if *parts* are one JSON value.

        *parts* must begin with the parts passed previously; *size* is their total number of
        characters.
        """
        if self._checked == len(parts):
            return self._was_valid
        new = parts[self._checked :]
        self._checked = len(parts)
        if not new or (self._was_valid and not any(part.strip(_BLANKS) for part in new)):
            return self._was_valid
        for part in new:
            self._scan(part)
        self._was_valid = False
        if self._depth > 0 or self._in_string or self._is_final:
            return False
        if not self.has_container and size > self._LONGEST_SCALAR:
            return False
        self._was_valid = parse_json("".join(parts)) is not None
        self._is_final = self.has_container and not self._was_valid
        return self._was_valid

    def _scan(self, part: str) -> None:
        start, self._is_escaped = int(self._is_escaped), False
        for match in self._TOKEN.finditer(part, start):
            char = match[0]
            if char == '"':
                self._in_string = not self._in_string
            elif self._in_string:
                self._is_escaped = char == "\\"
            elif char in ("{", "["):
                self._depth += 1
                self.has_container = True
            elif char in ("}", "]"):
                self._depth -= 1


class ToolCalls:
    """The calls of one answer."""

    def __init__(self, message_id: str, known_ids: Iterable[str]) -> None:
        self._message_id = message_id
        self._taken = set(known_ids)
        self._made = 0
        self._by_index: dict[tuple[int, int], ToolCall] = {}
        self._by_id: dict[str, list[ToolCall]] = {}
        self._last: ToolCall | None = None
        self._count = 0

    def find(self, delta: ToolCallDelta, choice: int, *, is_whole: bool) -> tuple[ToolCall, bool]:
        """
        Return the call that *delta* belongs to, and whether the call is new.

        In a whole answer, every delta is a new call.

        Raises:
            Problem: If there are too many calls, or if a call is invalid or too long.
        """
        piece = _Piece(delta)
        index = (choice, delta.index) if isinstance(delta.index, int) else None
        call = None if is_whole else self._continued(piece, index)
        is_new = call is None
        if call is None:
            self._count += 1
            if self._count > MAX_CALLS:
                raise BadAnswer(f"The provider's answer has more than {MAX_CALLS:,} tool calls")
            call = ToolCall()
            call.is_whole = is_whole
            if piece.id and piece.name:
                earlier = self._by_id.get(piece.id, ())
                call.twins = tuple(twin for twin in earlier if twin.name == piece.name)
        call.provider_id = call.provider_id or piece.id
        call.add_name(piece.raw_name)
        call.thought_signature = call.thought_signature or _thought_signature(delta.extra_content)
        if is_new or not piece.repeats(call):
            call.add(piece.arguments)
        self._last = call
        if index is not None and len(self._by_index) < _MAX_INDEXES:
            self._by_index[index] = call
        if is_new and call.provider_id:
            same_id = self._by_id.setdefault(call.provider_id, [])
            same_id.append(call)
            del same_id[:-_MAX_TWINS]
        return call, is_new

    def claim_id(self, provider_id: str) -> str:
        """Reserve and return *provider_id* if it can be used, else a new id."""
        if not _VALID_ID.fullmatch(provider_id) or provider_id in self._taken:
            provider_id = self._make_id()
        self._taken.add(provider_id)
        return provider_id

    def _make_id(self) -> str:
        while True:
            seed = f"{self._message_id} {self._made}".encode()
            self._made += 1
            made = f"toolu_{hashlib.sha256(seed).hexdigest()[:24]}"
            if made not in self._taken:
                return made

    def _continued(self, piece: _Piece, index: tuple[int, int] | None) -> ToolCall | None:
        """Return the call that *piece* continues, or None if it begins a new one."""
        at_index = self._by_index.get(index) if index is not None else None
        with_id = self._by_id[piece.id][-1] if piece.id in self._by_id else None
        if not piece.name:
            return self._continued_without_name(piece, at_index or with_id, index)
        if index is not None:
            call = at_index
        elif piece.id:
            call = with_id
        else:
            call = self._last
        if call is None or _begins_new(call, piece):
            return None
        return call

    def _continued_without_name(
        self, piece: _Piece, call: ToolCall | None, index: tuple[int, int] | None
    ) -> ToolCall | None:
        last = self._last
        if call is None and last is not None:
            is_unmarked = index is None and (not piece.id or not last.provider_id)
            if is_unmarked or (piece.arguments and not (last.is_final and not last.is_held)):
                call = last
        if call is None or (_has_other_id(call, piece) and call.is_final):
            return None
        return call


class _Piece:
    """The normalized fields of a tool delta."""

    __slots__ = ("arguments", "id", "name", "raw_name")

    def __init__(self, delta: ToolCallDelta) -> None:
        function = delta.function
        if function is None:  # some servers omit the object around name and arguments
            self.raw_name = _text(delta.name)
            others = (delta.input, delta.parameters)
            self.arguments = next(
                (one for one in (delta.arguments, *others) if one is not None), None
            )
        else:
            self.raw_name, self.arguments = _text(function.name), function.arguments
        self.name = clean_name(self.raw_name)
        self.id = _text(delta.id)

    def repeats(self, call: ToolCall) -> bool:
        """Return True if the piece repeats all arguments of the complete *call*."""
        return bool(self.id) and call.is_final and call.has_arguments_of(_as_text(self.arguments))


def _has_other_id(call: ToolCall, piece: _Piece) -> bool:
    return bool(piece.id and call.provider_id and piece.id != call.provider_id)


def _begins_new(call: ToolCall, piece: _Piece) -> bool:
    """Return True if *piece*, which has a name, does not continue *call*."""
    if _has_other_id(call, piece):
        return not _continues_arguments(call, piece)
    if not call.name:
        return False
    if piece.name != call.name:
        return not call.provider_id or call.has_arguments
    if call.is_held and piece.id and piece.arguments != "{}":
        return False
    return bool(piece.arguments) and call.is_final


def _continues_arguments(call: ToolCall, piece: _Piece) -> bool:
    """Return True if *piece* continues the arguments of *call* despite its new id."""
    text = piece.arguments
    return (
        piece.name == call.name
        and call.has_arguments
        and not call.is_complete
        and isinstance(text, str)
        and not text.lstrip().startswith("{")
    )


def clean_name(name: str) -> str:
    """Return a tool's name without leaked channel markers (`Read<|channel|>commentary`)."""
    return name.partition("<|")[0].strip()


def to_input(arguments: str, *, is_cut: bool = False) -> dict[str, Any]:
    """
    Return *arguments* as the input of a tool_use block, which is always an object.

    Empty arguments become {}; a string that contains a JSON object becomes that object. Anything
    else is stored under the key "arguments", so that the client's schema check reports it to the
    model. If the arguments were cut off by the token limit (*is_cut*), complete members are kept,
    as the SDKs do.
    """
    parsed = parse_json(arguments)
    if parsed is None:
        if is_cut and arguments.lstrip().startswith("{"):
            return _complete_members(arguments)
        return {"arguments": arguments} if arguments.strip() else {}
    value = parsed[0]
    if isinstance(value, str) and (inner := object_of(value)) is not None:
        return inner
    if isinstance(value, dict):
        return value
    return {"arguments": value} if value else {}


def _complete_members(arguments: str) -> dict[str, Any]:
    """Return the complete members of the truncated JSON object in *arguments*."""
    depth, in_string, end = 0, False, 0
    for match in re.finditer(r'\\.|[",{}\[\]]', arguments, re.DOTALL):
        char = match[0]
        if char == '"':
            in_string = not in_string
        elif in_string:
            continue
        elif char in ("{", "["):
            depth += 1
        elif char in ("}", "]"):
            depth -= 1
        elif char == "," and depth == 1:
            end = match.start()
    return object_of(arguments[:end] + "}") or {} if end else {}


def parse_json(text: str) -> tuple[Any] | None:
    """Return the JSON value of *text* (possibly null) in a tuple, or None if it is not JSON."""
    try:
        return (msgspec.json.decode(text),)
    except NOT_JSON:
        return None


def _as_text(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else _dump(arguments)


def _dump(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _text(value: object) -> str:
    """Return an id or a name as text; an id may be a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return string(value)


def _thought_signature(extra: object) -> str | None:
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return string(signature) or None
