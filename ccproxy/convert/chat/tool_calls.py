"""
Which call a tool delta belongs to, under which id it goes on, and what its arguments are.

Rules:

* A delta with an index belongs to the call at that index; a new id there begins a new call
  (Gemini: index always 0). Without an index the id decides, without an id the last call is
  continued. "" and null are as good as absent; an id or a name may be repeated in every delta.
* Where nothing else tells two calls apart, a name beside arguments after complete arguments does.
  One that says again what a call of the same id said is that call.
* A name may come in pieces as well, as long as there are no arguments and the id stays the same.
* The provider's id is kept if it is valid and new in the conversation. Else one is made, the same
  one whenever the same answer is converted: Claude Code drops a call whose id it knows already.
* Arguments are relayed as they come. Those that do not begin as an object wait until the call is
  complete, and are then made one. `{}` waits for the end: some servers begin every call with it
  (what an Anthropic stream has in content_block_start) and send the real arguments behind it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from ccproxy.errors import BadAnswer
from ccproxy.protocol.chat import ToolCallDelta

_VALID_ID = re.compile(r"[A-Za-z0-9_-]+")


class ToolCall:
    """One call of an answer, as far as it is known."""

    def __init__(self) -> None:
        self.provider_id = ""
        self.name = ""
        self.id = ""  # the one that the client sees; known when the block opens
        self.thought_signature: str | None = None
        self.is_whole = False  # nothing of it can come later
        self.is_signed = False  # the signature is on its way to the client
        self.is_closed = False
        self._parts: list[str] = []
        self._sent = 0  # number of parts that were handed out
        self._begins_object: bool | None = None  # None: not known yet
        self._complete_at = -1  # number of parts when they were last found complete

    @property
    def is_named(self) -> bool:
        """True: the name is known to its end and the id too, or no later delta can bring it."""
        if not self.name or not self.has_arguments:
            return False
        return bool(self.provider_id) or self.is_complete

    @property
    def has_arguments(self) -> bool:
        """True if there is any argument text yet."""
        return any(map(str.strip, self._parts))

    @property
    def is_complete(self) -> bool:
        """True if the arguments are one whole JSON value: nothing can follow."""
        if self._complete_at == len(self._parts):
            return True
        last = next((part for part in reversed(self._parts) if part.strip()), "")
        if last.rstrip()[-1:] not in ("}", "]", '"', "l") or _parse(self.arguments) is None:
            return False
        self._complete_at = len(self._parts)
        return True

    @property
    def is_settled(self) -> bool:
        """True if nothing will follow the arguments; behind `{}` the real ones may."""
        return self.is_complete and not self._is_held

    @property
    def arguments(self) -> str:
        """All the argument text so far."""
        return "".join(self._parts)

    def add(self, arguments: object) -> None:
        """
        Take more arguments: text, or a whole value (some servers send an object).

        Raises:
            Problem: If the client has the whole call already.
        """
        if arguments is None:
            return
        text = _as_text(arguments)
        if self.is_closed:
            if text.strip():
                raise BadAnswer(f"The provider went on with a call of {self.name} that had ended")
            return
        if self._is_held and text.lstrip().startswith("{"):
            self._parts.clear()
            self._complete_at = -1
        if text:
            self._parts.append(text)

    def repeats(self, arguments: object) -> bool:
        """Tell whether *arguments* are all of the call's, which are complete, once more."""
        return self.is_complete and _as_text(arguments) == self.arguments

    def absorb(self, parts: list[str]) -> None:
        """Take arguments that were sent to the client already."""
        self._parts += parts
        self._sent = len(self._parts)

    def take(self) -> str:
        """Return the arguments that can be sent on now."""
        if self.is_whole or self._is_held:
            return ""
        if self._begins_object is None and (begun := self.arguments.lstrip()):
            self._begins_object = begun.startswith("{")
        return self._unsent() if self._begins_object else ""

    def rest(self) -> str:
        """Return what is still to be sent when the call closes."""
        if self._begins_object:
            return self._unsent()
        arguments = to_input(self.arguments)
        if _parse(self.arguments) == (arguments,):
            return self.arguments
        return _dump(arguments) if arguments else ""

    @property
    def _is_held(self) -> bool:
        return self._parts == ["{}"] and not self._sent

    def _unsent(self) -> str:
        unsent = self._parts[self._sent :]
        self._sent = len(self._parts)
        return unsent[0] if len(unsent) == 1 else "".join(unsent)


