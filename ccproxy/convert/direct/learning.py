"""
Adapt requests to a Messages provider by learning from its refusals (direct mode).

Claude Code sends the newest fields of the API, and many compatible servers answer 400 to the first
unknown field. The refusal names the field; the request is repeated without it, and the worker
remembers it for the model. In the same way, system messages within a conversation become reminders
in user messages for servers whose chat template accepts only one system message, at the start.

A server refuses the thinking signatures of another provider, with which a session may have started,
for every model. The worker remembers these signatures, so the provider's own thinking is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec
from msgspec import Raw

from ccproxy.convert.common.refused_features import LearnedRefusals
from ccproxy.convert.common.thinking import PREFIX
from ccproxy.errors import Problem
from ccproxy.protocol.json_splice import NOT_JSON, fields_of, without_fields

NEVER_DROPPED = frozenset({"model", "messages", "max_tokens", "stream", "system", "tools"})
"""Without these fields the request would have a different meaning."""
_TOOL_FIELD = "tools.*."
_SYSTEM_MESSAGES = "system_messages"

_BLAMES = re.compile(
    r"extra inputs? (?:is|are) not permitted|not (?:permitted|allowed|supported)|unsupported"
    r"|unknown|unexpected|unrecogni[sz]ed|does not support|input should be|additional propert",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"signature|thinking block|redacted_thinking", re.IGNORECASE)
# Linear time: a run of path characters matches only from its start, without nested repeats.
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
    """The known refusals in direct mode: `apply` before a request, `learn` after a refusal."""

    def __init__(self, learned: LearnedRefusals | None = None) -> None:
        self._learned = LearnedRefusals() if learned is None else learned

    def apply(self, body: bytes, model: str) -> bytes:
        """Return *body* without the features that *model* is known to refuse."""
        if features := set(self._learned.features("messages", model)):
            in_tools = {name for name in features if name.startswith(_TOOL_FIELD)}
            body = without_fields(body, features - in_tools - NEVER_DROPPED)
            if in_tools:
                body = _without_in_tools(body, {name[len(_TOOL_FIELD) :] for name in in_tools})
            if _SYSTEM_MESSAGES in features:
                body = _without_system_messages(body)
        opaque = self._learned.opaque
        return (
            _map_blocks(body, lambda block: _fingerprint(block) not in opaque) if opaque else body
        )

    def learn(self, problem: Problem, body: bytes, model: str) -> bytes | None:
        """Return a body to retry the request with, or None if the refusal names no feature."""
        if problem.status not in (400, 422):
            return None
        text = problem.message
        if _SIGNATURE.search(text) and self._remember_signatures(body):
            return self.apply(body, model)
        if _SYSTEM_ROLE.search(text) and _without_system_messages(body) != body:
            self._learned.add("messages", model, (_SYSTEM_MESSAGES,))
            return self.apply(body, model)
        if not _BLAMES.search(text):
            return None
        names = _blamed(text, set(fields_of(body) or ()) - NEVER_DROPPED)
        in_tools = {_TOOL_FIELD + name for name in set(_WORD.findall(text)) & _tool_fields(body)}
        is_new = self._learned.add("messages", model, names or in_tools)
        return self.apply(body, model) if is_new else None

    def _remember_signatures(self, body: bytes) -> bool:
        """
        Store the conversation's signatures as foreign; return False if all of them are known.

        ccproxy's own signatures are always foreign. The others are stored only if all of ccproxy's
        own are known already, so that its own cannot have caused the refusal.
        """
        own: set[str] = set()
        others: set[str] = set()

        def collect(block: _Block) -> bool:
            (own if block.signature.startswith(PREFIX) else others).add(_fingerprint(block))
            return True

        _map_blocks(body, collect)
        return self._learned.add_opaque(own - {""}) or self._learned.add_opaque(others - {""})


def _blamed(text: str, fields: Collection[str]) -> set[str]:
    """Return the *fields* that begin a path (`thinking.type: …`), else the first one in *text*."""
    heads = {name for name in _PATH.findall(text) if name in fields}
    first = next((name for name in _WORD.findall(text) if name in fields), None)
    return heads or ({first} if first else set())


def _fingerprint(block: _Block) -> str:
    """Return the hash of a thinking block's signature, or "" for other blocks."""
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
    """Return the request without the content blocks that *keep* rejects."""
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
    except NOT_JSON:
        return _Block()


def _items(raw: Raw | None) -> list[Raw]:
    """Return the undecoded items of a list, or none for any other value."""
    try:
        return [] if raw is None else _LIST.decode(raw)
    except NOT_JSON:
        return []


def _tools(body: bytes) -> Iterable[Any]:
    return _items((fields_of(body) or {}).get("tools"))


def _tool_fields(body: bytes) -> set[str]:
    """Return the names of all optional fields in the tools."""
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
    """Return the request with system messages as reminders in adjacent user messages."""
    fields = fields_of(body)
    raw_messages = _items(fields.get("messages")) if fields else []
    try:
        roles = [_MESSAGE.decode(raw).role for raw in raw_messages]
        if fields is None or "system" not in roles:
            return body
        messages = _merged([_MESSAGE.decode(raw) for raw in raw_messages])
    except NOT_JSON:
        return body
    return msgspec.json.encode({**fields, "messages": messages})


def _merged(messages: Iterable[_Message]) -> list[_Message]:
    """Merge *messages* into alternating user and assistant messages."""
    merged: list[_Message] = []
    for message in messages:
        is_system = message.role == "system"
        role = "user" if is_system else message.role
        blocks = _reminders(message.content) if is_system else _blocks(message.content)
        if merged and merged[-1].role == role == "user":
            merged[-1].content += blocks
        else:
            merged.append(_Message(role, blocks))
    for message in merged:
        if message.role == "user":  # the API requires results before text
            message.content.sort(key=lambda block: not _is_result(block))
    return merged


def _is_result(block: object) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_result"


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
