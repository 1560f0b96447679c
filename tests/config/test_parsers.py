"""The values that each parser accepts, and the errors about all others."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.config import parsers
from ccproxy.config.services.monitoring_addresses import parse_metrics_address, parse_traces_url
from ccproxy.config.services.redis_address import parse_redis_url
from ccproxy.providers.presets import load_presets
from ccproxy.providers.pricing import Price


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        *((parsers.switch, term, True) for term in ("on", "ON", "true", "Yes", "1")),
        *((parsers.switch, term, False) for term in ("off", "False", "no", "0")),
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
        (parsers.http_url, "HTTPS://api.example.com/v1/#", "https://api.example.com/v1"),
        (parsers.public_url, "https://llm.example.com:", "https://llm.example.com"),
        (parsers.proxy_url, "http://user:pw@proxy:3128", "http://user:pw@proxy:3128"),
        (parsers.host, "[::1]", "::1"),
        (parsers.host, "0.0.0.0", "0.0.0.0"),
        (parsers.model, "kimi-k3[1m]", "kimi-k3"),
    ],
)
def test_accepted_values(parse, text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "error"),
    [
        *(
            (
                parsers.hosts,
                f"box.lan,{name}",
                f'must be host names without a scheme, port or wildcard, got "{name}"',
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
            'must be a number of seconds, or 0 for never, got "soon"',
        ),
        (
            parsers.per_minute,
            "10001",
            'must be a whole number of requests from 1 to 10000, got "10001"',
        ),
        (parsers.days, "366.5", 'must be a number of days, at most 366, got "366.5"'),
        (parsers.dollars, "-0.01", 'must be a number of US dollars from 0 to 1000000, got "-0.01"'),
        (parsers.tools, "7", 'must be a whole number of tools from 8 to 99999, got "7"'),
        (parsers.requests, "0", 'must be a whole number of requests from 1 to 999999, got "0"'),
        (
            parsers.requests,
            "1000000",
            'must be a whole number of requests from 1 to 999999, got "1000000"',
        ),
        (parsers.tokens, "8k", 'must be a whole number of tokens from 1 to 999999999, got "8k"'),
        (parsers.tokens, "0", 'must be a whole number of tokens from 1 to 999999999, got "0"'),
        (parsers.tokens, "-5", 'must be a whole number of tokens from 1 to 999999999, got "-5"'),
        (parsers.tokens, "1.5", 'must be a whole number of tokens from 1 to 999999999, got "1.5"'),
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
        (parsers.model, "[1m]", 'must be the name of one model, got "[1m]"'),
        *(
            (parsers.host, value, f'must be one address or name, without a port, got "{value}"')
            for value in ("127.0.0.1:8080", "[::1]:8080", "a,b", ",", "http://h", "a b")
        ),
        (parsers.text, "a\nb", "must be one line without control characters"),
        (parsers.keys, " , ", "contains no key, only commas"),
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
            'would send the key unencrypted, got "http://api.example.com/v1"',
        ),
        (
            parsers.http_url,
            "http://8.8.8.8/v1",
            'would send the key unencrypted, got "http://8.8.8.8/v1"',
        ),
        (
            parsers.http_url,
            "https://me:secret@api.example.com/v1",
            "must not contain a user name or password",
        ),
        (
            parsers.http_url,
            "http://me:secret@api.example.com/v1",
            'would send the key unencrypted, got "http://…@api.example.com/v1"',
        ),
        (
            parsers.http_url,
            "https://api.example.com/v1#chat",
            'must not contain a #, got "https://api.example.com/v1#chat"',
        ),
        (
            parsers.http_url,
            "http://[::1]x/v1",
            'must be an http:// or https:// address, got "http://[::1]x/v1"',
        ),
        (
            parsers.server_url,
            "http://collector.example.com",
            'would send requests unencrypted, got "http://collector.example.com"',
        ),
        (parsers.server_url, "https://h/?key=secret", "must not contain a query"),
        (parsers.proxy_url, "user:secret@proxy", "must be the http:// address of a proxy"),
        *(
            (
                parsers.proxy_url,
                f"{scheme}://user:secret@proxy:1080",
                f"is a {scheme} proxy, which is not supported: use an http:// proxy",
            )
            for scheme in ("socks5", "socks5h", "socks4")
        ),
        (
            parsers.http_url,
            "https：//api.example.com",
            'must be an http:// or https:// address, got "https：//api.example.com", '
            'which contains the character "："; write it in plain ASCII',
        ),
    ],
)
def test_refused_values(parse, text, error):
    with pytest.raises(ValueError, match=f"^{re.escape(error)}$"):
        parse(text)


ADDRESSES = {
    "PROVIDER_BASE_URL": parsers.http_url,
    "TELEMETRY_URL": parsers.server_url,
    "PUBLIC_URL": parsers.public_url,
    "OIDC_ISSUER": parsers.issuer,
    "UPSTREAM_PROXY": parsers.proxy_url,
    "WEB_SEARCH": lambda value: parsers.search_engine(f"searxng:{value}"),
    "TRACES": parse_traces_url,
    "METRICS": parse_metrics_address,
    "REDIS_URL": lambda value: parse_redis_url(value.replace("http", "redis")),
}


@pytest.mark.parametrize("parse", ADDRESSES.values(), ids=ADDRESSES)
@pytest.mark.parametrize(
    "address",
    [
        pytest.param("http://:pass-word@[::1", id="an open bracket"),
        pytest.param("http://:pass-word@[zz]", id="no address in brackets"),
        pytest.param("http://:pass-word@h\u2100", id="a character that stands for several"),
        pytest.param("http://:pass-word@h:99999", id="a port too large"),
        pytest.param("http://:pass-word@h:six", id="a port in words"),
        pytest.param("http://:pass-word@h:٣", id="a port in Arabic digits"),
        pytest.param("http://:pass-word@h x", id="a space"),
        pytest.param("http://:pass-word@", id="no host"),
    ],
)
def test_no_address_is_valid_with_a_broken_host_or_quoted_with_its_password(parse, address):
    with pytest.raises(ValueError, match=r"^(must|has a port)") as raised:
        parse(address)
    assert "pass-word" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://h/v1", "https://h/v1"),
        ("https://me:p@ss@h/v1?key=secret", "https://…@h/v1?…"),
        ("me:secret@h", "…@h"),
    ],
)
def test_an_address_is_shown_without_credentials(address, shown):
    assert parsers.without_credentials(address) == shown


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
def test_a_placeholder_of_a_template_is_refused(key):
    with pytest.raises(ValueError, match="contains a placeholder, not a key"):
        parsers.keys(key)


QUOTES = "contains quotes as part of the key: use one pair of quotes around the value, or none"
REFERENCE = "contains a reference to a variable, which is not expanded: write the key itself"
COMMA = 'separate keys with ","'


@pytest.mark.parametrize(
    ("key", "error"),
    [
        pytest.param("${OPENAI_API_KEY}", REFERENCE, id="a reference of a shell"),
        pytest.param("$OPENAI_API_KEY", REFERENCE, id="a reference without braces"),
        pytest.param("%OPENAI_API_KEY%", REFERENCE, id="a reference of Windows"),
        pytest.param("$(pass show openai)", REFERENCE, id="a command"),
        pytest.param('"sk-1"', QUOTES, id="quotes in quotes"),
        pytest.param("'sk-1'", QUOTES, id="single quotes in quotes"),
        pytest.param("sk-1'", QUOTES, id="one quote at the end"),
        pytest.param("sk-\u201cx\u201d", QUOTES, id="typographic quotes"),
        pytest.param("sk-1;sk-2", f"contains a semicolon: {COMMA}", id="a semicolon"),
        pytest.param(
            "sk-1#note",
            "contains a #: put a space before a comment",
            id="a comment without a space",
        ),
        pytest.param(
            "sk-1 sk-2",
            "contains a space: keys contain no spaces; separate several keys with",
            id="a space",
        ),
        pytest.param("sk-a\tb", "contains a space", id="a tab"),
        pytest.param(
            "sk-1\uff0csk-2",
            f'contains the character "\uff0c" (fullwidth comma): {COMMA}',
            id="a full-width comma",
        ),
        pytest.param(
            "sk-1\u3001sk-2",
            f'contains the character "\u3001" (ideographic comma): {COMMA}',
            id="an ideographic comma",
        ),
        pytest.param(
            "sk-1\uff1bsk-2",
            f'contains the character "\uff1b" (fullwidth semicolon): {COMMA}',
            id="a full-width semicolon",
        ),
        pytest.param(
            "\uff53k-1",
            'contains the character "\uff53" (fullwidth latin small letter s): write "s"',
            id="a full-width letter",
        ),
        pytest.param(
            "sk\uff0d1",
            'contains the character "\uff0d" (fullwidth hyphen-minus): write "-"',
            id="a full-width dash",
        ),
        pytest.param("sk-1\u200b", "contains the invisible character U+200B", id="invisible"),
        pytest.param("sk\0x", "contains the invisible character U+0000", id="a control character"),
        pytest.param(
            "sk-\u00e4",
            'contains the character "\u00e4" (latin small letter a with diaeresis), which keys',
            id="a letter that no key has",
        ),
        pytest.param(
            "Bearer sk-1",
            'contains the word "Bearer" before the key: write the key alone',
            id="the value of a header",
        ),
        pytest.param(
            "OPENAI_API_KEY=sk-1",
            "contains the name of a variable before the key: write the key alone",
            id="a whole line",
        ),
    ],
)
def test_a_key_that_no_provider_accepts_is_refused(key, error):
    with pytest.raises(ValueError, match=f"^{re.escape(error)}"):
        parsers.keys(key)


@pytest.mark.parametrize("key", ["LLM|123|abc", "0123.AbC_d", "abc+/def==", "sk-a:b", "tok~x"])
def test_the_punctuation_of_real_keys_is_allowed(key):
    assert parsers.keys(key) == (key,)


def test_a_client_key_may_contain_any_ascii_punctuation():
    assert parsers.client_keys("my;pass#word,second") == ("my;pass#word", "second")


def test_the_number_of_a_wrong_key_is_named():
    with pytest.raises(ValueError, match=r"\(key 2 of 3\) contains a placeholder"):
        parsers.keys("sk-1,changeme,sk-3")


def error_of(key):
    try:
        parsers.keys(key)
    except ValueError as error:
        return str(error)
    return ""


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet=string.ascii_letters + string.digits, min_size=12).filter(
        lambda key: key.lower() != "authorization"  # quoted, as it is no part of a key
    ),
    st.characters(),
)
def test_an_error_about_a_key_contains_its_last_four_characters_at_most(key, char):
    text = error_of(f"{key}{char}{key}")
    assert not any(key[i : i + 5] in text for i in range(len(key) - 4) if key[i : i + 5].isdigit())
    assert key not in text


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
def test_private_hosts(host):
    assert parsers.is_private(host)


@pytest.mark.parametrize(
    "host",
    ["8.8.8.8", "134744072", "0x08080808", "2606:4700::1", "api.example.com", "local.example"],
)
def test_public_hosts(host):
    assert not parsers.is_private(host)


def test_prices_of_several_models():
    first, second = parsers.prices("x/y:free = 0/0, *=1/2; above 1k=2/4")
    assert first == ("x/y:free", Price(input=0.0, output=0.0))
    assert second[0] == "*"
    assert second[1].cliff == 1000


@pytest.mark.parametrize("value", ["{}", '{"a": [1, {"b": null}]}'])
def test_an_extra_body(value):
    assert isinstance(parsers.extra_body(value), dict)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("nonsense", "JSON object"),
        ("[]", "JSON object"),
        ('{"top_p": NaN}', "JSON object"),
        ("[" * 100_000, "JSON object"),
        ('{"model": "x", "stream": true}', "must not contain model or stream"),
    ],
)
def test_an_invalid_extra_body(value, expected):
    with pytest.raises(ValueError, match=expected):
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
def test_text_that_looks_like_a_key(text, is_one):
    assert parsers.contains_key(text) is is_one


def test_no_shipped_model_looks_like_a_key():
    presets = load_presets().values()
    names = {name for preset in presets for name in (preset.big, preset.middle, preset.small)}
    names |= {name for preset in presets for card in preset.models for name in card.names}
    assert [name for name in names if name and parsers.contains_key(name)] == []
