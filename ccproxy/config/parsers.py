"""
The parsers of settings: text -> value.

The message of a ValueError completes the sentence "<NAME> ...". Parsers of secrets do not quote
their input.
"""

from __future__ import annotations

import math
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ccproxy.keys.budgets import EVERY_CLIENT, Budget
from ccproxy.keys.policy import AFFINITIES, STRATEGIES, Affinity, Strategy
from ccproxy.protocol.headers import is_header_value
from ccproxy.text import did_you_mean, mask_key

if TYPE_CHECKING:
    # Importing msgspec, with which these are declared, is too slow for --help.
    from ccproxy.providers.pricing import Price
    from ccproxy.providers.quirks import Api

    ApiChoice = Api | Literal["auto"]

AccountCheck = Literal["auto", "on", "off"]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_ON = ("on", "true", "yes", "1")
_OFF = ("off", "false", "no", "0")

# Suffixes that no public DNS serves: http:// is allowed for servers in the user's own network.
_PRIVATE_SUFFIXES = (".local", ".localhost", ".internal", ".lan", ".home", ".home.arpa", ".test")
_SHARED_SPACE = IPv4Network("100.64.0.0/10")  # RFC 6598; also used by Tailscale

_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?")

# Placeholders in templates, after the prefix of a vendor's keys.
_PREFIX = r"(?:(?:sk|ak|pk|gsk|csk|xai|nvapi|gho|ghu|ms|key)[-_](?:ant-|or-v1-|or-|proj-|api03-)*)?"
_PLACEHOLDERS = (
    r"your.*",
    r"x{3,}.*",
    r"\*{3,}",
    r"\.{2,}|…",
    r"(?:change|replace|insert|paste|put)[-_ ]?(?:me|this|your|with|key|here).*",
    r"placeholder|todo|fixme",
    r"(?:api[-_]?)?key(?:[-_]?here)?",
    r"<.*>|\{.*\}|\[.*\]",
)
_PLACEHOLDER = re.compile(f"{_PREFIX}(?:{'|'.join(_PLACEHOLDERS)})", re.IGNORECASE)
_REFERENCE = re.compile(r"\$\{?[A-Za-z_]\w*\}?|%[A-Za-z_]\w*%|\$\(.*\)|`.*`")
"""A shell variable or command substitution; env files are read without expansion."""
_AUTH_SCHEME = re.compile(
    r"(?:bearer|basic|x-api-key|authorization)\s*[\s:]\s*(?=\S)", re.IGNORECASE
)
KEY_ATTRIBUTES = {"priority": 99, "weight": 100}
"""The attributes that may follow a key, and their largest values."""
MIN_SECRET_LENGTH = 32
_QUOTES = "\"'`“”‘’„«»＂＇"
_FULL_WIDTH = {"，": ",", "；": ",", "、": ",", "：": ":", "＝": "=", "\u3000": "a plain space"}
"""Characters of Chinese and Japanese input methods, and their replacements."""

_LOGIN = re.compile(r"^((?:[\w+.-]+:)?//)?.*@")
"""A user name and password in an address, even in one without a scheme."""
_LOGIN_OF_URL = re.compile(r"(?<=//)[^/?#]*@")

# A vendor's prefix with a long remainder, or a long word of letters and digits (names have dashes).
_KEY_LIKE = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk|ak|ccp|gsk|csk|xai|nvapi|hf|gh[a-z])[-_]|AIza|eyJ)[\w.-]{8,}"
    r"|(?<![A-Za-z0-9])(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}"
)


def text(value: str) -> str:
    """Parse any text on one line."""
    if not is_header_value(value):
        raise ValueError("must be one line without control characters")
    return value


def switch(value: str) -> bool:
    """Parse `on` or `off`."""
    lower = value.lower()
    if lower not in _ON + _OFF:
        raise ValueError(f'must be on or off, got "{value}"')
    return lower in _ON


