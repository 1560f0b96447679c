"""Settings for features that ccproxy adds: web search, auto-mode verdicts, image descriptions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ccproxy.config import settings as s
from ccproxy.config.reader import EnvReader
from ccproxy.providers.search_backends import (
    NO_SEARCH,
    OWN_SEARCH,
    SearchBackend,
    search_backends,
    searches_of,
)
from ccproxy.text import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedFeatureSettings:
    """The added features, and the models and services that they use."""

    search: SearchBackend | None = None
    """The search engine that WEB_SEARCH names; None if it names none."""
    search_url: str = ""
    """The URL of the search engine's server, if the user set one; otherwise empty."""
    search_key: str = field(default="", repr=False)
    own_searches: tuple[SearchBackend, ...] = ()
    """The provider's own searches, if no engine is named; the choice among them depends on the
    model and the key."""
    own_search: bool = True
    """Whether the provider's own search may be used."""
    search_price: float | None = None
    """US dollars per search; None means the back end's list price."""
    auto_probe: float = 0.0
    """US dollars per day for background measurements; 0 disables them."""
    judge: str = ""
    """The model that judges tool calls in auto mode; if empty, the client judges them."""
    describer: str = ""
    """The model that describes images; empty for none."""
    max_tools: int | None = None
    """The maximum number of tools in a request; None for the provider's limit."""
    always_own_search: bool = False
    """Whether the provider's search is also used in direct mode, where requests are otherwise
    unchanged."""

    @property
    def searches_directly(self) -> bool:
        """Whether web searches are also answered in direct mode."""
        return self.search is not None or self.always_own_search

    def models(self) -> Iterator[tuple[s.Setting[Any, Any], str]]:
        """Yield the settings that name a model, with their values."""
        yield s.AUTO_MODE_MODEL, self.judge
        yield s.VISION, self.describer


def read_added_features(env: EnvReader, provider: str) -> AddedFeatureSettings:
    """Read the settings for the preset *provider*; mistakes are noted in *env*."""
    searching = _read_search(env, provider)
    judge, describer = env.read(s.AUTO_MODE_MODEL), env.read(s.VISION)
    return replace(
        searching,
        auto_probe=env.read(s.AUTO_PROBE) or 0.0,
        search_price=env.read(s.WEB_SEARCH_PRICE),
        judge=judge or "",
        describer=describer or "",
        max_tools=env.read(s.MAX_TOOLS),
    )


def _read_search(env: EnvReader, provider: str) -> AddedFeatureSettings:
    choice, keys = env.read(s.WEB_SEARCH), env.read(s.WEB_SEARCH_KEY)
    name, url = choice or (OWN_SEARCH, "")
    if name == NO_SEARCH:
        return AddedFeatureSettings(own_search=False)
    if name == OWN_SEARCH:
        own = searches_of(provider)
        return AddedFeatureSettings(own_searches=own, always_own_search=choice is not None)
    backend = _backend(env, name, url)
    if backend is None:
        return AddedFeatureSettings()
    key = keys[0] if keys else ""
    if not key and backend.auth != "none":
        env.note_absence(
            s.WEB_SEARCH_KEY,
            f"{backend.title} requires a key",
            near=env.value(s.WEB_SEARCH),
            example="your key",
        )
    return AddedFeatureSettings(search=backend, search_url=url, search_key=key, own_search=False)


def _backend(env: EnvReader, name: str, url: str) -> SearchBackend | None:
    """Return the search engine *name*; None if it cannot be used."""
    value = env.value(s.WEB_SEARCH)
    # A model can search only at its own provider.
    engines = {
        key: each
        for key, each in search_backends().items()
        if each.api is None and not each.summary and not each.text_with_links
    }
    backend = engines.get(name)
    if backend is None:
        text = f'WEB_SEARCH must name a search engine, got "{name}"{did_you_mean(name, engines)}'
        env.note(
            value, text, fix=f"choose one of {', '.join(engines)}, {OWN_SEARCH} or {NO_SEARCH}"
        )
    elif backend.needs_server and not url:
        text = f"WEB_SEARCH: {backend.title} needs the address of its server"
        env.note(value, text, fix=f"for example, write WEB_SEARCH={name}:http://127.0.0.1:8888")
    return backend
