"""
The address of a Redis server, read from REDIS_URL.

| form                                          | server                                      |
|-----------------------------------------------|---------------------------------------------|
| `redis://[user:password@]host[:6379][/db]`    | over TCP                                    |
| `rediss://…[?ca=ca.pem]`                      | over TLS; `ca` is relative to the env file  |
| `unix:///path/redis.sock[?db=0&password=…]`   | on this machine                             |
| `redis+sentinel://host[:26379],host/NAME`     | the master NAME that the Sentinels monitor  |
| `rediss+sentinel://…[?sentinel_password=…]`   | the same over TLS                           |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

_PORT, _SENTINEL_PORT = 6379, 26379
_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_FORMS = "redis://host:6379/0, rediss://…, unix:///path or redis+sentinel://host,host/master"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentinel:
    """The address of one Sentinel."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """The server's location and its credentials."""

    host: str = ""
    port: int = _PORT
    path: str = ""
    """The path of a unix socket; empty for TCP."""
    uses_tls: bool = False
    ca_bundle: str | None = None
    """A file with CA certificates; None for the system's."""
    user: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    sentinels: tuple[Sentinel, ...] = ()
    sentinel_password: str = field(default="", repr=False)
    master: str = ""
    """The name of the master that the Sentinels monitor."""

    @property
    def text(self) -> str:
        """The address without user or password."""
        if self.path:
            return f"unix://{self.path}"
        if self.sentinels:
            hosts = ",".join(f"{one.host}:{one.port}" for one in self.sentinels)
            return f"{hosts}/{self.master}"
        return f"{self.host}:{self.port}/{self.database}"


def parse_redis_url(value: str) -> RedisAddress:
    """
    Return the address that *value* describes.

    Raises:
        ValueError: If it is invalid; the message omits the value, which may contain a password.
    """
    url = _split(value.strip())
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    if unknown := set(query) - {"db", "password", "sentinel_password", "ca"}:
        raise ValueError(f"has an unknown parameter {min(unknown)}")
    login, _, hosts = url.netloc.rpartition("@")
    user, _, password = login.partition(":")
    common = RedisAddress(
        user=unquote(user),
        password=unquote(password) or query.get("password", ""),
        uses_tls=url.scheme.startswith("rediss"),
        ca_bundle=query.get("ca"),
    )
    if url.scheme == "unix":
        if not url.path or hosts or url.fragment:
            raise ValueError("must name the path of the socket: unix:///run/redis.sock")
        return replace(common, path=url.path, database=_database(query.get("db", "")))
    parts = url.path.strip("/").split("/")
    if url.scheme.endswith("+sentinel"):
        if not parts[0] or len(parts) > 2:
            raise ValueError("must name the master after the hosts: redis+sentinel://host/master")
        return replace(
            common,
            sentinels=tuple(_sentinel(part) for part in hosts.split(",")),
            sentinel_password=query.get("sentinel_password", ""),
            master=parts[0],
            database=_database(parts[1] if len(parts) > 1 else ""),
        )
    if len(parts) > 1:
        raise ValueError("must end after the host or the database number: redis://host:6379/0")
    host, port = _host_and_port(hosts, _PORT)
    return replace(common, host=host, port=port, database=_database(query.get("db", parts[0])))


def _split(value: str) -> SplitResult:
    try:
        url = urlsplit(value)
    except ValueError as error:
        raise ValueError(f"must be {_FORMS}") from error
    if url.scheme not in _SCHEMES or re.search(r"\s", value):
        raise ValueError(f"must be {_FORMS}")
    is_cut = url.fragment or ("@" not in url.netloc and "@" in url.path)
    if is_cut and url.scheme != "unix":
        raise ValueError("has a password with special characters: write / as %2F and # as %23")
    return url


def _sentinel(text: str) -> Sentinel:
    host, port = _host_and_port(text, _SENTINEL_PORT)
    return Sentinel(host=host, port=port)


def _host_and_port(text: str, default: int) -> tuple[str, int]:
    try:
        url = SplitResult("", text, "", "", "")
        host, port = url.hostname or "", url.port or default
    except ValueError as error:
        raise ValueError("has a port that is not a number below 65536") from error
    if not host:
        raise ValueError(f"must name a host: {_FORMS}")
    return host, port


def _database(text: str) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("has a database that is not a number: redis://host:6379/0")
    return int(text)