def _whole_number(least: int, most: int, name: str = "a whole number") -> Callable[[str], int]:
    """Return a parser for a whole number; *name* describes it in errors."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
            raise ValueError(f'must be {name} from {least} to {most}, got "{value}"')
        return int(value)

    return parse


def _number(least: float, most: float, name: str) -> Callable[[str], float]:
    """Return a parser for a number; *name* describes it in errors."""

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise ValueError(f'must be {name}, got "{value}"')
        return number

    return parse


_ABOVE_ZERO, _FINITE = math.ulp(0.0), sys.float_info.max

seconds = _number(_ABOVE_ZERO, _FINITE, "a number of seconds")
seconds_or_never = _number(0.0, _FINITE, "a number of seconds, or 0 for never")
days = _number(_ABOVE_ZERO, 366.0, "a number of days, at most 366")
dollars = _number(0.0, 1e6, "a number of US dollars from 0 to 1000000")
tokens = _whole_number(1, 999_999_999, "a whole number of tokens")
tools = _whole_number(8, 99_999, "a whole number of tools")
count = _whole_number(0, 99)
port = _whole_number(1, 65_535, "a port")
requests = _whole_number(1, 999_999, "a whole number of requests")
connections = _whole_number(1, 999_999, "a whole number of connections")
replicas = _whole_number(1, 999_999, "a whole number of replicas")
per_minute = _whole_number(1, 10_000, "a whole number of requests")
"""Limited because the time of each request is kept in memory."""


def signing_key(value: str) -> bytes:
    """Parse a secret; errors do not quote it."""
    if len(value) < MIN_SECRET_LENGTH:
        raise ValueError(
            f"must have at least {MIN_SECRET_LENGTH} characters, for example: openssl rand -hex 32"
        )
    return value.encode("utf-8", "surrogateescape")


def log_level(value: str) -> str:
    """Parse a log level; `docker --env-file` does not remove a comment after it."""
    name = value.split("#")[0].strip().upper()
    level = "WARNING" if name == "WARN" else name
    if level not in LEVELS:
        raise ValueError(f'must be one of {", ".join(LEVELS)}, got "{value}"')
    return level


def api(value: str) -> ApiChoice:
    """Parse the dialect of upstream requests; auto means each model's own dialect."""
    return cast("ApiChoice", _one_of(value, ("auto", "chat", "responses", "messages")))


def words(value: str) -> tuple[str, ...]:
    """Parse comma-separated words; whitespace, empty words and duplicates are removed."""
    return tuple(dict.fromkeys(item for part in value.split(",") if (item := part.strip())))


def hosts(value: str) -> tuple[str, ...]:
    """Parse names and addresses as in a Host header, without port or brackets."""
    names = words(value.lower())
    for host in names:
        try:
            ip_address(host)
        except ValueError as error:
            if not _HOST_NAME.fullmatch(host):
                rule = "must be host names without a scheme, port or wildcard"
                raise ValueError(f'{rule}, got "{host}"') from error
    return tuple(host.rstrip(".") for host in names)


def host(value: str) -> str:
    """Parse one address or name to listen on; an IPv6 address may be in brackets."""
    try:
        (name,) = hosts(re.sub(r"^\[(.*)\]$", r"\1", value))
    except ValueError as error:
        raise ValueError(f'must be one address or name, without a port, got "{value}"') from error
    return name


