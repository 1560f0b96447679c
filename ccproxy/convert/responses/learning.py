"""
What a Responses provider refused, and the request without it.

Three kinds of refusals say what to leave out, so the request is repeated once without it and the
worker remembers it:

* encrypted reasoning that the provider cannot read: another organization's key, another account or
  deployment made it. What is remembered are the ciphertexts, so that later reasoning stays;
* a parameter that the model does not support, such as `reasoning.summary` (organizations that are
  not verified), `include` (models that do not reason) or an unknown one;
* the dialect itself: the model is not served by this API.
"""

from __future__ import annotations

import re
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from ccproxy.convert.responses.reasoning_items import digest
from ccproxy.errors import Problem

CIPHERTEXTS_KEPT: Final = 10_000
_NEVER_DROPPED: Final = frozenset(("model", "input", "stream", "store", "tools"))
"""Without these a request is another one, or is stored."""

_STALE_REASONING = re.compile(
    r"encrypted[ _](?:content|reasoning)\b.*(?:verified|decrypt|pars|different|not issued|match)"
    r"|invalid_encrypted_content",
    re.IGNORECASE | re.DOTALL,
)
_NO_ENCRYPTION = re.compile(r"encrypted content is not supported", re.IGNORECASE)
_BLAME = re.compile(
    r"(?:unknown|unsupported|unrecognized|invalid|unexpected)[\w ]*"
    r"(?:parameter|argument|field|value)s?[^'\"`]{0,40}['\"`]([a-z_]+(?:\.[a-z_]+)?)['\"`]"
    r"|['\"`]([a-z_]+(?:\.[a-z_]+)?)['\"`]?:? (?:is )?(?:not (?:supported|allowed|permitted))",
    re.IGNORECASE,
)
_UNVERIFIED = re.compile(r"verified to generate reasoning summaries", re.IGNORECASE)


class _InputItem(msgspec.Struct):
    type: str = ""
    encrypted_content: str = ""


class _Body(msgspec.Struct):
    input: list[_InputItem]


_BODY = msgspec.json.Decoder(_Body)
_FIELDS = msgspec.json.Decoder(dict[str, Any])


class Refusals:
    """What one worker has learnt: `apply` before a request is sent, `learn` after a refusal."""

    def __init__(self) -> None:
        self._parameters: defaultdict[str, set[str]] = defaultdict(set)
        self._ciphertexts: OrderedDict[str, None] = OrderedDict()

    @property
    def refused_reasoning(self) -> Collection[str]:
        """Digests of the ciphertexts that the provider could not read."""
        return self._ciphertexts.keys()

    def apply(self, body: dict[str, Any], model: str) -> dict[str, Any]:
        """Return *body* without the parameters that are known to be refused for *model*."""
        for path in self._parameters.get(model, ()):
            body = _without(body, path)
        return body

    def learn(self, problem: Problem, body: bytes, model: str) -> bool:
        """Take note of what *problem* refuses of *body*; False if it names nothing."""
        if problem.status not in (400, 422):
            return False
        text = problem.message
        if _NO_ENCRYPTION.search(text):
            return self._learn_parameter("include", body, model)
        if _STALE_REASONING.search(text):
            return self._learn_ciphertexts(body)
        if _UNVERIFIED.search(text):
            return self._learn_parameter("reasoning.summary", body, model)
        match = _BLAME.search(text)
        return match is not None and self._learn_parameter(match[1] or match[2], body, model)

    def _learn_parameter(self, path: str, body: bytes, model: str) -> bool:
        name, _, inner = path.partition(".")
        fields = _FIELDS.decode(body)
        value = fields.get(name)
        is_sent = name in fields and (not inner or (isinstance(value, dict) and inner in value))
        if name in _NEVER_DROPPED or not is_sent or path in self._parameters[model]:
            return False
        self._parameters[model].add(path)
        return True

    def _learn_ciphertexts(self, body: bytes) -> bool:
        items = _BODY.decode(body).input
        new = {
            digest(item.encrypted_content): None
            for item in items
            if item.type == "reasoning" and item.encrypted_content
        }
        self._ciphertexts |= new
        while len(self._ciphertexts) > CIPHERTEXTS_KEPT:
            self._ciphertexts.popitem(last=False)
        return bool(new)


def _without(body: Mapping[str, Any], path: str) -> dict[str, Any]:
    name, _, inner = path.partition(".")
    rest = {key: value for key, value in body.items() if key != name}
    if not inner or not isinstance(body.get(name), dict):
        return rest
    value = {key: each for key, each in body[name].items() if key != inner}
    return {**rest, name: value} if value else rest


NOTHING_REFUSED: Final = Refusals()
"""The refusals of a provider that has refused nothing."""
