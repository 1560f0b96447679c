"""
Every setting of an env file: its name, how it is read, its default and what it means.

README and `--help` are compared with this table. A setting without a value has its default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ccproxy.config import parsers

T = TypeVar("T")

HEADER_PREFIX = "CUSTOM_HEADER_"


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One setting; `default` and `meaning` are what README says of it."""

    name: str
    parse: Callable[[str], T]
    default: str
    meaning: str
    example: str
    aliases: tuple[str, ...] = ()
    """Other names that existing env files use; `name` wins where both are given."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that the setting goes by."""
        return (self.name, *self.aliases)


PROVIDER = Setting(
    "PROVIDER",
    str.lower,
    "",
    "a preset: fills base URL, auth style, models, windows and what is special about the provider",
    "kimi",
)
PROVIDER_API_KEY = Setting(
    "PROVIDER_API_KEY",
    parsers.keys,
    "",
    "the provider's key, or several split by commas",
    "sk-…",
    ("OPENAI_API_KEY",),
)
PROVIDER_BASE_URL = Setting(
    "PROVIDER_BASE_URL",
    parsers.http_url,
    "preset, else OpenAI",
    "where the provider answers; the preset's deviations stay in force",
    "https://api.example.com/v1",
    ("OPENAI_BASE_URL",),
)
PROVIDER_API = Setting(
    "PROVIDER_API",
    parsers.api,
    "auto",
    "chat (Chat Completions), responses (OpenAI's Responses API) or messages (direct mode, the "
    "default of the preset anthropic); auto: what each model needs",
    "responses",
)
ANTHROPIC_API_KEY = Setting(
    "ANTHROPIC_API_KEY",
    parsers.keys,
    "",
    "client key(s), split by commas, that Claude Code must send; empty: none is asked for",
    "ccp_…",
)
PASS_CLIENT_KEY = Setting(
    "PASS_CLIENT_KEY",
    parsers.switch,
    "off",
    "on: the client's own key goes to the provider, and no provider key is needed",
    "on",
)
BIG_MODEL = Setting(
    "BIG_MODEL",
    parsers.model,
    "preset, else gpt-4o",
    "answers for opus and unknown names",
    "gpt-4o",
)
MIDDLE_MODEL = Setting(
    "MIDDLE_MODEL", parsers.model, "preset, else BIG_MODEL", "answers for sonnet", "gpt-4o"
)
SMALL_MODEL = Setting(
    "SMALL_MODEL", parsers.model, "preset, else gpt-4o-mini", "answers for haiku", "gpt-4o-mini"
)
PASS_MODELS = Setting(
    "PASS_MODELS",
    parsers.words,
    "preset, else gpt-* o1* o3* o4* …",
    "glob patterns, split by commas, of model names that are sent on unchanged",
    "gpt-*,kimi-*",
)
HOST = Setting("HOST", parsers.text, "127.0.0.1", "the address to listen on", "127.0.0.1")
PORT = Setting(
    "PORT", parsers.port, "the table's", "read only to compare it with ccproxy.toml", "8081"
)
ALLOW_PUBLIC = Setting(
    "ALLOW_PUBLIC",
    parsers.switch,
    "off",
    "on: listen on an address that others can reach without asking for a client key",
    "on",
)
ALLOWED_HOSTS = Setting(
    "ALLOWED_HOSTS",
    parsers.hosts,
    "loopback's on loopback, else any",
    "host names, split by commas, that requests may be addressed to besides localhost and HOST",
    "box.lan,192.168.1.5",
)
MAX_CONNECTIONS = Setting(
    "MAX_CONNECTIONS",
    parsers.connections,
    "1024",
    "clients' connections that one process keeps open; more are told 503",
    "4096",
)
LOG_LEVEL = Setting(
    "LOG_LEVEL", parsers.log_level, "INFO", "DEBUG, INFO, WARNING, ERROR or CRITICAL", "INFO"
)
MAX_TOKENS_LIMIT = Setting(
    "MAX_TOKENS_LIMIT", parsers.tokens, "none", "no request asks for more tokens", "32000"
)
MIN_TOKENS_LIMIT = Setting(
    "MIN_TOKENS_LIMIT", parsers.tokens, "none", "no request asks for fewer tokens", "100"
)
CONTEXT_WINDOW = Setting(
    "CONTEXT_WINDOW",
    parsers.tokens,
    "preset",
    "the window in tokens, for servers that only their owner knows (Ollama, vLLM)",
    "131072",
)
LONG_CONTEXT_THRESHOLD = Setting(
    "LONG_CONTEXT_THRESHOLD",
    parsers.tokens,
    "",
    "tokens from which on a request is long, where long_context in ccproxy.toml has no `over`",
    "60000",
)
REQUEST_TIMEOUT = Setting(
    "REQUEST_TIMEOUT",
    parsers.seconds,
    "600",
    "seconds of silence allowed before the provider's first byte",
    "600",
)
MAX_RETRIES = Setting(
    "MAX_RETRIES",
    parsers.count,
    "2",
    "repeats after 408, 409, 5xx, 529 or a failed connection, before the first byte",
    "2",
)
KEY_MAX_IN_FLIGHT = Setting(
    "KEY_MAX_IN_FLIGHT",
    parsers.requests,
    "",
    "most requests at once with each key; up to 100 more wait for up to 30 s",
    "4",
)
KEY_PER_MINUTE = Setting(
    "KEY_PER_MINUTE",
    parsers.per_minute,
    "",
    "most requests in a minute with each key",
    "60",
)
KEY_PER_DAY = Setting(
    "KEY_PER_DAY",
    parsers.requests,
    "",
    "most requests in a day (UTC) with each key, such as a free key's 500",
    "500",
)
EARLY_COMMIT = Setting(
    "EARLY_COMMIT",
    parsers.seconds_or_never,
    "15",
    "seconds until a waiting stream commits to 200 and pings; 0 = never",
    "15",
)
UPSTREAM_PROXY = Setting(
    "UPSTREAM_PROXY",
    parsers.proxy_url,
    "HTTPS_PROXY / NO_PROXY",
    "the way out; never used for loopback",
    "http://proxy.example:3128",
)
CA_BUNDLE = Setting(
    "CA_BUNDLE",
    parsers.text,
    "the system's",
    "a PEM file of trusted authorities; relative to the env file's folder",
    "/etc/ssl/company.pem",
)
CUSTOM_HEADER = Setting(
    f"{HEADER_PREFIX}<NAME>",
    parsers.text,
    "",
    "a header of every request upstream: CUSTOM_HEADER_X_API_KEY=v sends X-Api-Key: v",
    "v",
)
AZURE_API_VERSION = Setting(
    "AZURE_API_VERSION",
    parsers.text,
    "",
    "Azure OpenAI addressing and the api-key header",
    "2024-10-21",
)
AUTO_CACHE = Setting(
    "AUTO_CACHE",
    parsers.switch,
    "preset (requesty: on)",
    "on: asks Requesty to place cache breakpoints (requesty.auto_cache)",
    "on",
)
EXTRA_BODY = Setting(
    "EXTRA_BODY",
    parsers.extra_body,
    "preset",
    "fields, as a JSON object, of every Chat Completions request; they win over what is converted",
    '{"reasoning_effort":"low"}',
)
PRICES = Setting(
    "PRICES",
    parsers.prices,
    "preset",
    "dollars per million tokens as model=input/output[/cached[/cache writes]], split by commas",
    "kimi-k3=0.6/2.5/0.15",
)
TOOL_FILTER = Setting(
    "TOOL_FILTER",
    parsers.words,
    "none",
    "glob patterns, split by commas, of tools that the model is not told of",
    "WebSearch,mcp__*",
)
HISTORY = Setting(
    "HISTORY",
    parsers.switch,
    "off",
    "on: keeps what user and model say, for three days, without tools' bodies and keys",
    "on",
)
ADMIN_API = Setting(
    "ADMIN_API",
    parsers.switch,
    "on",
    "off: no /config, /models, /conversation … on the proxy's port; only loopback has them",
    "off",
)
INSPECT = Setting(
    "INSPECT",
    parsers.switch,
    "off",
    "on: /debug_logs also shows bodies, redacted, from memory, for a day after the file was saved",
    "on",
)
TRANSPARENT_URL = Setting(
    "TRANSPARENT_URL",
    parsers.http_url,
    "https://api.anthropic.com",
    "where requests go, unchanged, while the proxy is disabled",
    "https://gateway.example.com",
)

