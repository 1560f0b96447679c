"""
The provider presets of `providers.toml`.

The `quirks` of a preset apply to all its models; a card in `models` overrides some of them for
matching models. The first matching card applies, so specific names precede general patterns.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from ccproxy.protocol.headers import AuthStyle
from ccproxy.providers.cards import ModelCard, NameMatcher, name_matcher
from ccproxy.providers.catalogue import Catalogue, Section
from ccproxy.providers.quirks import PLAIN, Api, Quirks

DEMO_ADDRESS = "demo:"
"""Placeholder for the base URL of the demo provider, which the worker serves itself."""
AUTO_CACHE_FIELD = "requesty"
_ENDPOINT_FIELDS = (
    *("base_url", "native_url", "key_page"),
    *("big", "middle", "small", "pass_models"),
)
"""The fields of an endpoint that override its preset."""


class PresetCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The quirks of some of a provider's models."""

    names: tuple[str, ...]
    """Glob patterns; a plain name is always sent unchanged."""
    quirks: dict[str, Any] = {}
    responses_quirks: dict[str, Any] = {}
    """Quirks that override others in the Responses API."""
    api: Api | None = None
    """The dialect of these models, by default the preset's."""
    everywhere: bool = False
    """Whether the card also applies to these names at servers without a preset."""


