"""
The presets of `providers.toml`: what is known about each provider, as data.

A preset's `quirks` hold for all its models; a card of `models` overrides some of them for the
models whose names match. Cards stand in the order in which they are tried: the first match wins,
so special names stand above general patterns.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from ccproxy.protocol.headers import AuthStyle
from ccproxy.providers.cards import ModelCard
from ccproxy.providers.pricing import Price
from ccproxy.providers.quirks import PLAIN, Quirks

DEMO_ADDRESS = "demo:"
"""Stands for the address of the provider that the worker itself serves; filled in by it."""
AUTO_CACHE_FIELD = "requesty"


class PresetCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known about some models of one provider."""

    names: tuple[str, ...]
    """Glob patterns; a name without one is a model that is always sent on unchanged."""
    window: int | None = None
    max_output: int | None = None
    price: tuple[float, ...] = ()
    """Dollars per million tokens: input, output and, where known, cache reads and writes."""
    quirks: dict[str, Any] = {}
    everywhere: bool = False
    """True: the card holds for these names on a server of which nothing is known, too."""


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider."""

    title: str
    base_url: str = ""
    """Where Chat Completions are answered; empty: only the user knows."""
    native_url: str = ""
    """Where the Messages API is answered (without /v1/messages); empty: nowhere."""
    api: Literal["chat", "messages"] = "chat"
    """What PROVIDER_API is if the user does not say."""
    auth: AuthStyle = "bearer"
    native_auth: AuthStyle = "bearer"
    hosts: tuple[str, ...] = ()
    """Glob patterns of further hosts by which the provider is recognised without PROVIDER."""
    key_page: str = ""
    """Where a user gets a key."""
    example_url: str = ""
    """What to write as base URL where the preset has none of its own."""
    reports_cached_input: bool = False
    """Whether its usage says how many input tokens came from its cache."""
    placeholder_key: str = ""
    """The key that is sent when the user has none; empty: a key is needed."""
    big: str | None = None
    """The model of the tier; None: the provider gets the name that the client sent."""
    middle: str | None = None
    """None: the same as big."""
    small: str | None = None
    """None: the same as big."""
    pass_models: tuple[str, ...] = ()
    headers: dict[str, str] = {}
    """Headers of every request; the user's own win."""
    quirks: dict[str, Any] = {}
    models: tuple[PresetCard, ...] = ()
    like: str = ""
    """The preset whose cards follow this one's own, under this one's quirks."""
    takes_anthropic_keys: bool = False
    """Whether a client's key of Anthropic's (`sk-ant-…`) may be passed on."""

    @property
    def needs_key(self) -> bool:
        """Whether the provider refuses requests without a key of the user's."""
        return not self.placeholder_key

    @property
    def lists_all_models(self) -> bool:
        """Whether a name that it neither lists nor sends on is wrong, and not just new or local."""
        is_open = any(pattern.startswith("*") for pattern in self.pass_models)
        return bool(self.models and self.big) and not is_open

    def cards(self) -> tuple[ModelCard, ...]:
        """Return the cards of all models, each with every quirk that holds for it."""
        others = load_presets()[self.like].models if self.like else ()
        return tuple(card for one in (*self.models, *others) for card in _cards(one, self.quirks))

    def unknown(self) -> ModelCard:
        """Return the card of a model that the preset does not know."""
        return ModelCard(quirks=_quirks(self.quirks))


@cache
def load_presets() -> Mapping[str, Preset]:
    """Read `providers.toml`, once per process; the keys are the words that PROVIDER takes."""
    # Not through importlib.resources: that loads zipfile and tempfile, for 10 ms and 300 KiB.
    text = Path(__file__).with_name("providers.toml").read_text(encoding="utf-8")
    presets = msgspec.convert(tomllib.loads(text), dict[str, Preset])
    return MappingProxyType(presets)


@cache
def generic_preset() -> Preset:
    """
    Return what is assumed of a server without a preset: rows M01 and M02.

    Nothing but the names of model families that are the same wherever they are served.
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
        models=tuple(
            card for preset in load_presets().values() for card in preset.models if card.everywhere
        ),
    )


def preset_for_host(host: str) -> str:
    """Find the preset whose provider answers at *host*; empty if none is known to."""
    name = host.lower()
    for word, preset in load_presets().items():
        if any(fnmatchcase(name, pattern) for pattern in preset.hosts):
            return word
    return ""


def preset_for_auth(auth: AuthStyle) -> str:
    """Find the preset that authenticates by *auth*; empty if none does."""
    return next((word for word, preset in load_presets().items() if preset.auth == auth), "")


@cache
def bypass_url() -> str:
    """Return where Claude Code's own keys are good: where it would ask without a proxy."""
    presets = load_presets().values()
    return next(preset.native_url for preset in presets if preset.takes_anthropic_keys)


def with_auto_cache(card: ModelCard, *, on: bool) -> ModelCard:
    """Return *card* asking for Requesty's own cache breakpoints, or no longer (row M17)."""
    body = {
        name: value for name, value in card.quirks.extra_body.items() if name != AUTO_CACHE_FIELD
    }
    if on:
        body[AUTO_CACHE_FIELD] = {"auto_cache": True}
    return replace(card, quirks=msgspec.structs.replace(card.quirks, extra_body=body))


def with_extra_body(card: ModelCard, fields: Mapping[str, Any]) -> ModelCard:
    """Return *card* with these fields in the body of every request."""
    body = {**card.quirks.extra_body, **fields}
    return replace(card, quirks=msgspec.structs.replace(card.quirks, extra_body=body))


def _cards(card: PresetCard, common: Mapping[str, Any]) -> tuple[ModelCard, ...]:
    quirks = _quirks({**common, **card.quirks})
    price = Price.of(card.price) if card.price else None
    known = ModelCard(window=card.window, max_output=card.max_output, price=price, quirks=quirks)
    return tuple(replace(known, pattern=name) for name in card.names)


def _quirks(fields: Mapping[str, Any]) -> Quirks:
    return msgspec.convert(dict(fields), Quirks) if fields else PLAIN