SETTINGS: tuple[Setting[Any], ...] = (
    PROVIDER,
    PROVIDER_API_KEY,
    PROVIDER_BASE_URL,
    PROVIDER_API,
    ANTHROPIC_API_KEY,
    PASS_CLIENT_KEY,
    BIG_MODEL,
    MIDDLE_MODEL,
    SMALL_MODEL,
    PASS_MODELS,
    HOST,
    PORT,
    ALLOW_PUBLIC,
    ALLOWED_HOSTS,
    MAX_CONNECTIONS,
    LOG_LEVEL,
    MAX_TOKENS_LIMIT,
    MIN_TOKENS_LIMIT,
    CONTEXT_WINDOW,
    LONG_CONTEXT_THRESHOLD,
    REQUEST_TIMEOUT,
    MAX_RETRIES,
    KEY_MAX_IN_FLIGHT,
    KEY_PER_MINUTE,
    KEY_PER_DAY,
    EARLY_COMMIT,
    UPSTREAM_PROXY,
    CA_BUNDLE,
    CUSTOM_HEADER,
    AZURE_API_VERSION,
    AUTO_CACHE,
    EXTRA_BODY,
    PRICES,
    TOOL_FILTER,
    HISTORY,
    ADMIN_API,
    INSPECT,
    TRANSPARENT_URL,
)

NAMES = frozenset(name for setting in SETTINGS for name in setting.names)


def is_setting(name: str) -> bool:
    """Tell whether *name*, of an env file or the environment, is one of ours."""
    return name in NAMES or name.startswith(HEADER_PREFIX)
