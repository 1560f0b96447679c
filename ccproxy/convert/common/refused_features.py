"""
Features that a provider refused, by dialect and model, so that they are not sent again.

A feature that the client requests (effort, formats, images, thinking in the history, cache keys) is
sent even though the provider might not support it. A refusal names the feature; the request is
repeated once without it, and later requests are converted accordingly. The learned facts survive a
restart and expire after a few days, because providers change.

`LearnedRefusals` stores the facts of all dialects of one worker:

- features: paths of fields (`thinking`, `reasoning.summary`) and the names in `_CHANGES`;
- opaque data (encrypted reasoning, thinking signatures) of other providers, by digest;
- the dialect for a model that is not served in the configured dialect.

Converted requests apply the facts through `adapted`, which returns the target with different
quirks; direct mode applies them by removing fields from the body.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, KeysView, Mapping
from dataclasses import replace
from typing import Any, Final, cast

import msgspec

from ccproxy.bounded_dict import BoundedDict
from ccproxy.convert.errors import phrases
from ccproxy.errors import ProviderRefusal
from ccproxy.protocol.json_splice import fields_of
from ccproxy.providers.quirks import Api, Quirks, Target

MAX_OPAQUE: Final = 10_000
"""Maximum number of stored digests of opaque data; the oldest are removed first."""
_MAX_FEATURES: Final = 100
"""Maximum number of features per model; beyond that, errors are probably misread."""
_EFFORTS_PREFIX: Final = "efforts="

_NEVER_REMOVED: Final = frozenset(
    {"model", "messages", "input", "max_tokens", "max_completion_tokens", "stream", "tools"}
)
_CHANGES: Final[Mapping[str, Mapping[str, Any]]] = {
    "cache_control": {"cache_control": False},
    "documents": {"pdf": "text"},
    "forced_choice_with_thinking": {"forced_choice_with_thinking": False},
    "format_with_thinking": {"format_with_thinking": False},
    "images": {"images": False},
    "json_schema": {"response_format": "json_object"},
    "max_completion_tokens": {"max_tokens_field": "max_tokens"},
    "max_tokens": {"max_tokens_field": "max_completion_tokens"},
    "message_order": {
        "merge_user_messages": True,
        "system_messages": "first",
        "user_after_tool": False,
    },
    "parallel_tool_calls": {"parallel_tool_calls": False},
    "response_format": {"response_format": "none"},
    "schema": {"schema": "grammar"},
    "stop": {"stop": False},
    "stream_options": {"stream_options": False},
    "streaming": {},
    "system_messages": {"system_messages": "first"},
    "temperature": {"sampling": False, "sampling_without_effort": False},
    "thinking_history": {"history": "drop", "history_required": False},
    "thinking_without_stream": {"thinking_needs_stream": True},
    "tool_choice": {"tool_choices": ()},
    "top_k": {"top_k": False},
    "top_p": {"sampling": False, "sampling_without_effort": False},
}
"""Feature -> the quirks that avoid it; any other feature is a field to remove."""
CONVERTED_FEATURES: Final = frozenset(
    {"images", "documents", "message_order", "schema", "streaming"}
)
"""Features that are avoided in the same way in every converted dialect."""


class LearnedRefusals:
    """The refusals that one worker has received from its provider."""

    def __init__(self) -> None:
        self._features: BoundedDict[tuple[Api, str], set[str]] = BoundedDict()
        self._opaque: BoundedDict[str, None] = BoundedDict(MAX_OPAQUE)
        self._apis: BoundedDict[str, Api] = BoundedDict()

    @property
    def opaque(self) -> KeysView[str]:
        """Digests of the opaque data that the provider could not read."""
        return self._opaque.keys()

    def features(self, api: Api, model: str) -> Collection[str]:
        """Return the features that *model* refuses in the dialect *api*."""
        return self._features.get((api, model), ())

    def add(self, api: Api, model: str, features: Iterable[str]) -> bool:
        """Store refused *features*; return False if all were already known."""
        refused = self._features.get((api, model), set())
        new = set(features) - refused
        if not new or len(refused) + len(new) > _MAX_FEATURES:
            return False
        self._features[api, model] = refused | new
        return True

    def remove_measured(self, api: Api, model: str, quirks: Collection[str]) -> None:
        """Delete the refused features that the measured *quirks* describe more precisely."""
        refused = self._features.get((api, model), set())
        refused -= {name for name in refused if _CHANGES.get(name, {}).keys() & quirks}

    def add_opaque(self, digests: Iterable[str]) -> bool:
        """Store *digests* of opaque data; return False if all were already known."""
        new = {digest: None for digest in digests if digest not in self._opaque}
        self._opaque.update(new)
        return bool(new)

    def api(self, model: str) -> Api | None:
        """Return the dialect to use for *model* if the configured one was refused."""
        return self._apis.get(model)

    def set_api(self, model: str, api: Api) -> bool:
        """Store the dialect for *model*; return False if one was stored, so both were refused."""
        if model in self._apis:
            return False
        self._apis[model] = api
        return True

    def forget(self) -> None:
        """Delete all stored facts."""
        self._features.clear()
        self._opaque.clear()
        self._apis.clear()

    def export(self) -> dict[str, Any]:
        """Return the facts as plain data."""
        features: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
        for (api, model), names in self._features.items():
            if names:
                features[api][model] = sorted(names)
        return {"features": dict(features), "opaque": list(self._opaque), "apis": dict(self._apis)}

    def restore(self, data: Mapping[str, Any]) -> None:
        """
        Add the facts that `export` returned.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: If the data is invalid.
        """
        features = {
            (cast("Api", str(api)), str(model)): set(map(str, names))
            for api, models in data["features"].items()
            for model, names in models.items()
        }
        apis = {str(model): cast("Api", str(api)) for model, api in data["apis"].items()}
        self.add_opaque(map(str, data["opaque"]))
        self._features.update(features)
        self._apis.update(apis)


def adapted(target: Target, learned: LearnedRefusals) -> Target:
    """Return *target* with quirks that avoid the features its model refused."""
    features = learned.features(target.api, target.model)
    if not features:
        return target
    changes: dict[str, Any] = {}
    removed = list(target.quirks.refused_fields)
    for feature in sorted(features):
        if feature in _CHANGES:
            changes |= _CHANGES[feature]
        elif feature.startswith(_EFFORTS_PREFIX):
            changes["efforts"] = tuple(feature[len(_EFFORTS_PREFIX) :].split(","))
        elif target.api == "chat":
            removed.append(feature)
    quirks = msgspec.structs.replace(target.quirks, **changes, refused_fields=tuple(removed))
    return replace(target, quirks=quirks)


# Reading refusals of converted requests.

_STATUSES: Final = frozenset({400, 413, 415, 422, 500, 501})
_BLAMES: Final = re.compile(
    r"not (?:permitted|allowed|supported|valid|implemented)|unsupported|unknown|unexpected"
    r"|unrecogni[sz]ed|invalid|extra (?:inputs|fields)|does(?: not|n't) support|input should be"
    r"|additional propert|incompatible|only supports?|must be|should be",
    re.IGNORECASE,
)
_QUOTED: Final = re.compile(r"['\"`]([a-z][a-z0-9_]{2,40})(?:\.[a-z0-9_.]{1,40})?['\"`]")
_PATH: Final = re.compile(r"(?<![\w.])([a-z][a-z0-9_]{2,40})(?:\.[\w.-]{1,40})?: ")
_COMPOUND: Final = re.compile(r"\b[a-z]{2,20}(?:_[a-z0-9]{1,20}){1,4}\b")
_SUPPORTED_VALUES: Final = re.compile(r"(?:supported|allowed|valid) values are:?(.{1,200})", re.I)
_EFFORT_VALUE: Final = re.compile(r"\b(none|minimal|low|medium|high|xhigh|max)\b")

_TEXTS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("streaming", phrases.STREAM_REFUSED),
    ("images", phrases.IMAGE),
    ("documents", phrases.DOCUMENT),
    (
        "thinking_history",
        re.compile(
            r"(?:messages?|assistant|input)\b.{0,80}\breasoning(?:_content|_details)?\b"
            r"|reasoning_(?:content|details)\b.{0,80}\b(?:unsupported|not (?:permitted|allowed"
            r"|supported)|extra|unexpected|unknown)|propert\w+ '?reasoning",
            re.IGNORECASE,
        ),
    ),
    (
        "thinking_without_stream",
        re.compile(r"enable_thinking.{0,60}(?:non-streaming|stream)", re.IGNORECASE),
    ),
    (
        "forced_choice_with_thinking",
        re.compile(r"tool_choice.{0,120}thinking|thinking.{0,120}tool_choice", re.IGNORECASE),
    ),
    (
        "format_with_thinking",
        re.compile(r"response_format.{0,80}thinking|thinking.{0,80}response_format", re.IGNORECASE),
    ),
    ("max_tokens", re.compile(r"max_tokens.{0,120}use '?max_completion_tokens", re.IGNORECASE)),
    (
        "message_order",
        re.compile(r"roles? must alternate|alternat\w+ (?:user|roles?)|after role tool", re.I),
    ),
    (
        "system_messages",
        re.compile(r"system (?:message|role)s?.{0,60}(?:beginning|first|start|only)", re.I),
    ),
    (
        "schema",
        re.compile(
            r"json.?schema.{0,60}(?:conversion|error|grammar|unsupported|invalid pattern)"
            r"|(?:parse|compile) grammar|unable to generate parser|pattern must start",
            re.IGNORECASE,
        ),
    ),
    (
        "json_schema",
        re.compile(r"json_schema.{0,80}(?:not|un)\W?(?:support|available)|type.{0,40}json_object"),
    ),
)


def refused_features(
    status: int | None, refusal: ProviderRefusal | None, body: bytes, quirks: Quirks
) -> frozenset[str]:
    """Return the features of a converted *body* that *refusal* names, if any."""
    if refusal is None or status not in _STATUSES:
        return frozenset()
    text = refusal.text[:2_000]
    for feature, pattern in _TEXTS:
        if pattern.search(text) and _changes_anything(feature, quirks):
            return frozenset((feature,))
    if status in (500, 501) or not (refusal.parameter or _BLAMES.search(text)):
        return frozenset()
    fields = (fields_of(body) or {}).keys() - _NEVER_REMOVED
    name = _named_field(refusal, text, fields)
    if name == "reasoning_effort" and (values := _supported_efforts(text)):
        return frozenset((_EFFORTS_PREFIX + ",".join(values),))
    return frozenset((name,) if name else ())


def _changes_anything(feature: str, quirks: Quirks) -> bool:
    """Return False if the quirks already avoid *feature*: the refusal has another cause."""
    changes = _CHANGES[feature]
    if not changes:
        return True
    return any(getattr(quirks, name) != value for name, value in changes.items())


def _named_field(refusal: ProviderRefusal, text: str, fields: Collection[str]) -> str:
    """Return the first of *fields* that the refusal names."""
    head = refusal.parameter.partition(".")[0]
    if head in fields:
        return head
    # A word such as "user" or "stop" names a field only in quotes or at the head of a path.
    for pattern in (_QUOTED, _PATH, _COMPOUND):
        for match in pattern.finditer(text):
            name = match[1] if pattern.groups else match[0]
            if name in fields:
                return name
    return ""


def _supported_efforts(text: str) -> list[str]:
    match = _SUPPORTED_VALUES.search(text)
    return list(dict.fromkeys(_EFFORT_VALUE.findall(match[1]))) if match else []
