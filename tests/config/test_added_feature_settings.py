"""WEB_SEARCH and its key."""

from __future__ import annotations

import pytest

from ccproxy.config.fleet_check import load_all
from ccproxy.config.secrets import secrets_of
from ccproxy.config.worker_config import load_worker
from ccproxy.errors import ConfigError

KEY = "tvly-0123456789abcdef"


def load(**settings):
    environ = {"PROVIDER": "zai", "PROVIDER_API_KEY": "k-0123456789", **settings}
    return load_worker(None, environ=environ)


@pytest.mark.parametrize(
    ("settings", "engine", "own"),
    [
        ({}, None, 1),
        ({"WEB_SEARCH": "provider"}, None, 1),
        ({"WEB_SEARCH": "off"}, None, 0),
        ({"WEB_SEARCH": "SearXNG:http://127.0.0.1:8888/"}, "SearXNG", 0),
        ({"WEB_SEARCH": "tavily", "WEB_SEARCH_KEY": KEY}, "Tavily", 0),
    ],
    ids=["nothing", "the provider's", "off", "an address", "a key"],
)
def test_who_searches(settings, engine, own):
    features = load(**settings).added_features
    assert features.search is None if engine is None else features.search.title == engine
    assert len(features.own_searches) == own


def test_the_key_is_a_secret():
    config = load(WEB_SEARCH="tavily", WEB_SEARCH_KEY=KEY)
    assert KEY in secrets_of(config)
    assert KEY not in repr(config)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"WEB_SEARCH": "tavily"}, "WEB_SEARCH_KEY is missing: Tavily requires a key"),
        ({"WEB_SEARCH": "searxng"}, "SearXNG needs the address of its server"),
        ({"WEB_SEARCH": "tavly", "WEB_SEARCH_KEY": KEY}, 'did you mean "tavily"'),
        ({"WEB_SEARCH": "openai"}, "must name a search engine"),
        ({"WEB_SEARCH_PRICE": "half"}, "WEB_SEARCH_PRICE must be a number of US dollars"),
        ({"WEB_SEARCH": "searxng:"}, "must be a name or name:URL"),
        ({"WEB_SEARCH": "http://x"}, "must be an http:// or https:// address"),
        ({"WEB_SEARCH": "searxng:http://search.example"}, "unencrypted"),
    ],
)
def test_mistakes(settings, text):
    with pytest.raises(ConfigError, match="WEB_SEARCH") as caught:
        load(**settings)
    assert text in str(caught.value)


def test_a_judge_of_an_unknown_entry_is_a_mistake(tmp_path):
    text = "PROVIDER=zai\nPROVIDER_API_KEY=k-0123456789\nAUTO_MODE_MODEL=Gemni:small\n"
    (tmp_path / "x.env").write_text(text)
    (tmp_path / "x.env").chmod(0o600)
    table = tmp_path / "ccproxy.toml"
    table.write_text('proxies = ["8081:x.env:Gemini"]\n')
    with pytest.raises(ConfigError, match='AUTO_MODE_MODEL: there is no proxy "Gemni"'):
        load_all(table)
