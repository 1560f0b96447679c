"""
Learn the features that a Responses provider refuses, and leave them out of requests.

Three kinds of refusals name the feature. The request is repeated once without the feature, and the
worker remembers it:

* encrypted reasoning that the provider cannot decrypt, because it belongs to another organization,
  account or deployment. Only these ciphertexts are remembered, so later reasoning is still sent;
* a parameter that the model does not support, such as `reasoning.summary` (unverified
  organizations), `include` (models without reasoning) or an unknown parameter;
* the dialect itself, if this API does not serve the model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from ccproxy.convert.common.refused_features import LearnedRefusals
from ccproxy.convert.responses.reasoning_items import digest
from ccproxy.errors import Problem, ProviderRefusal
from ccproxy.protocol.json_splice import object_of
from ccproxy.providers.quirks import Api

_NEVER_DROPPED: Final = frozenset(("model", "input", "stream", "store", "tools"))
"""Without these parameters the request would have a different meaning, or would be stored."""

_STALE_REASONING = re.compile(
    r"encrypted[ _](?:content|reasoning)\b.*(?:verified|decrypt|pars|different|not issued|match)",
    re.IGNORECASE | re.DOTALL,
)
_STALE_CODE: Final = "invalid_encrypted_content"
_NO_ENCRYPTION = re.compile(r"encrypted content is not supported", re.IGNORECASE)
_BLAME = re.compile(
    r"(?:unknown|unsupported|unrecognized|invalid|unexpected)[\w ]*(?:parameter|argument|field)s?"
    r"[^'\"`]{0,40}['\"`]([a-z_]+(?:\.[a-z_]+)?)['\"`]"
    r"|['\"`]([a-z_]+(?:\.[a-z_]+)?)['\"`]?:? (?:is )?(?:not (?:supported|allowed|permitted))",
    re.IGNORECASE,
)
_BLAME_CODES: Final = frozenset(
    ("unknown_parameter", "unsupported_parameter", "unsupported_value", "invalid_value")
)
"""OpenAI's errors with these codes name the parameter in `param`."""

_NEEDS_RESPONSES = re.compile(
    r"v1/responses|not accessible via the /chat/completions", re.IGNORECASE
)
_WRONG_API_CODE: Final = "unsupported_api_for_model"
_MODEL = re.compile(r"\bmodel\b", re.IGNORECASE)


class _InputItem(msgspec.Struct):
    type: str = ""
    encrypted_content: str = ""


class _Body(msgspec.Struct):
    input: list[_InputItem]


_BODY = msgspec.json.Decoder(_Body)


class Refusals:
    """The refusals known to a worker: `apply` before a request, `learn` after a refusal."""

    def __init__(self, learned: LearnedRefusals | None = None) -> None:
        self._learned = LearnedRefusals() if learned is None else learned

    @property
    def refused_reasoning(self) -> Collection[str]:
        """Digests of the ciphertexts that the provider could not decrypt."""
        return self._learned.opaque

    def apply(self, body: dict[str, Any], model: str) -> dict[str, Any]:
        """Return *body* without the parameters that are known to be refused for *model*."""
        for path in self._learned.features("responses", model):
            body = _without(body, path)
        return body

    def learn(self, problem: Problem, body: bytes, model: str) -> bool:
        """Record the feature of *body* that *problem* refuses; return False if it names none."""
        refusal = problem.refusal
        if refusal is None or problem.status not in (400, 422):
            return False
        if _NO_ENCRYPTION.search(refusal.text):
            return self._learn_parameter("include", body, model)
        if _STALE_CODE in refusal.codes or _STALE_REASONING.search(refusal.text):
            return self._learn_ciphertexts(body)
        return self._learn_parameter(_blamed_parameter(refusal), body, model)

    def _learn_parameter(self, path: str, body: bytes, model: str) -> bool:
        name, _, inner = path.partition(".")
        fields = object_of(body) or {}
        value = fields.get(name)
        is_sent = name in fields and (not inner or (isinstance(value, dict) and inner in value))
        if name in _NEVER_DROPPED or not is_sent:
            return False
        return self._learned.add("responses", model, (path,))

    def _learn_ciphertexts(self, body: bytes) -> bool:
        items = _BODY.decode(body).input
        return self._learned.add_opaque(
            digest(item.encrypted_content)
            for item in items
            if item.type == "reasoning" and item.encrypted_content
        )


def other_api(problem: Problem, api: Api) -> Api | None:
    """
    Return the dialect that the model requires instead of *api*, or None if *problem* names none.

    If only the Responses API serves the model, the refusal names the model. A server without that
    API answers 404 without naming the model.
    """
    refusal = problem.refusal
    if refusal is None or refusal.status not in (400, 404, 405):
        return None
    if api == "chat":
        is_refused = _WRONG_API_CODE in refusal.codes
        return "responses" if is_refused or _NEEDS_RESPONSES.search(refusal.text) else None
    is_unknown_path = refusal.status != 400 and not _MODEL.search(refusal.text)
    return "chat" if api == "responses" and is_unknown_path else None


def _blamed_parameter(refusal: ProviderRefusal) -> str:
    """Return the refused parameter, such as `reasoning.summary`, or an empty string."""
    if refusal.codes & _BLAME_CODES and refusal.parameter:
        return refusal.parameter
    match = _BLAME.search(refusal.text)
    return (match[1] or match[2]) if match else ""


def _without(body: Mapping[str, Any], path: str) -> dict[str, Any]:
    name, _, inner = path.partition(".")
    rest = {key: value for key, value in body.items() if key != name}
    if not inner or not isinstance(body.get(name), dict):
        return rest
    value = {key: each for key, each in body[name].items() if key != inner}
    return {**rest, name: value} if value else rest


NOTHING_REFUSED: Final = Refusals()
"""The default for providers without known refusals."""
