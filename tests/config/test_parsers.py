"""Each parser: what it takes, and what it says of the rest."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.config import parsers
from ccproxy.providers.presets import load_presets


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        *((parsers.switch, word, True) for word in ("on", "ON", "true", "Yes", "1")),
        *((parsers.switch, word, False) for word in ("off", "False", "no", "0")),
        (parsers.seconds, "600", 600.0),
        (parsers.seconds, "0.5", 0.5),
        (parsers.seconds_or_never, "0", 0.0),
        (parsers.tokens, "131072", 131072),
        (parsers.requests, "500", 500),
        (parsers.per_minute, "10000", 10000),
        (parsers.count, "0", 0),
        (parsers.count, "10", 10),
        (parsers.port, "8081", 8081),
        (parsers.log_level, "debug", "DEBUG"),
        (parsers.log_level, "Warn", "WARNING"),
        (parsers.log_level, "INFO # chatty", "INFO"),
        (parsers.api, "Messages", "messages"),
        (parsers.words, " a, ,b,,a ", ("a", "b")),
        (parsers.words, " , ", ()),
        (parsers.hosts, "Box.lan, 10.0.0.5,::1,a_b", ("box.lan", "10.0.0.5", "::1", "a_b")),
        (parsers.hosts, "box.lan.", ("box.lan",)),
        (parsers.model, "qwen3-coder:30b", "qwen3-coder:30b"),
        (parsers.text, "::1", "::1"),
        (parsers.keys, "sk-1", ("sk-1",)),
        (parsers.keys, " sk-1 ,, sk-2, ", ("sk-1", "sk-2")),
        (parsers.keys, "sk-1,sk-2,sk-1", ("sk-1", "sk-2")),
        (parsers.keys, "dummy", ("dummy",)),
        (parsers.keys, "sk-case-1", ("sk-case-1",)),
        (parsers.keys, "sk-test-key-1234", ("sk-test-key-1234",)),
        (parsers.http_url, "https://api.example.com/v1/", "https://api.example.com/v1"),
        (parsers.http_url, "http://127.0.0.1:9099/v1", "http://127.0.0.1:9099/v1"),
        (parsers.http_url, "http://[::1]:11434/v1", "http://[::1]:11434/v1"),
        (parsers.http_url, "http://192.168.1.20:8000", "http://192.168.1.20:8000"),
        (parsers.http_url, "http://100.101.102.103:8000", "http://100.101.102.103:8000"),
        (parsers.http_url, "http://vllm:8000/v1", "http://vllm:8000/v1"),
        (parsers.http_url, "http://host.docker.internal:1234", "http://host.docker.internal:1234"),
        (parsers.http_url, "http://box.local/v1", "http://box.local/v1"),
        (parsers.proxy_url, "http://user:pw@proxy:3128", "http://user:pw@proxy:3128"),
    ],
)
def test_takes(parse, text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        *(
            (
                parsers.hosts,
                f"box.lan,{name}",
                f'must be host names without scheme, port and wildcards, got "{name}"',
            )
            for name in ("http://x", "x:80", "*", "*.lan", "[::1]", "-x", "a..b", "a b", "ü")
        ),
        (parsers.switch, "maybe", 'must be on or off, got "maybe"'),
        (parsers.seconds, "90s", 'must be a number of seconds, got "90s"'),
        (parsers.seconds, "0", 'must be a number of seconds, got "0"'),
        (parsers.seconds, "-1", 'must be a number of seconds, got "-1"'),
        (parsers.seconds, "inf", 'must be a number of seconds, got "inf"'),
        (parsers.seconds, "nan", 'must be a number of seconds, got "nan"'),
        (
            parsers.seconds_or_never,
            "soon",
            'must be a number of seconds or 0 for never, got "soon"',
        ),
        (parsers.per_minute, "10001", 'must be at most 10000 requests, got "10001"'),
        (parsers.requests, "0", 'must be a whole number of requests, at least 1, got "0"'),
        (parsers.requests, "many", 'must be a whole number of requests, at least 1, got "many"'),
        (parsers.tokens, "8k", 'must be a whole number of tokens, got "8k"'),
        (parsers.tokens, "0", 'must be a whole number of tokens, got "0"'),
        (parsers.tokens, "-5", 'must be a whole number of tokens, got "-5"'),
        (parsers.tokens, "1.5", 'must be a whole number of tokens, got "1.5"'),
        (parsers.count, "-1", 'must be a whole number from 0 to 99, got "-1"'),
        (parsers.count, "two", 'must be a whole number from 0 to 99, got "two"'),
        (parsers.port, "0", 'must be a port from 1 to 65535, got "0"'),
        (parsers.port, "70000", 'must be a port from 1 to 65535, got "70000"'),
        (
            parsers.log_level,
            "loud",
            'must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, got "loud"',
        ),
        (parsers.api, "grpc", 'must be auto, chat, responses or messages, got "grpc"'),
        (parsers.model, "a,b", 'must be the name of one model, got "a,b"'),
        (parsers.text, "a\nb", "must be one line without control signs"),
        (parsers.keys, " , ", "holds no key, only commas"),
        (
            parsers.http_url,
            "api.x",
            'must be an http:// or https:// address, got "api.x"',
        ),
        (
            parsers.http_url,
            "htps://api.example.com",
            'must be an http:// or https:// address, got "htps://api.example.com"',
        ),
        (
            parsers.http_url,
            "https://",
            'must be an http:// or https:// address, got "https://"',
        ),
        (
            parsers.http_url,
            "https://api.example.com:99999/v1",
            'must be an http:// or https:// address, got "https://api.example.com:99999/v1"',
        ),
        (
            parsers.http_url,
            "https://[::1/v1",
            'must be an http:// or https:// address, got "https://[::1/v1"',
        ),
        (
            parsers.http_url,
            "https://api.example.com/ v1",
            'must be an http:// or https:// address, got "https://api.example.com/ v1"',
        ),
        (
            parsers.http_url,
            "http://api.example.com/v1",
            'would send the key in the clear, got "http://api.example.com/v1"',
        ),
        (
            parsers.http_url,
            "http://8.8.8.8/v1",
            'would send the key in the clear, got "http://8.8.8.8/v1"',
        ),
        (
            parsers.http_url,
            "https://me:secret@api.example.com/v1",
            "must not hold a name and password",
        ),
        (
            parsers.http_url,
            "http://me:secret@api.example.com/v1",
            'would send the key in the clear, got "http://…@api.example.com/v1"',
        ),
        (parsers.proxy_url, "user:secret@proxy", "must be an http:// address of a proxy"),
        (parsers.proxy_url, "socks5://proxy:1", "must be an http:// address of a proxy"),
    ],
)
def test_refuses(parse, text, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        parse(text)


@pytest.mark.parametrize(
    "key",
    [
        *("your-api-key", "your_api_key_here", "YOUR-OPENAI-KEY", "sk-your-key", "sk-ant-your-key"),
        *("sk-xxx", "sk-xxxxxxxxxxxxxxxx", "xxx", "sk-...", "sk-…", "sk-or-v1-xxxx", "nvapi-xxx"),
        *("changeme", "change-me", "CHANGE_ME_PLEASE", "replace-me", "replace_with_your_key"),
        *("insert-key-here", "paste_your_key", "placeholder", "TODO", "<your key>", "<KEY>"),
        *(
            "{API_KEY}",
            "api_key",
            "api-key-here",
            "sk-proj-xxxx",
            "your-expected-anthropic-api-key",
        ),
    ],
)
def test_what_stands_in_templates_is_no_key(key):
    with pytest.raises(ValueError, match="holds a placeholder, not a key"):
        parsers.keys(key)


@pytest.mark.parametrize("key", ["sk-a b", "sk-\u00e4", "sk-a\tb", "sk-\u201cx\u201d", "sk\0x"])
def test_what_no_header_can_carry_is_no_key(key):
    with pytest.raises(ValueError, match="another sign that keys never have"):
        parsers.keys(key)


def test_of_several_keys_the_wrong_one_is_named():
    with pytest.raises(ValueError, match="holds as key 2 of 3 a placeholder"):
        parsers.keys("sk-1,changeme,sk-3")


def said_of(key):
    try:
        parsers.keys(key)
    except ValueError as error:
        return str(error)
    return ""


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=12))
def test_a_parser_of_keys_never_quotes_more_than_the_end(key):
    assert f"({key}" not in said_of(key)
    assert len(said_of(key)) < 100


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("sk-1234567890abcd", "…abcd"),
        ("123456789012", "…9012"),
        ("short", "…"),
        ("", "…"),
    ],
)
def test_secrets_are_shown_by_their_end(secret, shown):
    assert parsers.masked(secret) == shown


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "LOCALHOST.", "a.localhost"]
)
def test_loopback(host):
    assert parsers.is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "127.0.0.1.nip.io", ""]
)
def test_not_loopback(host):
    assert not parsers.is_loopback(host)


@pytest.mark.parametrize(
    "host", ["10.1.2.3", "172.16.0.9", "fd00::1", "gpu-box", "gpu.lan", "x.svc.cluster.local"]
)
def test_in_the_user_s_own_network(host):
    assert parsers.is_private(host)


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1", "api.example.com", "local.example"])
def test_out_in_the_world(host):
    assert not parsers.is_private(host)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a=1/2", [("a", (1.0, 2.0))]),
        ("a=1/2/.5", [("a", (1.0, 2.0, 0.5))]),
        ("a=1/2/.5/3", [("a", (1.0, 2.0, 0.5, 3.0))]),
        (
            "x/y:free = 0/0, *=1/2",
            [("x/y:free", (0.0, 0.0)), ("*", (1.0, 2.0))],
        ),
    ],
)
def test_prices(value, expected):
    assert list(parsers.prices(value)) == expected


@pytest.mark.parametrize(
    "value", ["a", "a=1", "=1/2", "a=1/2/3/4/5", "a=x/2", "a=-1/2", "a=inf/2", "a=nan/2", "a=1/"]
)
def test_wrong_prices(value):
    with pytest.raises(ValueError, match="must be like model=input/output"):
        parsers.prices(value)


@pytest.mark.parametrize("value", ["{}", '{"a": [1, {"b": null}]}'])
def test_an_extra_body(value):
    assert isinstance(parsers.extra_body(value), dict)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nonsense", "JSON object"),
        ("[]", "JSON object"),
        ("[" * 100_000, "JSON object"),
        ('{"model": "x", "stream": true}', "must not hold model or stream"),
    ],
)
def test_no_extra_body(value, said):
    with pytest.raises(ValueError, match=said):
        parsers.extra_body(value)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        pytest.param("sk-0123456789abcdef", True, id="a vendor's prefix"),
        pytest.param("0123456789abcdef0123456789abcdef.AbCdEf", True, id="letters and digits"),
        pytest.param("qwen3-coder:30b", False, id="a name"),
        pytest.param("accounts/fireworks/models/deepseek-v3p1-terminus", False, id="a long name"),
        pytest.param("ep-20250101120000-abcde", False, id="an endpoint"),
    ],
)
def test_what_looks_like_a_key(text, is_one):
    assert parsers.holds_key(text) is is_one


def test_no_shipped_model_looks_like_a_key():
    presets = load_presets().values()
    names = {name for preset in presets for name in (preset.big, preset.middle, preset.small)}
    names |= {name for preset in presets for card in preset.models for name in card.names}
    assert [name for name in names if name and parsers.holds_key(name)] == []
