"""The forms of REDIS_URL."""

from __future__ import annotations

import pytest

from ccproxy.config.services.redis_address import RedisAddress, Sentinel, parse_redis_url

THREE = tuple(Sentinel(host=f"s{number}", port=26379 + number) for number in range(3))


@pytest.mark.parametrize(
    ("url", "address", "text"),
    [
        pytest.param("redis://h", RedisAddress(host="h"), "h:6379/0", id="defaults"),
        pytest.param(
            "redis://u:p%40ss@h:1/3",
            RedisAddress(host="h", port=1, user="u", password="p@ss", database=3),
            "h:1/3",
            id="user, password and database",
        ),
        pytest.param(
            "redis://:secret@[::1]:7/",
            RedisAddress(host="::1", port=7, password="secret"),
            "::1:7/0",
            id="a password without a user, IPv6",
        ),
        pytest.param(
            "rediss://h?ca=/etc/ca.pem&db=2",
            RedisAddress(host="h", uses_tls=True, ca_bundle="/etc/ca.pem", database=2),
            "h:6379/2",
            id="TLS with an own CA",
        ),
        pytest.param(
            "unix:///run/redis.sock?db=1&password=secret",
            RedisAddress(path="/run/redis.sock", database=1, password="secret"),
            "unix:///run/redis.sock",
            id="a unix socket",
        ),
        pytest.param(
            "unix://u:secret@/run/redis@1.sock",
            RedisAddress(path="/run/redis@1.sock", user="u", password="secret"),
            "unix:///run/redis@1.sock",
            id="a unix socket with a @, and a user",
        ),
        pytest.param(
            "redis+sentinel://:secret@s0,s1:26380,s2:26381/main/4?sentinel_password=other",
            RedisAddress(
                sentinels=THREE,
                master="main",
                password="secret",
                sentinel_password="other",
                database=4,
            ),
            "s0:26379,s1:26380,s2:26381/main",
            id="Sentinels",
        ),
        pytest.param(
            "rediss+sentinel://s0/main",
            RedisAddress(sentinels=THREE[:1], master="main", uses_tls=True),
            "s0:26379/main",
            id="Sentinels over TLS",
        ),
    ],
)
def test_an_address_is_read(url, address, text):
    parsed = parse_redis_url(url)
    assert (parsed, parsed.text) == (address, text)
    assert "secret" not in repr(parsed) + parsed.text


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        pytest.param("http://h:6379", "must be redis://host", id="another scheme"),
        pytest.param("h:6379", "must be redis://host", id="no scheme"),
        pytest.param("redis://:secret@", "must name a host", id="no host"),
        pytest.param("redis://:secret@h:99999", "has a port that is not", id="a port too large"),
        pytest.param(
            "redis://h/main", "has a database that is not a number", id="a named database"
        ),
        pytest.param("redis://h?secret=1", "has an unknown parameter", id="an unknown parameter"),
        pytest.param("redis://[::1", "must be redis://host", id="an open bracket"),
        pytest.param("redis://℀:secret@h", "must be redis://host", id="a character of two"),
        pytest.param("redis://a b", "must be redis://host", id="a space"),
        pytest.param("redis://:secret#1@h", "write / as %2F", id="a # in the password"),
        pytest.param("redis://:secret/1@h", "write / as %2F", id="a / in the password"),
        pytest.param("redis://h/" + "9" * 5000, "has a database", id="5,000 digits"),
        pytest.param(
            "redis://h/1/2", "must end after the host or the database number", id="two databases"
        ),
        pytest.param("unix://", "must name the path of the socket", id="no path"),
        pytest.param("unix://run/x", "must name the path of the socket", id="a host with a path"),
        pytest.param("unix:///run/x#1", "must name the path of the socket", id="a # in the path"),
        pytest.param("redis+sentinel://s0,s1", "must name the master", id="no master"),
    ],
)
def test_a_mistake_is_explained_without_the_password(url, problem):
    with pytest.raises(ValueError, match=problem) as raised:
        parse_redis_url(url)
    assert ":secret" not in str(raised.value)
