"""
Adaptation of requests to a Messages provider, learnt from its refusals (direct mode).

Claude Code sends the newest fields of the API, and many compatible servers answer 400 to the first
unknown one. The refusal names the field; the request is repeated without it, and the worker
remembers it for the model. In the same way system messages in the middle of a conversation become
reminders in user messages, for servers whose chat template accepts only one at the start.

A foreign thinking signature (of a session that began with another provider) does not depend on the
model. Then the signatures are remembered, so that the provider's own thinking is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from ccproxy.convert.common.thinking import PREFIX
from ccproxy.errors import Problem
from ccproxy.protocol.json_splice import fields_of, without_fields

NEVER_DROPPED = frozenset({"model", "messages", "max_tokens", "stream", "system", "tools"})
"""Without these the request would be another one."""
SIGNATURES_KEPT = 10_000

_BLAMES = re.compile(
    r"extra inputs? (?:is|are) not permitted|not (?:permitted|allowed|supported)|unsupported"
    r"|unknown|unexpected|unrecogni[sz]ed|does not support|input should be|additional propert",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"signature|thinking block|redacted_thinking", re.IGNORECASE)
# Linear: a run of path characters is matched from its start only, and without nested repeats.
_PATH = re.compile(r"(?<![\w.-])([a-z][a-z0-9_]*)(?:\.[\w.-]*)?: ")
_WORD = re.compile(r"[a-z][a-z0-9_]+")
_SYSTEM_ROLE = re.compile(
    r"system (?:message|role|prompt)|role[^.]{0,40}system|only user[^.]{0,20} and assistant"
    r"|must alternate|(?:unexpected|unknown|invalid|unsupported) role|\.role: input should be",
    re.IGNORECASE,
)
_OMITTED = Raw(b'{"type":"text","text":"(thinking omitted)"}')

_LIST = msgspec.json.Decoder(list[Raw])


class _Block(msgspec.Struct):
    type: str = ""
    signature: str = ""
    data: str = ""


_BLOCK = msgspec.json.Decoder(_Block)


class Lessons:
    """The lessons of one worker: `apply` them to every request, `learn` after a refusal."""

    def __init__(self) -> None:
        self._fields: defaultdict[str, set[str]] = defaultdict(set)
        self._tool_fields: defaultdict[str, set[str]] = defaultdict(set)
        self._foreign: OrderedDict[str, None] = OrderedDict()
        self._one_system_prompt: set[str] = set()  # models

    def apply(self, body: bytes, model: str) -> bytes:
        """Return *body* without_fields what is known to be refused for *model*."""
        if model in self._fields:
            body = without_fields(body, self._fields[model])
        if model in self._tool_fields:
            body = _without_in_tools(body, self._tool_fields[model])
        if model in self._one_system_prompt:
            body = _without_system_messages(body)
        return self._without_foreign(body) if self._foreign else body

    def learn(self, problem: Problem, body: bytes, model: str) -> bytes | None:
        """Return the body for repeating a refused request, None if the refusal names nothing."""
        if problem.status not in (400, 422):
            return None
        text = problem.message
        if _SIGNATURE.search(text) and self._remember_signatures(body):
            return self.apply(body, model)
        if _SYSTEM_ROLE.search(text) and model not in self._one_system_prompt:
            self._one_system_prompt.add(model)
            adapted = self.apply(body, model)
            if adapted != body:
                return adapted
            self._one_system_prompt.discard(model)
        if not _BLAMES.search(text):
            return None
        blamed = _blamed(text, set(fields_of(body) or ()) - NEVER_DROPPED)
        in_tools = set(_WORD.findall(text)) & _tool_fields(body)
        if blamed:
            self._fields[model] |= blamed
        elif in_tools:
            self._tool_fields[model] |= in_tools
        else:
            return None
        return self.apply(body, model)

    # Persistence

    def export(self) -> dict[str, Any]:
        """Return the lessons as plain data."""
        return {
            "fields": {model: sorted(names) for model, names in self._fields.items()},
            "tool_fields": {model: sorted(names) for model, names in self._tool_fields.items()},
            "foreign": list(self._foreign),
            "one_system_prompt": sorted(self._one_system_prompt),
        }

    def restore(self, exported: Mapping[str, Any]) -> None:
        """
        Add what `export` returned.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: If it is something else.

        """
        fields = {str(model): set(map(str, names)) for model, names in exported["fields"].items()}
        in_tools = {
            str(model): set(map(str, names)) for model, names in exported["tool_fields"].items()
        }
        self._foreign.update(dict.fromkeys(map(str, exported["foreign"])))
        self._fields.update({model: names - NEVER_DROPPED for model, names in fields.items()})
        self._tool_fields.update(in_tools)
        self._one_system_prompt.update(map(str, exported.get("one_system_prompt", ())))

    def _remember_signatures(self, body: bytes) -> bool:
        """
        Remember the signatures of the conversation as foreign; False if there is no new one.

        ccproxy's own are foreign for certain, the others only if those are not the reason.
        """
        minted: set[str] = set()
        others: set[str] = set()

        def note(block: _Block) -> bool:
            (minted if block.signature.startswith(PREFIX) else others).add(_fingerprint(block))
            return True

        _map_blocks(body, note)
        remembered = {"", *self._foreign}
        new = minted - remembered or others - remembered
        self._foreign.update(dict.fromkeys(new))
        while len(self._foreign) > SIGNATURES_KEPT:
            self._foreign.popitem(last=False)
        return bool(new)

    def _without_foreign(self, body: bytes) -> bytes:
        return _map_blocks(body, lambda block: _fingerprint(block) not in self._foreign)


def _blamed(text: str, fields: Collection[str]) -> set[str]:
    """Return the *fields* at the head of a path (`thinking.type: …`), else the first one named."""
    heads = {name for name in _PATH.findall(text) if name in fields}
    first = next((name for name in _WORD.findall(text) if name in fields), None)
    return heads or ({first} if first else set())


def _fingerprint(block: _Block) -> str:
    """Return the hash of a thinking block's signature, "" for every other block."""
    match block.type:
        case "thinking":
            signature = block.signature
        case "redacted_thinking":
            signature = block.data
        case _:
            signature = ""
    data = signature.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=12).hexdigest() if signature else ""


