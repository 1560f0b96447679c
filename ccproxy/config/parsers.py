"""
The text of a setting -> its value.

The text of a ValueError completes the sentence "<NAME> ...". Parsers of secrets do not quote
what they read.
"""

from __future__ import annotations

import json
import math
import re
from ipaddress import IPv4Network, ip_address
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ccproxy.protocol.headers import is_header_value

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_ON = ("on", "true", "yes", "1")
_OFF = ("off", "false", "no", "0")

# Names that no public DNS serves: http:// is allowed there (a server in the user's own network).
_PRIVATE_SUFFIXES = (".local", ".localhost", ".internal", ".lan", ".home", ".home.arpa", ".test")
_SHARED_SPACE = IPv4Network("100.64.0.0/10")  # RFC 6598; also Tailscale's addresses

_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?")

# What stands in templates where a key should be, after the prefix that a vendor's keys have.
_PREFIX = r"(?:(?:sk|ak|pk|gsk|csk|xai|nvapi|gho|ghu|ms|key)[-_](?:ant-|or-v1-|or-|proj-|api03-)*)?"
_STAND_INS = (
    r"your.*",
    r"x{3,}.*",
    r"\*{3,}",
    r"\.{2,}|…",
    r"(?:change|replace|insert|paste|put)[-_ ]?(?:me|this|your|with|key|here).*",
    r"placeholder|todo|fixme",
    r"(?:api[-_]?)?key(?:[-_]?here)?",
    r"<.*>|\{.*\}|\[.*\]",
)
_PLACEHOLDER = re.compile(f"{_PREFIX}(?:{'|'.join(_STAND_INS)})", re.IGNORECASE)

# A vendor's prefix with more behind it, or a long word of letters and digits (names have dashes).
_KEY_LIKE = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk|ak|ccp|gsk|csk|xai|nvapi|hf|gh[a-z])[-_]|AIza|eyJ)[\w.-]{8,}"
    r"|(?<![A-Za-z0-9])(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}"
)


def text(value: str) -> str:
    """Any text on one line."""
    if not is_header_value(value):
        raise ValueError("must be one line without control signs")
    return value


def switch(value: str) -> bool:
    """On or off."""
    word = value.lower()
    if word not in _ON + _OFF:
        raise ValueError(f'must be on or off, got "{value}"')
    return word in _ON


def seconds(value: str) -> float:
    """A number of seconds above zero."""
    number = _number(value)
    if not 0 < number < math.inf:
        raise ValueError(f'must be a number of seconds, got "{value}"')
    return number


def seconds_or_never(value: str) -> float:
    """A number of seconds; 0 means never."""
    number = _number(value)
    if not 0 <= number < math.inf:
        raise ValueError(f'must be a number of seconds or 0 for never, got "{value}"')
    return number


def tokens(value: str) -> int:
    """A number of tokens, at least one."""
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < 1:
        raise ValueError(f'must be a whole number of tokens, got "{value}"')
    return int(value)


def count(value: str) -> int:
    """A small whole number, zero included."""
    if not re.fullmatch(r"[0-9]{1,2}", value):
        raise ValueError(f'must be a whole number from 0 to 99, got "{value}"')
    return int(value)


def requests(value: str) -> int:
    """A number of requests, at least one."""
    return _at_least_one(value, "requests")


def connections(value: str) -> int:
    """A number of connections, at least one."""
    return _at_least_one(value, "connections")


def per_minute(value: str) -> int:
    """A number of requests in a minute; each of them is remembered."""
    number = requests(value)
    if number > 10_000:
        raise ValueError(f'must be at most 10000 requests, got "{value}"')
    return number


def port(value: str) -> int:
    """A TCP port."""
    if not re.fullmatch(r"[0-9]{1,5}", value) or not 1 <= int(value) <= 65535:
        raise ValueError(f'must be a port from 1 to 65535, got "{value}"')
    return int(value)


def log_level(value: str) -> str:
    """A level of logging. A comment behind it is cut off: `docker --env-file` leaves it there."""
    word = value.split("#")[0].strip().upper()
    level = "WARNING" if word == "WARN" else word
    if level not in LEVELS:
        raise ValueError(f'must be one of {", ".join(LEVELS)}, got "{value}"')
    return level


def api(value: str) -> str:
    """The API that is spoken upstream; auto: each model's own."""
    word = value.lower()
    if word not in ("auto", "chat", "responses", "messages"):
        raise ValueError(f'must be auto, chat, responses or messages, got "{value}"')
    return word


def words(value: str) -> tuple[str, ...]:
    """Words split by commas; blanks are trimmed, empty ones dropped, each is kept once."""
    return tuple(dict.fromkeys(word for part in value.split(",") if (word := part.strip())))