def networks(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Parse addresses and networks such as 10.0.0.0/8."""
    try:
        networks = tuple(ip_network(item) for item in words(value))
    except ValueError as error:
        raise ValueError(f"must be addresses or networks such as 10.0.0.0/8: {error}") from error
    if any(network.prefixlen == 0 for network in networks):
        raise ValueError("must not include every address")
    return networks


def extra_body(value: str) -> dict[str, Any]:
    """Parse a JSON object of request fields; fields that the client sets are refused."""
    import msgspec  # slow to import, and rarely needed; unlike json, it refuses NaN

    try:
        fields = msgspec.json.decode(value)
    except (ValueError, RecursionError) as error:
        raise ValueError("must be a JSON object on one line") from error
    if not isinstance(fields, dict):
        raise ValueError("must be a JSON object on one line")
    if reserved := sorted(fields.keys() & {"model", "messages", "stream", "tools"}):
        raise ValueError(f"must not contain {' or '.join(reserved)}")
    return fields


def prices(value: str) -> tuple[tuple[str, Price], ...]:
    """Parse prices by glob pattern of model names; the first matching pattern applies."""
    from ccproxy.providers.price_text import parse_price

    return tuple(parse_price(item) for item in words(value))


def account_check(value: str) -> AccountCheck:
    """Parse whether to read the accounts of the keys."""
    if value.lower() == "auto":
        return "auto"
    try:
        return "on" if switch(value) else "off"
    except ValueError as error:
        raise ValueError(f'must be auto, on or off, got "{value}"') from error


def budgets(value: str) -> tuple[Budget, ...]:
    """Parse budgets of an entry."""
    return tuple(Budget.parse(item) for item in words(value))


def client_budgets(value: str) -> tuple[Budget, ...]:
    """Parse budgets of client keys, each `ENDING=BUDGET`; several may name the same key."""
    return tuple(_client_budget(item) for item in words(value))


def _client_budget(item: str) -> Budget:
    name, equals, text = item.partition("=")
    ending = name.strip().lstrip("…").removeprefix("...")
    if not equals or not (ending == EVERY_CLIENT or 4 <= len(ending) <= 8):
        # A whole key is not quoted.
        raise ValueError(
            "must be like …k3y1=5 USD/day, with the last 4 to 8 characters of a client key, or "
            f'{EVERY_CLIENT}=5 USD/day, got "{mask_key(name.strip())}={text.strip()}"'
        )
    return Budget.parse(text, client=ending)


def model(value: str) -> str:
    """Parse the name of a model; Claude Code's `[1m]` suffix is removed."""
    from ccproxy.routing.tiers import without_mark

    name = without_mark(value)
    if not name or not is_header_value(name) or len(name) > 256 or "," in name:
        raise ValueError(f'must be the name of one model, got "{value}"')
    return name


def keys(value: str) -> tuple[str, ...]:
    """
    Parse one or more keys of a provider, each with its attributes as `split_key` reads them.

    The keys are not quoted in errors.
    """
    return _keys(value, listed_key_problem)


def client_keys(value: str) -> tuple[str, ...]:
    """Parse one or more client keys; users choose them, so more formats are allowed."""
    return _keys(value, lambda key: _key_problem(key, ";#"))


def strategy(value: str) -> Strategy:
    """Parse the strategy for selecting keys."""
    return cast("Strategy", _one_of(value, STRATEGIES))


def affinity(value: str) -> Affinity:
    """Parse the affinity, which determines what stays with one key."""
    return cast("Affinity", _one_of(value, AFFINITIES))


def _one_of(value: str, allowed: Sequence[str]) -> str:
    item = value.lower().replace("_", "-")
    if item not in allowed:
        names = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
        raise ValueError(f'must be {names}, got "{value}"{did_you_mean(item, allowed)}')
    return item


def _keys(value: str, problem_of: Callable[[str], str]) -> tuple[str, ...]:
    parsed = words(value)
    if not parsed:
        raise ValueError("contains no key, only commas")
    for number, key in enumerate(parsed, 1):
        if problem := problem_of(key):
            which = f"(key {number} of {len(parsed)}) contains" if len(parsed) > 1 else "contains"
            raise ValueError(f"{which} {problem} ({mask_key(split_key(key)[0])})")
    secrets = [split_key(key)[0] for key in parsed]
    for number, secret in enumerate(secrets, 1):
        if (first := secrets.index(secret) + 1) < number:
            text = f"contains key {first} ({mask_key(secret)}) again as key {number}"
            raise ValueError(f"{text}, with different attributes")
    return parsed


def split_key(listed: str) -> tuple[str, dict[str, int]]:
    """Return a key and its attributes from a string like `sk-a;priority=2;weight=3`."""
    secret, _, attributes = listed.partition(";")
    pairs = (part.partition("=") for part in attributes.split(";") if part.strip())
    numbers = {name.strip().lower(): number.strip() for name, _, number in pairs}
    return secret.strip(), {name: int(text) for name, text in numbers.items() if text.isdecimal()}


def listed_key_problem(listed: str) -> str:
    """Return the problem with a key and its attributes, or an empty string."""
    secret, semicolon, attributes = listed.partition(";")
    if not secret.strip():
        return "attributes without a key before them"
    if problem := _key_problem(secret.strip(), ""):
        return problem
    seen_names: set[str] = set()
    for part in attributes.split(";") if semicolon else ():
        name, equals, number = (piece.strip() for piece in part.partition("="))
        name = name.lower()
        # Anything else may be the next key, which must not be quoted.
        if not re.fullmatch(r"[a-z_]{1,12}", name) or not (equals or name in KEY_ATTRIBUTES):
            return _character_problem(";")
        if name not in KEY_ATTRIBUTES:
            hint = did_you_mean(name, KEY_ATTRIBUTES)
            return f'the unknown attribute "{name}"{hint}: write ;priority=2 or ;weight=3'
        if name in seen_names:
            return f'the attribute "{name}" twice'
        most = KEY_ATTRIBUTES[name]
        if not re.fullmatch(r"[0-9]{1,3}", number) or not 1 <= int(number) <= most:
            return f'the attribute "{name}" without a whole number from 1 to {most}'
        seen_names.add(name)
    return ""


def _key_problem(key: str, allowed: str) -> str:
    """Return the problem with *key*, without quoting it, or an empty string."""
    if _REFERENCE.fullmatch(key):
        return "a reference to a variable, which is not expanded: write the key itself"
    if key[0] in _QUOTES or key[-1] in _QUOTES:
        return "quotes as part of the key: use one pair of quotes around the value, or none"
    if _PLACEHOLDER.fullmatch(key):
        return "a placeholder, not a key"
    if match := _AUTH_SCHEME.match(key):
        return f'the word "{match[0].strip()}" before the key: write the key alone'
    if match := re.match(r"(?:export\s+)?[A-Z_]{3,}=", key):
        return "the name of a variable before the key: write the key alone"
    for char in key:
        if char not in allowed and (description := _character_problem(char)):
            return description
    return ""


def _character_problem(char: str) -> str:
    if char == ";":
        return 'a semicolon: separate keys with ","'
    if char == "#":
        return "a #: put a space before a comment; keys cannot contain a #"
    if char in "\"'`":
        return "quotes as part of the key: use one pair of quotes around the value, or none"
    if "!" <= char <= "~":
        return ""
    if char in " \t":
        return 'a space: keys contain no spaces; separate several keys with ","'
    name = unicodedata.name(char, f"U+{ord(char):04X}").lower()
    if (replacement := _FULL_WIDTH.get(char)) is not None:
        use = 'separate keys with ","' if replacement == "," else f"write {replacement}"
        return f'the character "{char}" ({name}): {use}'
    plain = unicodedata.normalize("NFKC", char)
    if len(plain) == 1 and "!" <= plain <= "~":
        return f'the character "{char}" ({name}): write "{plain}"'
    if char.isprintable():
        return f'the character "{char}" ({name}), which keys never contain'
    return f"the invisible character U+{ord(char):04X} ({name}): type the key again without it"


def http_url(value: str) -> str:
    """Parse a provider's address; plain http is allowed only in the user's own network."""
    split = _server(value, sends="the key")
    if {name for name, _ in parse_qsl(split.query, keep_blank_values=True)} - {"api-version"}:
        # The query would not be sent, but would be shown wherever the address is shown.
        raise ValueError("must not contain a query: keys belong in PROVIDER_API_KEY")
    return split.geturl().rstrip("/")


def server_url(value: str) -> str:
    """Parse the address of another server, to which paths are appended."""
    split = _server(value, sends="requests")
    if split.query:
        raise ValueError("must not contain a query")
    return split.geturl().rstrip("/")


def _server(value: str, *, sends: str) -> SplitResult:
    split = split_url(value)
    if split.scheme == "http" and not is_private(split.hostname or ""):
        raise ValueError(f'would send {sends} unencrypted, got "{without_credentials(value)}"')
    if split.username is not None or split.password is not None:
        raise ValueError("must not contain a user name or password")
    if split.fragment:
        raise ValueError(f'must not contain a #, got "{without_credentials(value)}"')
    return split


def public_url(value: str) -> str:
    """Parse the origin of a gateway: https, or http on loopback, as Claude Code accepts it."""
    split = split_url(value)
    if split.scheme == "http" and not is_loopback(split.hostname or ""):
        raise ValueError(f'must begin with https://, got "{without_credentials(value)}"')
    if split.path.strip("/") or split.query or split.fragment or split.username is not None:
        raise ValueError(f'must be an origin without a path, got "{without_credentials(value)}"')
    # As a browser writes it, because it is compared with the browser's Origin header.
    usual = {"https": ":443", "http": ":80"}[split.scheme]
    host = split.netloc.lower().removesuffix(usual).removesuffix(":")
    return f"{split.scheme}://{host}"


def issuer(value: str) -> str:
    """Parse the issuer of an identity provider: https, or http on loopback."""
    split = split_url(value)
    if split.scheme == "http" and not is_loopback(split.hostname or ""):
        raise ValueError(f'must begin with https://, got "{without_credentials(value)}"')
    if split.query or split.fragment or split.username is not None:
        raise ValueError(f'must be an address without a query, got "{without_credentials(value)}"')
    return value  # compared verbatim with the issuer in each token


def search_engine(value: str) -> tuple[str, str]:
    """Parse the name and the address of a search engine; an empty address means the default."""
    name, separator, address = value.partition(":")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or (separator and not address):
        raise ValueError(f'must be a name or name:URL, got "{without_credentials(value)}"')
    return name.lower(), server_url(address) if separator else ""


def proxy_url(value: str) -> str:
    """Parse the address of an HTTP proxy; it is not quoted because it may contain a password."""
    scheme = value.partition("://")[0].lower() if "://" in value else ""
    if scheme.startswith("socks"):
        raise ValueError(f"is a {scheme} proxy, which is not supported: use an http:// proxy")
    try:
        split = split_url(value)
    except ValueError as error:
        raise ValueError("must be the http:// address of a proxy") from error
    return split.geturl()


def hide_keys(text: str) -> str:
    """Return *text* with everything that looks like a key masked."""
    return _KEY_LIKE.sub(lambda match: mask_key(match[0]), text)


def contains_key(text: str) -> bool:
    """Return True if any part of *text* looks like a key."""
    return _KEY_LIKE.search(text) is not None


def is_loopback(host: str) -> bool:
    """Return True if *host* is this machine."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback


def is_private(host: str) -> bool:
    """Return True if *host* is in the user's own network: a private address or local name."""
    name = host.lower().rstrip(".")
    try:
        address = ip_address(name.strip("[]"))
    except ValueError:
        # 134744072 and 0x08080808 are 8.8.8.8 for every resolver.
        is_number = re.fullmatch(r"[0-9]+|0x[0-9a-f]+", name) is not None
        return ("." not in name and not is_number) or name.endswith(_PRIVATE_SUFFIXES)
    return address.is_private or (address.version == 4 and address in _SHARED_SPACE)


def split_url(value: str) -> SplitResult:
    """
    Split an http:// or https:// address with a valid host and port.

    Raises:
        ValueError: If *value* is anything else; the message quotes neither a password nor a query.
    """
    problem = f'must be an http:// or https:// address, got "{without_credentials(value)}"'
    for char in _LOGIN_OF_URL.sub("", value):  # a password may have any character
        # urlsplit raises only for some of these, with a message about netloc and NFKC.
        if ord(char) > 127 and unicodedata.normalize("NFKC", char) != char:
            problem += f', which contains the character "{char}"; write it in plain ASCII'
            raise ValueError(problem)
    try:
        split = urlsplit(value)
        _ = split.port  # raises ValueError for an invalid port
    except ValueError as error:
        raise ValueError(problem) from error
    is_web = split.scheme in ("http", "https") and split.hostname
    # Not every release of Python refuses characters after the bracket of an IPv6 address.
    if not is_web or re.search(r"[\s\\]", value) or re.search(r"\][^:]", split.netloc):
        raise ValueError(problem)
    return split


def without_credentials(address: str) -> str:
    """Return *address* for a message, without its user, password and query."""
    return re.sub(r"\?.*", "?…", _LOGIN.sub(r"\1…@", address))