def _map_blocks(body: bytes, keep: Callable[[_Block], bool]) -> bytes:
    """Return the request without_fields those content blocks that *keep* denies."""
    fields = fields_of(body)
    if fields is None or b"thinking" not in body:
        return body
    messages = _items(fields.get("messages"))
    filtered = [_message(raw, keep) for raw in messages]
    if all(new is old for new, old in zip(filtered, messages, strict=True)):
        return body
    return msgspec.json.encode({**fields, "messages": filtered})


def _message(raw: Raw, keep: Callable[[_Block], bool]) -> Raw:
    fields = fields_of(raw)
    blocks = _items(fields.get("content")) if fields else []
    rest = [block for block in blocks if keep(_read(block))]
    if fields is None or len(rest) == len(blocks):
        return raw
    return Raw(msgspec.json.encode({**fields, "content": rest or [_OMITTED]}))


def _read(block: Raw) -> _Block:
    try:
        return _BLOCK.decode(block)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Block()


def _items(raw: Raw | None) -> list[Raw]:
    """Return the items of a list undecoded; none if it is something else."""
    try:
        return [] if raw is None else _LIST.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _tools(body: bytes) -> Iterable[Any]:
    return _items((fields_of(body) or {}).get("tools"))


def _tool_fields(body: bytes) -> set[str]:
    """Return the field names of all tools, except the required ones."""
    names = {name for tool in _tools(body) for name in fields_of(tool) or ()}
    return names - {"name", "description", "input_schema"}


def _without_in_tools(body: bytes, names: Collection[str]) -> bytes:
    if not _tool_fields(body) & set(names):
        return body
    fields = fields_of(body) or {}
    tools = [Raw(without_fields(bytes(tool), names)) for tool in _tools(body)]
    return msgspec.json.encode({**fields, "tools": tools})


# System messages within the conversation


class _Message(msgspec.Struct):
    role: str
    content: Any = None


_MESSAGE = msgspec.json.Decoder(_Message)


def _without_system_messages(body: bytes) -> bytes:
    """Return the request with system messages as reminders in the neighbouring user messages."""
    fields = fields_of(body)
    raw_messages = _items(fields.get("messages")) if fields else []
    try:
        roles = [_MESSAGE.decode(raw).role for raw in raw_messages]
        if fields is None or "system" not in roles:
            return body
        messages = _merged([_MESSAGE.decode(raw) for raw in raw_messages])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
    return msgspec.json.encode({**fields, "messages": messages})


def _merged(messages: Iterable[_Message]) -> list[_Message]:
    """Return *messages* as alternating user and assistant messages."""
    merged: list[_Message] = []
    for message in messages:
        is_system = message.role == "system"
        role = "user" if is_system else message.role
        blocks = _reminders(message.content) if is_system else _blocks(message.content)
        if merged and merged[-1].role == role == "user":
            merged[-1].content += blocks
        else:
            merged.append(_Message(role, blocks))
    return merged


def _blocks(content: object) -> list[Any]:
    if isinstance(content, list):
        return list(content)
    return [{"type": "text", "text": content}] if content else []


def _reminders(content: object) -> list[Any]:
    texts = (block.get("text") for block in _blocks(content) if isinstance(block, dict))
    return [
        {"type": "text", "text": f"<system-reminder>\n{text}\n</system-reminder>"}
        for text in texts
        if text
    ]