def hosts(value: str) -> tuple[str, ...]:
    """Names and addresses as a Host header has them, without port and brackets."""
    found = words(value.lower())
    for host in found:
        try:
            ip_address(host)
        except ValueError as error:
            if not _HOST_NAME.fullmatch(host):
                wanted = "must be host names without scheme, port and wildcards"
                raise ValueError(f'{wanted}, got "{host}"') from error
    return tuple(host.rstrip(".") for host in found)


def extra_body(value: str) -> dict[str, Any]:
    """Fields of a request; not those that are the client's to say."""
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError("must be a JSON object on one line") from error
    if not isinstance(fields, dict):
        raise ValueError("must be a JSON object on one line")
    if ours := sorted(fields.keys() & {"model", "messages", "stream", "tools"}):
        raise ValueError(f"must not hold {' or '.join(ours)}")
    return fields


def prices(value: str) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Two to four prices by glob patterns of models; the first pattern that matches holds."""
    return tuple(_price(word) for word in words(value))


def model(value: str) -> str:
    """The name of a model."""
    if not is_header_value(value) or len(value) > 256 or "," in value:
        raise ValueError(f'must be the name of one model, got "{value}"')
    return value


def keys(value: str) -> tuple[str, ...]:
    """One key, or several split by commas. Says nothing of what it read."""
    found = words(value)
    if not found:
        raise ValueError("holds no key, only commas")
    for number, key in enumerate(found, 1):
        which = f"holds as key {number} of {len(found)}" if len(found) > 1 else "holds"
        if _PLACEHOLDER.fullmatch(key):
            raise ValueError(f"{which} a placeholder, not a key ({masked(key)})")
        if not re.fullmatch(r"[!-~]+", key):
            raise ValueError(
                f"{which} a blank or another sign that keys never have ({masked(key)})"
            )
    return found


def http_url(value: str) -> str:
    """An address of a provider; plain http only where nobody can listen in."""
    split = _split(value)
    if split.scheme == "http" and not is_private(split.hostname or ""):
        raise ValueError(f'would send the key in the clear, got "{_without_login(value)}"')
    if split.username is not None or split.password is not None:
        raise ValueError("must not hold a name and password")
    if {name for name, _ in parse_qsl(split.query, keep_blank_values=True)} - {"api-version"}:
        # It would not be sent, but shown wherever the address is.
        raise ValueError("must not hold a query: keys belong into PROVIDER_API_KEY")
    return value.rstrip("/")


def proxy_url(value: str) -> str:
    """The address of a forward proxy. May hold a password, so it is not quoted."""
    try:
        split = _split(value)
    except ValueError as error:
        raise ValueError("must be an http:// address of a proxy") from error
    return split.geturl()


def masked(secret: str) -> str:
    """What may be shown of a *secret*: its last four characters, of a short one nothing."""
    return f"…{secret[-4:]}" if len(secret) >= 12 else "…"


def without_keys(text: str) -> str:
    """Mask what looks like a key: it may stand where something else should."""
    return _KEY_LIKE.sub(lambda found: masked(found[0]), text)


def holds_key(text: str) -> bool:
    """Whether something in *text* looks like a key."""
    return _KEY_LIKE.search(text) is not None


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback


def is_private(host: str) -> bool:
    """Whether *host* lies in the user's own network: a private address, or no public name."""
    name = host.lower().rstrip(".")
    try:
        address = ip_address(name.strip("[]"))
    except ValueError:
        return "." not in name or name.endswith(_PRIVATE_SUFFIXES)
    return address.is_private or (address.version == 4 and address in _SHARED_SPACE)


def _split(value: str) -> SplitResult:
    wanted = f'must be an http:// or https:// address, got "{_without_login(value)}"'
    try:
        split = urlsplit(value)
        _ = split.port  # raises for a port that is none
    except ValueError as error:
        raise ValueError(wanted) from error
    if split.scheme not in ("http", "https") or not split.hostname or re.search(r"\s", value):
        raise ValueError(wanted)
    return split


def _without_login(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//…@", address)


def _price(word: str) -> tuple[str, tuple[float, ...]]:
    pattern, _, written = word.rpartition("=")
    numbers = [_number(number) for number in written.split("/")]
    if not pattern or not 2 <= len(numbers) <= 4 or not all(0 <= n < 1e6 for n in numbers):
        raise ValueError(
            f'must be like model=input/output or model=input/output/cached, got "{word}"'
        )
    return pattern.strip(), tuple(numbers)


def _at_least_one(value: str, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", value) or int(value) < 1:
        raise ValueError(f'must be a whole number of {what}, at least 1, got "{value}"')
    return int(value)


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan
