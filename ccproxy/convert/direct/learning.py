"""
What a Messages provider does not take, learnt from its refusals (direct mode).

Claude Code sends what the newest API understands, and many a "compatible" server answers 400 to
the first field it has never heard of. The refusal names the field; the request is repeated without
it, and the worker remembers it for the model.

A foreign thinking signature (a session that began with another provider) is not a matter of the
model: what is remembered then are the signatures, so that thinking of the provider's own stays.
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
"""Without these a request is another one, or none."""
SIGNATURES_KEPT = 10_000

_BLAMES = re.compile(
    r"extra inputs? (?:is|are) not permitted|not (?:permitted|allowed|supported)|unsupported"
    r"|unknown|unexpected|unrecogni[sz]ed|does not support|input should be|additional propert",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"signature|thinking block|redacted_thinking", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w.])([a-z][a-z0-9_]*)(?:\.[\w.-]+)*: ")
_WORD = re.compile(r"[a-z][a-z0-9_]+")
_OMITTED = Raw(b'{"type":"text","text":"(thinking omitted)"}')

_LIST = msgspec.json.Decoder(list[Raw])


class _Block(msgspec.Struct):
    type: str = ""
    signature: str = ""
    data: str = ""


_BLOCK = msgspec.json.Decoder(_Block)


class Lessons:
    """What one worker has learnt; `apply` before a request is sent, `learn` after a refusal."""

    def __init__(self) -> None:
        self._fields: defaultdict[str, set[str]] = defaultdict(set)
        self._tool_fields: defaultdict[str, set[str]] = defaultdict(set)
        self._foreign: OrderedDict[str, None] = OrderedDict()

    def apply(self, body: bytes, model: str) -> bytes:
        """Return *body* without_fields what is known to be refused for *model*."""
        if model in self._fields:
            body = without_fields(body, self._fields[model])
        if model in self._tool_fields:
            body = _without_in_tools(body, self._tool_fields[model])
        return self._without_foreign(body) if self._foreign else body

    def learn(self, problem: Problem, body: bytes, model: str) -> bytes | None:
        """Return the *body* to repeat a refused request with, None if the refusal names nothing."""
        if problem.status not in (400, 422):
            return None
        text = problem.message
        if _SIGNATURE.search(text) and self._remember_signatures(body):
            return self.apply(body, model)
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

    # How it is kept.

    def export(self) -> dict[str, Any]:
        """Return what was learnt as plain data."""
        return {
            "fields": {model: sorted(names) for model, names in self._fields.items()},
            "tool_fields": {model: sorted(names) for model, names in self._tool_fields.items()},
            "foreign": list(self._foreign),
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """
        Take over what `export` returned.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: If it is something else.

        """
        fields = {str(model): set(map(str, names)) for model, names in kept["fields"].items()}
        in_tools = {
            str(model): set(map(str, names)) for model, names in kept["tool_fields"].items()
        }
        self._foreign.update(dict.fromkeys(map(str, kept["foreign"])))
        self._fields.update({model: names - NEVER_DROPPED for model, names in fields.items()})
        self._tool_fields.update(in_tools)

    def _remember_signatures(self, body: bytes) -> bool:
        """
        Take the signatures of the conversation for foreign; False if there is no new one.

        Those that ccproxy minted are so for sure; the others only if that was not the reason.
        """
        minted: set[str] = set()
        others: set[str] = set()

        def note(block: _Block) -> bool:
            (minted if block.signature.startswith(PREFIX) else others).add(_seal(block))
            return True

        _map_blocks(body, note)
        known = {"", *self._foreign}
        new = minted - known or others - known
        self._foreign.update(dict.fromkeys(new))
        while len(self._foreign) > SIGNATURES_KEPT:
            self._foreign.popitem(last=False)
        return bool(new)

    def _without_foreign(self, body: bytes) -> bytes:
        return _map_blocks(body, lambda block: _seal(block) not in self._foreign)


def _blamed(text: str, fields: Collection[str]) -> set[str]:
    """Return the *fields* at the head of a path (`thinking.type: …`), else the first one named."""
    heads = {name for name in _PATH.findall(text) if name in fields}
    first = next((name for name in _WORD.findall(text) if name in fields), None)
    return heads or ({first} if first else set())


def _seal(block: _Block) -> str:
    """Return what a thinking block is recognised by, an empty text for every other block."""
    match block.type:
        case "thinking":
            seal = block.signature
        case "redacted_thinking":
            seal = block.data
        case _:
            seal = ""
    data = seal.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=12).hexdigest() if seal else ""


def _map_blocks(body: bytes, keep: Callable[[_Block], bool]) -> bytes:
    """Return the request without_fields those content blocks that *keep* denies."""
    fields = fields_of(body)
    if fields is None or b"thinking" not in body:
        return body
    messages = _items(fields.get("messages"))
    kept = [_message(raw, keep) for raw in messages]
    if all(new is old for new, old in zip(kept, messages, strict=True)):
        return body
    return msgspec.json.encode({**fields, "messages": kept})


def _message(raw: Raw, keep: Callable[[_Block], bool]) -> Raw:
    fields = fields_of(raw)
    blocks = _items(fields.get("content")) if fields else []
    kept = [block for block in blocks if keep(_read(block))]
    if fields is None or len(kept) == len(blocks):
        return raw
    return Raw(msgspec.json.encode({**fields, "content": kept or [_OMITTED]}))


def _read(block: Raw) -> _Block:
    try:
        return _BLOCK.decode(block)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Block()


def _items(raw: Raw | None) -> list[Raw]:
    """Return the entries of a list undecoded; none if it is something else."""
    try:
        return [] if raw is None else _LIST.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _tools(body: bytes) -> Iterable[Any]:
    return _items((fields_of(body) or {}).get("tools"))


def _tool_fields(body: bytes) -> set[str]:
    """Return the names of all fields of all tools, but for those that a tool must have."""
    names = {name for tool in _tools(body) for name in fields_of(tool) or ()}
    return names - {"name", "description", "input_schema"}


def _without_in_tools(body: bytes, names: Collection[str]) -> bytes:
    if not _tool_fields(body) & set(names):
        return body
    fields = fields_of(body) or {}
    tools = [Raw(without_fields(bytes(tool), names)) for tool in _tools(body)]
    return msgspec.json.encode({**fields, "tools": tools})