class Family(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Quirks that models have at every server."""

    names: tuple[str, ...]
    """Glob patterns for the part of a model's name after the last "/"."""
    quirks: dict[str, Any] = {}
    """Quirks with lower precedence than those of the preset and the model's card."""
    overrides: dict[str, Any] = {}
    """Quirks with lower precedence than those of the model's card only."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider's address for one region or plan. A key is valid at only one endpoint."""

    name: str
    base_url: str = ""
    """The base URL, by default the preset's."""
    native_url: str = ""
    """The base URL of the Messages API, which is unavailable if only `base_url` is set."""
    key_page: str = ""
    """The page for creating a key, by default the preset's."""
    preset: str = ""
    """The preset of the endpoint, by default the one that contains it."""
    catalogue: str = ""
    """The section of the catalogue with the endpoint's own models or prices, if any."""
    big: str = ""
    """The model for the tier; this and the other models default to the preset's."""
    middle: str = ""
    small: str = ""
    pass_models: tuple[str, ...] = ()


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider."""

    title: str
    base_url: str = ""
    """The base URL of Chat Completions; if empty, the user must set it."""
    native_url: str = ""
    """The base URL of the Messages API (without /v1/messages), or empty if unavailable."""
    api: Api = "chat"
    """The default dialect of the models."""
    auth: AuthStyle = "bearer"
    native_auth: AuthStyle = "bearer"
    hosts: tuple[str, ...] = ()
    """Glob patterns for hosts that identify the provider if PROVIDER is not set."""
    key_page: str = ""
    """The page for creating a key."""
    endpoints: tuple[Endpoint, ...] = ()
    """The regions and plans, default first; empty if there is only one."""
    example_url: str = ""
    """An example of a base URL, for presets without one."""
    reports_cached_input: bool = False
    """Whether the usage includes the number of cached input tokens."""
    placeholder_key: str = ""
    """The key to send if the user has none; if empty, a key is required."""
    big: str | None = None
    """The model for the tier; if None, the client's model name is sent."""
    middle: str | None = None
    """The model of the tier, by default the same as `big`."""
    small: str | None = None
    """The model of the tier, by default the same as `big`."""
    pass_models: tuple[str, ...] = ()
    headers: dict[str, str] = {}
    """Headers for every request; the user's headers override them."""
    quirks: dict[str, Any] = {}
    responses_quirks: dict[str, Any] = {}
    """Quirks that override others in the Responses API; a card's quirks take precedence."""
    models: tuple[PresetCard, ...] = ()
    like: str = ""
    """A preset whose cards also apply, after this preset's own cards and with its quirks."""
    takes_anthropic_keys: bool = False
    """Whether the client's Anthropic key (`sk-ant-…`) may be forwarded."""

    @property
    def needs_key(self) -> bool:
        """Whether the provider requires a key."""
        return not self.placeholder_key

    @property
    def lists_all_models(self) -> bool:
        """Whether every valid model name is listed or matches a pass pattern."""
        is_open = any(pattern.startswith("*") for pattern in self.pass_models)
        return bool(self.models and self.big) and not is_open

    def at(self, endpoint: Endpoint) -> Preset:
        """Return the preset with the addresses and models of *endpoint*."""
        owner = load_presets()[endpoint.preset] if endpoint.preset else self
        fields = {name: getattr(endpoint, name) for name in _ENDPOINT_FIELDS}
        changes = {name: value for name, value in fields.items() if value}
        if endpoint.base_url:  # the Messages API at another address would refuse the key
            changes["native_url"] = endpoint.native_url
        return msgspec.structs.replace(owner, **changes)

    def cards(self) -> tuple[ModelCard, ...]:
        """Return the cards of all models, including the preset's quirks."""
        others = load_presets()[self.like].models if self.like else ()
        return tuple(card for one in (*self.models, *others) for card in self._cards(one))

    def unknown(self) -> ModelCard:
        """Return the card for models that match no other card."""
        return ModelCard(
            quirks=_quirks(self.quirks),
            preset_fields=frozenset(self.quirks),
            responses_quirks=self.responses_quirks,
        )

    def _cards(self, card: PresetCard) -> tuple[ModelCard, ...]:
        replaced = {
            name: value for name, value in self.responses_quirks.items() if name not in card.quirks
        }
        common = ModelCard(
            quirks=_quirks({**self.quirks, **card.quirks}),
            preset_fields=frozenset({*self.quirks, *card.quirks}),
            card_fields=frozenset(card.quirks),
            api=card.api,
            responses_quirks={**replaced, **card.responses_quirks},
        )
        return tuple(replace(common, pattern=name) for name in card.names)


@cache
def load_presets() -> Mapping[str, Preset]:
    """Read `providers.toml` once per process; the keys are the values of PROVIDER."""
    # importlib.resources would load zipfile and tempfile, which costs 10 ms and 300 KiB.
    text = Path(__file__).with_name("providers.toml").read_text(encoding="utf-8")
    presets = msgspec.convert(tomllib.loads(text), dict[str, Preset])
    return MappingProxyType(presets)


@cache
def load_families() -> tuple[tuple[NameMatcher, Family], ...]:
    """Read `families.toml` once per process; return each name pattern with its family."""
    text = Path(__file__).with_name("families.toml").read_text(encoding="utf-8")
    families = msgspec.convert(tomllib.loads(text)["families"], list[Family])
    for family in families:
        _quirks({**family.quirks, **family.overrides})  # validates them
    return tuple((name_matcher(name), each) for each in families for name in each.names)


def with_family(card: ModelCard, model: str) -> ModelCard:
    """Return *card* with the quirks of the families that *model* belongs to."""
    name = model.rpartition("/")[2]
    for matches, family in load_families():
        if matches(name):
            card = card.with_family(family.quirks, family.overrides)
    return card


@cache
def generic_preset() -> Preset:
    """
    Return the preset for servers without one of their own.

    Its cards are those of models that are the same at every server.
    """
    return Preset(
        title="an OpenAI-compatible server",
        base_url="https://api.openai.com/v1",
        big="gpt-4o",
        small="gpt-4o-mini",
        pass_models=(
            *("gpt-*", "o1*", "o3*", "o4*", "ep-*", "doubao-*", "deepseek-*", "glm-*"),
            *("minimax*", "gemini*", "kimi-*", "moonshot-*", "qwen*"),
        ),
        # Most servers support or ignore these fields; refusals are learned.
        quirks={
            "history": "reasoning_content",
            "history_scope": "tool_turns",
            "reasoning": "explicit_effort",
        },
        models=tuple(
            # The dialects of an unknown server are learned from its answers.
            msgspec.structs.replace(
                card,
                api=None,
                quirks={"history": "drop", **card.quirks},
                names=tuple(map(_as_pattern, card.names)),
            )
            for preset in load_presets().values()
            for card in preset.models
            if card.everywhere
        ),
    )


def rows_of(catalogue: Catalogue, provider: str, endpoint: Endpoint) -> Section:
    """
    Return the catalogue's rows for *endpoint* of the preset *provider* ("" for a generic server).

    Raises:
        ValueError: If the catalogue is invalid.
    """
    if not provider:
        return _rows_everywhere(catalogue)
    name = endpoint.preset or provider
    like = load_presets()[name].like
    shared = _without_provider_facts(catalogue.section(like)) if like else {}
    own = catalogue.section(endpoint.catalogue) if endpoint.catalogue else {}
    return {**shared, **catalogue.section(name), **own}


def _without_provider_facts(rows: Section) -> Section:
    """Return *rows* without the facts that apply only to their own provider."""
    facts = {"api": None, "pdf": None, "status": "current", "retires": "", "successor": ""}
    return {model: msgspec.structs.replace(row, **facts) for model, row in rows.items()}


def _rows_everywhere(catalogue: Catalogue) -> Section:
    """Return the rows of models that are the same at every server."""
    rows: Section = {}
    for name, preset in load_presets().items():
        cards = [(name_matcher(one), card) for card in preset.models for one in card.names]
        if not any(card.everywhere for _, card in cards):
            continue
        for model, row in catalogue.section(name).items():
            card = next((card for matches, card in cards if matches(model)), None)
            if card is not None and card.everywhere:
                rows[model] = row
    return _without_provider_facts(rows)


def _as_pattern(name: str) -> str:
    """Return *name* as a glob, because an exact name would be listed as a model of the server."""
    return name if any(char in name for char in "*?[") else f"{name}*"


def preset_for_host(host: str) -> str:
    """Return the name of the preset for *host*, or "" if there is none."""
    name = host.lower()
    for preset_name, preset in load_presets().items():
        if any(fnmatchcase(name, pattern) for pattern in preset.hosts):
            return preset_name
    return ""


def preset_for_auth(auth: AuthStyle) -> str:
    """Return the name of the first preset that authenticates with *auth*, or ""."""
    presets = load_presets().items()
    return next((name for name, preset in presets if preset.auth == auth), "")


@cache
def bypass_url() -> str:
    """Return the base URL to which Claude Code sends its own credentials without a proxy."""
    presets = load_presets().values()
    return next(preset.native_url for preset in presets if preset.takes_anthropic_keys)


def with_auto_cache(card: ModelCard, *, on: bool) -> ModelCard:
    """Return *card* with Requesty's automatic cache breakpoints turned on or off."""
    body = {
        name: value for name, value in card.quirks.extra_body.items() if name != AUTO_CACHE_FIELD
    }
    if on:
        body[AUTO_CACHE_FIELD] = {"auto_cache": True}
    return replace(card, quirks=msgspec.structs.replace(card.quirks, extra_body=body))


def with_extra_body(card: ModelCard, fields: Mapping[str, Any]) -> ModelCard:
    """Return *card* with *fields* added to the body of every request."""
    body = {**card.quirks.extra_body, **fields}
    return replace(card, quirks=msgspec.structs.replace(card.quirks, extra_body=body))


def _quirks(fields: Mapping[str, Any]) -> Quirks:
    return msgspec.convert(dict(fields), Quirks) if fields else PLAIN