class ToolCalls:
    """The calls of one answer."""

    def __init__(self, message_id: str, known_ids: Iterable[str]) -> None:
        self._message_id = message_id
        self._taken = set(known_ids)
        self._made = 0
        self._by_index: dict[tuple[int, int], ToolCall] = {}
        self._by_id: dict[str, ToolCall] = {}
        self._last: ToolCall | None = None

    def find(self, delta: ToolCallDelta, choice: int, *, is_whole: bool) -> tuple[ToolCall, bool]:
        """
        Return the call that *delta* belongs to, and whether it begins with it.

        A call of a whole answer always is one of its own.
        """
        index = (choice, delta.index) if isinstance(delta.index, int) else None
        call = None if is_whole else self._known(delta, index)
        is_new = call is None
        call = call or ToolCall()
        call.is_whole = is_whole
        function = delta.function
        call.provider_id = call.provider_id or _text(delta.id)
        if (name := _text(function and function.name)) != call.name:
            call.name += name
        call.thought_signature = call.thought_signature or _thought_signature(delta.extra_content)
        if not _is_repeated(call, delta):
            call.add(function and function.arguments)
        self._last = call
        if index is not None:
            self._by_index[index] = call
        if call.provider_id:
            self._by_id[call.provider_id] = call
        return call, is_new

    def claim_id(self, wanted: str) -> str:
        """Return *wanted* if it can be used, else a new id; it is taken from then on."""
        if not _VALID_ID.fullmatch(wanted) or wanted in self._taken:
            wanted = self._make_id()
        self._taken.add(wanted)
        return wanted

    def _make_id(self) -> str:
        while True:
            seed = f"{self._message_id} {self._made}".encode()
            self._made += 1
            made = f"toolu_{hashlib.sha256(seed).hexdigest()[:24]}"
            if made not in self._taken:
                return made

    def _known(self, delta: ToolCallDelta, index: tuple[int, int] | None) -> ToolCall | None:
        given_id, name = _text(delta.id), _text(delta.function and delta.function.name)
        if index is not None:
            call = self._by_index.get(index)
        elif given_id:
            call = self._by_id.get(given_id) or self._without_id(name)
        else:
            call = self._last
        if call is None or (given_id and call.provider_id and given_id != call.provider_id):
            return None
        if name and call.name and self._begins_anew(call, name, delta):
            return None
        return call

    def _without_id(self, name: str) -> ToolCall | None:
        """Return the last call if its id comes only now."""
        last = self._last
        return last if last is not None and not last.provider_id and not name else None

    def _begins_anew(self, call: ToolCall, name: str, delta: ToolCallDelta) -> bool:
        arguments = delta.function and delta.function.arguments
        if name != call.name:
            return not call.provider_id or call.has_arguments
        return bool(arguments) and call.is_complete and not _is_repeated(call, delta)


def _is_repeated(call: ToolCall, delta: ToolCallDelta) -> bool:
    """Tell whether *delta* says all of *call* once more; only an id can tell that of two alike."""
    if not delta.id or delta.function is None:
        return False
    return _text(delta.id) == call.provider_id and call.repeats(delta.function.arguments)


def to_input(arguments: str) -> dict[str, Any]:
    """
    Return *arguments* as the input of a tool_use block, which is an object whatever they are.

    Nothing becomes {}, a text that holds an object that object. What else there is stands under
    the key "arguments": the client's check of the schema then tells the model what it did.
    """
    found = _parse(arguments)
    if found is None:
        return {"arguments": arguments} if arguments.strip() else {}
    value = found[0]
    if isinstance(value, str) and (inner := _parse(value)) and isinstance(inner[0], dict):
        return inner[0]
    if isinstance(value, dict):
        return value
    return {"arguments": value} if value else {}


def _parse(text: str) -> tuple[Any] | None:
    """Return the JSON value of *text* in a tuple (it may be null), None if it is not JSON."""
    try:
        return (msgspec.json.decode(text),)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


def _as_text(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else _dump(arguments)


def _dump(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _text(value: object) -> str:
    """Return an id or a name; whatever is no text is absent, but for a number as id."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def _thought_signature(extra: object) -> str | None:
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) and signature else None
