"""
Every setting of an env file: name, parser, default, meaning and example, each declared once.

Reading (`config/worker_config.py`), `ccproxy up --help`, docs/reference/settings.md and the
suggestions for near misses all follow from these declarations. A setting that is not set, or empty,
has its default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from ccproxy.config import parsers
from ccproxy.config.services.monitoring_addresses import (
    parse_metrics_address,
    parse_traces_headers,
    parse_traces_url,
)
from ccproxy.config.services.redis_address import parse_redis_url
from ccproxy.keys.policy import Affinity, Strategy

T_co = TypeVar("T_co", covariant=True)
D_co = TypeVar("D_co", covariant=True)

HEADER_PREFIX = "CUSTOM_HEADER_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Generic[T_co, D_co]):
    """One setting of an env file; the name of its variable is its name."""

    name: str = ""
    parse: Callable[[str], T_co]
    default: D_co
    """The value of a setting that is not set."""
    meaning: str
    example: str
    aliases: tuple[str, ...] = ()
    """Other names in existing env files; `name` wins if both are set."""
    source: str = ""
    """Where the value comes from if the setting is not set; empty if it is always `default`."""
    is_secret: bool = False
    """True if the value is a credential, or contains one."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of the setting."""
        return (self.name, *self.aliases)

    @property
    def default_text(self) -> str:
        """The default as the documentation and `--help` show it; empty if there is none."""
        if self.source:
            return self.source
        if isinstance(self.default, bool):
            return "on" if self.default else "off"
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return str(self.default) if self.default else ""


PROVIDER = Setting(
    parse=str.lower,
    default="",
    meaning="the provider preset: sets base URL, authentication, models and known deviations",
    example="kimi",
)
PROVIDER_API_KEY = Setting(
    parse=parsers.keys,
    default=(),
    meaning="the provider's API key, or several separated by commas, each optionally followed by "
    ";priority=2 (1 is used first) or ;weight=3",
    example="sk-…",
    aliases=("OPENAI_API_KEY",),
    is_secret=True,
)
PROVIDER_API_KEYS_FILE = Setting(
    parse=parsers.text,
    default=None,
    meaning="instead of PROVIDER_API_KEY: a file with one key per line, relative to the env file",
    example="kimi.keys",
)
PROVIDER_BASE_URL = Setting(
    parse=parsers.http_url,
    default="",
    meaning="the provider's address; the preset's deviations still apply",
    example="https://api.example.com/v1",
    aliases=("OPENAI_BASE_URL",),
    source="preset, else OpenAI",
)
PROVIDER_REGION = Setting(
    parse=str.lower,
    default="",
    meaning="the region of the account, such as china: selects one of the preset's addresses",
    example="china",
    source="preset",
)
PROVIDER_PLAN = Setting(
    parse=str.lower,
    default="",
    meaning="the plan of the account, such as coding-plan: selects one of the preset's addresses",
    example="coding-plan",
    source="preset",
)
PROVIDER_API: Setting[parsers.ApiChoice, parsers.ApiChoice] = Setting(
    parse=parsers.api,
    default="auto",
    meaning="chat (Chat Completions), responses (OpenAI's Responses API) or messages (direct mode, "
    "the default for the anthropic preset); auto: whichever each model needs",
    example="responses",
)
ANTHROPIC_API_KEY = Setting(
    parse=parsers.client_keys,
    default=(),
    meaning="comma-separated client keys, one of which every request must contain; if empty, "
    "no key is required",
    example="ccp_…",
    is_secret=True,
)
PASS_CLIENT_KEY = Setting(
    parse=parsers.switch,
    default=False,
    meaning="on: send the client's own key to the provider; no provider key is needed",
    example="on",
)
BIG_MODEL = Setting(
    parse=parsers.model,
    default=None,
    meaning="the model for opus and unknown names",
    example="gpt-4o",
    source="preset, else gpt-4o",
)
MIDDLE_MODEL = Setting(
    parse=parsers.model,
    default=None,
    meaning="the model for sonnet",
    example="gpt-4o",
    source="preset, else BIG_MODEL",
)
SMALL_MODEL = Setting(
    parse=parsers.model,
    default=None,
    meaning="the model for haiku",
    example="gpt-4o-mini",
    source="preset, else gpt-4o-mini",
)
PASS_MODELS = Setting(
    parse=parsers.words,
    default=None,
    meaning="comma-separated glob patterns for model names that are sent unchanged",
    example="gpt-*,kimi-*",
    source="preset, else gpt-* o1* o3* o4* …",
)
HOST = Setting(
    parse=parsers.host,
    default="127.0.0.1",
    meaning="the address to listen on",
    example="127.0.0.1",
)
PORT = Setting(
    parse=parsers.port,
    default=None,
    meaning="checked against the port in ccproxy.toml, which takes precedence",
    example="8081",
    source="the table's",
)
ALLOW_PUBLIC = Setting(
    parse=parsers.switch,
    default=False,
    meaning="on: listen on a public address without requiring a client key",
    example="on",
)
ALLOWED_HOSTS = Setting(
    parse=parsers.hosts,
    default=(),
    meaning="comma-separated host names that requests may use in addition to localhost and HOST",
    example="box.lan,192.168.1.5",
    source="loopback names on loopback, else any",
)
DRAIN_TIMEOUT = Setting(
    parse=parsers.seconds,
    default=30.0,
    meaning="seconds that running requests may take after SIGTERM to `ccproxy up --port`, as in a "
    "container",
    example="300",
)
DRAIN_DELAY = Setting(
    parse=parsers.seconds_or_never,
    default=0.0,
    meaning="seconds after SIGTERM during which new requests are still accepted and /readyz "
    "answers 503, so that a load balancer can react",
    example="10",
)
USERS = Setting(
    parse=parsers.text,
    default=None,
    meaning="a file of users, relative to the folder of the env file: the proxy is then a team's "
    "gateway, see docs/team-gateway.md",
    example="../users.toml",
    source="none",
)
PUBLIC_URL = Setting(
    parse=parsers.public_url,
    default="",
    meaning="the address at which a team reaches the gateway, for Claude Code's sign-in",
    example="https://llm.example.com",
    source="on loopback, the address itself",
)
TRUSTED_PROXIES = Setting(
    name="TRUSTED_PROXIES",
    parse=parsers.networks,
    default=(),
    meaning="addresses or networks of reverse proxies, separated by commas, whose X-Forwarded-For "
    "names the client, for the limits of sign-in attempts at a gateway",
    example="127.0.0.1,10.0.0.0/8",
    source="none: the address of the connection",
)
TELEMETRY_URL = Setting(
    parse=parsers.server_url,
    default=None,
    meaning="a collector of OTLP over HTTP, to which a gateway forwards the telemetry of signed-in "
    "Claude Code sessions, with the user's name in the header x-ccproxy-user",
    example="http://127.0.0.1:4318",
    source="none: it is discarded",
)
OIDC_ISSUER = Setting(
    parse=parsers.issuer,
    default=None,
    meaning="the identity provider (OpenID Connect) that approves sign-ins of users with oidc = "
    "true; its redirect URI is PUBLIC_URL/device/oidc",
    example="https://accounts.google.com",
    source="none",
)
OIDC_CLIENT_ID = Setting(
    parse=parsers.text,
    default="",
    meaning="the client ID of the gateway at OIDC_ISSUER",
    example="ccproxy",
)
OIDC_CLIENT_SECRET = Setting(
    parse=parsers.text,
    default="",
    meaning="the gateway's client secret at OIDC_ISSUER; if empty, the gateway is a public client",
    example="…",
    is_secret=True,
)
OIDC_SESSION_DAYS = Setting(
    parse=parsers.days,
    default=7.0,
    meaning="days until a session that OIDC_ISSUER approved must be approved again, so that users "
    "who leave the organization lose access",
    example="1",
)
TLS_CERT = Setting(
    parse=parsers.text,
    default=None,
    meaning="a PEM certificate with its chain, relative to the env file, for serving https; "
    "requires TLS_KEY and PUBLIC_URL; a changed file takes effect at once",
    example="fullchain.pem",
    source="none: http",
)
TLS_KEY = Setting(
    parse=parsers.text,
    default=None,
    meaning="the private key for TLS_CERT in PEM form, without a password",
    example="privkey.pem",
    source="none",
)
MAX_CONNECTIONS = Setting(
    parse=parsers.connections,
    default=1024,
    meaning="maximum number of open client connections per process; further ones get a 503",
    example="4096",
)
LOG_LEVEL = Setting(
    parse=parsers.log_level,
    default="INFO",
    meaning="DEBUG, INFO, WARNING, ERROR or CRITICAL",
    example="INFO",
)
MAX_TOKENS_LIMIT = Setting(
    parse=parsers.tokens,
    default=None,
    meaning="upper bound for max_tokens",
    example="32000",
    source="none",
)
MIN_TOKENS_LIMIT = Setting(
    parse=parsers.tokens,
    default=None,
    meaning="lower bound for max_tokens",
    example="100",
    source="none",
)
CONTEXT_WINDOW = Setting(
    parse=parsers.tokens,
    default=None,
    meaning="the context window in tokens, for your own server (Ollama, vLLM)",
    example="131072",
    source="preset",
)
MAX_TOOLS = Setting(
    parse=parsers.tools,
    default=None,
    meaning="maximum number of tools in a request, at least 8; the model can search for the others",
    example="40",
    source="the provider's limit",
)
LONG_CONTEXT_THRESHOLD = Setting(
    parse=parsers.tokens,
    default=None,
    meaning="tokens above which a request is long, if long_context in ccproxy.toml has no `over`",
    example="60000",
)
REQUEST_TIMEOUT = Setting(
    parse=parsers.seconds,
    default=600.0,
    meaning="maximum seconds without data from the provider before the answer begins",
    example="600",
)
MAX_RETRIES = Setting(
    parse=parsers.count,
    default=2,
    meaning="retries after 408, 409, 5xx, 529 or a failed connection, before the first byte",
    example="2",
)
KEY_STRATEGY: Setting[Strategy, Strategy | None] = Setting(
    parse=parsers.strategy,
    default=None,
    meaning="rotate, fill-first (one key until it cannot serve, then the next), priority or "
    "weights (as written after the keys)",
    example="fill-first",
    source="rotate, unless the keys have attributes",
)
KEY_AFFINITY: Setting[Affinity, Affinity] = Setting(
    parse=parsers.affinity,
    default="session",
    meaning="what stays with its key, because prompts are cached per account: session, "
    "conversation (subagents use other keys) or off",
    example="conversation",
)
KEY_MOVE_WAIT = Setting(
    parse=parsers.seconds_or_never,
    default=600.0,
    meaning="seconds that a session waits for a compaction before it returns to a preferred key; "
    "0 = at once",
    example="600",
)
FALLBACK_HOLD = Setting(
    parse=parsers.seconds_or_never,
    default=600.0,
    meaning="seconds that a session stays with the fallback that has answered it for 5 minutes, "
    "unless the prefix of its prompt changes; 0 = try its own entry for each request",
    example="600",
)
KEY_MAX_IN_FLIGHT = Setting(
    parse=parsers.requests,
    default=None,
    meaning="maximum concurrent requests per key; up to 100 more wait for a key",
    example="4",
)
KEY_WAIT = Setting(
    parse=parsers.seconds,
    default=120.0,
    meaning="seconds that a request waits for a key that is at KEY_MAX_IN_FLIGHT",
    example="120",
)
KEY_PER_MINUTE = Setting(
    parse=parsers.per_minute,
    default=None,
    meaning="maximum requests per minute and key",
    example="60",
)
KEY_PER_DAY = Setting(
    parse=parsers.requests,
    default=None,
    meaning="maximum requests per day (UTC) and key, such as the 500 of a free key",
    example="500",
)
REDIS_URL = Setting(
    parse=parse_redis_url,
    default=None,
    meaning="the Redis or Valkey server through which replicas on several hosts share key state: "
    "redis://, rediss://, unix:// or redis+sentinel://host,host/master",
    example="redis://redis:6379/0",
)
REDIS_TIMEOUT = Setting(
    parse=parsers.seconds,
    default=0.25,
    meaning="maximum seconds to connect to Redis, and for each of its replies; after that, the "
    "replica continues without Redis, within its share of the limits, until Redis answers again",
    example="0.25",
)
REDIS_REPLICAS = Setting(
    parse=parsers.replicas,
    default=1,
    meaning="the number of replicas that a new one assumes until it has reached Redis",
    example="3",
)
METRICS = Setting(
    parse=parse_metrics_address,
    default=None,
    meaning="where GET /metrics is served for Prometheus: PORT (on 127.0.0.1), HOST:PORT or "
    "unix:PATH; each worker process needs its own address",
    example="9464",
)
TRACES = Setting(
    parse=parse_traces_url,
    default=None,
    meaning="a collector of OpenTelemetry traces (OTLP over HTTP): a span for each request and "
    "attempt, without content or keys",
    example="http://127.0.0.1:4318",
)
TRACES_HEADERS: Setting[Mapping[str, str], Mapping[str, str]] = Setting(
    parse=parse_traces_headers,
    default=MappingProxyType({}),
    meaning="headers for the TRACES collector, such as its key",
    example="Authorization=Bearer …",
    is_secret=True,
)
SIGNING_KEY = Setting(
    parse=parsers.signing_key,
    default=b"",
    meaning="a secret of at least 32 characters, the same for all replicas, so that each accepts "
    "thinking signed by another; it also salts the names of keys in Redis",
    example="…",
    source="a key generated on this machine",
    is_secret=True,
)
EARLY_COMMIT = Setting(
    parse=parsers.seconds_or_never,
    default=15.0,
    meaning="seconds until a waiting stream commits to status 200 and sends pings; 0 = never",
    example="15",
)
UPSTREAM_PROXY = Setting(
    parse=parsers.proxy_url,
    default=None,
    meaning="outbound HTTP proxy; not used for loopback",
    example="http://proxy.example:3128",
    source="HTTPS_PROXY / NO_PROXY",
)
CA_BUNDLE = Setting(
    parse=parsers.text,
    default=None,
    meaning="a PEM file of trusted authorities, relative to the folder of the env file",
    example="/etc/ssl/company.pem",
    source="the system's",
)
CUSTOM_HEADER = Setting(
    name=f"{HEADER_PREFIX}<NAME>",
    parse=parsers.text,
    default=None,
    meaning="a header of every upstream request: CUSTOM_HEADER_X_API_KEY=v sends X-Api-Key: v",
    example="v",
)
AZURE_API_VERSION = Setting(
    parse=parsers.text,
    default="",
    meaning="use Azure OpenAI addresses with this API version, and the api-key header",
    example="2024-10-21",
)
AUTO_CACHE = Setting(
    parse=parsers.switch,
    default=None,
    meaning="on: ask Requesty to place cache breakpoints (requesty.auto_cache)",
    example="on",
    source="preset (requesty: on)",
)
EXTRA_BODY = Setting(
    parse=parsers.extra_body,
    default=None,
    meaning="a JSON object of fields to set in every Chat Completions request, overriding others",
    example='{"reasoning_effort":"low"}',
    source="preset",
)
PRICES = Setting(
    parse=parsers.prices,
    default=(),
    meaning="dollars per million tokens: model=input/output[/cached[/cache writes[/for 1 h]]], …; "
    "after a semicolon, rates for longer prompts or for hours in UTC",
    example="kimi-k3=0.6/2.5/0.15; above 200k=1.2/5/0.3; off-peak mon-fri 16:30-00:30=0.3/1.2",
    source="preset",
)
ACCOUNT_CHECK: Setting[parsers.AccountCheck, parsers.AccountCheck] = Setting(
    parse=parsers.account_check,
    default="auto",
    meaning="whether to read the balance and plan quota of each key: auto (where the provider "
    "documents it), on (also where it does not, or at another base URL), off",
    example="on",
)
ACCOUNT_INTERVAL = Setting(
    parse=parsers.seconds,
    default=900.0,
    meaning="seconds between reads of an account; none are made while there are no requests",
    example="3600",
)
BUDGET = Setting(
    parse=parsers.budgets,
    default=(),
    meaning="the maximum that the proxy may spend per day or month, in US dollars or tokens; "
    "beyond it, requests get a 429",
    example="5 USD/day, 100 USD/month, 20M tokens/day",
    source="none",
)
CLIENT_BUDGETS = Setting(
    parse=parsers.client_budgets,
    default=(),
    meaning="like BUDGET, but for each client key, identified by its last characters; * stands for "
    "all other keys",
    example="…k3y1=2 USD/day, *=500k tokens/day",
    source="none",
)
PRICE_GUARD = Setting(
    parse=parsers.switch,
    default=False,
    meaning="on: `run` and `env` make Claude Code compact before a prompt is so long that the "
    "provider charges more for the whole request",
    example="on",
)
TOOL_FILTER = Setting(
    parse=parsers.words,
    default=(),
    meaning="comma-separated glob patterns for the tools to remove from requests",
    example="WebSearch,mcp__*",
    source="none",
)
WEB_SEARCH = Setting(
    parse=parsers.search_engine,
    default=None,
    meaning="what answers web searches: searxng:URL, brave, tavily, exa, serper, you, bocha, jina, "
    "linkup, perplexity, ollama; provider: its own search; off",
    example="searxng:http://127.0.0.1:8888",
    source="the provider's own search, where it has one",
)
WEB_SEARCH_KEY = Setting(
    parse=parsers.keys,
    default=(),
    meaning="the key of the search engine that WEB_SEARCH names",
    example="tvly-…",
    is_secret=True,
)
WEB_SEARCH_PRICE = Setting(
    parse=parsers.dollars,
    default=None,
    meaning="price of one web search in US dollars; it counts toward costs and budgets",
    example="0.005",
    source="the list price, where it is known",
)
AUTO_PROBE = Setting(
    parse=parsers.dollars,
    default=None,
    meaning="US dollars per day for which each process may send small requests, as `ccproxy probe` "
    "does, when a model is unknown or refuses something",
    example="0.05",
    source="off",
)
AUTO_MODE_MODEL = Setting(
    parse=parsers.model,
    default=None,
    meaning="the model, or LABEL:model, that judges tool calls in Claude Code's auto mode",
    example="Gemini:small",
    source="Claude Code's own classifier",
)
VISION = Setting(
    parse=parsers.model,
    default=None,
    meaning="the model, or LABEL:model, that describes images for models that do not accept them; "
    "it receives every image",
    example="Gemini:small",
    source="images are left out",
)
HISTORY = Setting(
    parse=parsers.switch,
    default=False,
    meaning="on: record conversations, without tool bodies or keys, and keep them for three days",
    example="on",
)
ADMIN_API = Setting(
    parse=parsers.switch,
    default=True,
    meaning="off: only loopback serves /config, /models, /conversation …, not the proxy's port",
    example="off",
)
INSPECT = Setting(
    parse=parsers.switch,
    default=False,
    meaning="on: /debug_logs also shows redacted bodies, for a day after the env file was saved",
    example="on",
)
TRANSPARENT_URL = Setting(
    parse=parsers.server_url,
    default="",
    meaning="where requests are sent, unchanged, while the proxy is bypassed",
    example="https://gateway.example.com",
    source="https://api.anthropic.com",
)


def _declared(variables: Mapping[str, object]) -> tuple[Setting[Any, Any], ...]:
    """Return the settings among *variables*, each with the name of its variable."""
    settings = {name: value for name, value in variables.items() if isinstance(value, Setting)}
    for name, setting in settings.items():
        if not setting.name:
            object.__setattr__(setting, "name", name)  # the only change to a frozen value
    return tuple(settings.values())


SETTINGS = _declared(globals())
"""All settings in the order of their declaration."""

NAMES = frozenset(name for setting in SETTINGS for name in setting.names)
_SECRET_NAMES = frozenset(name for one in SETTINGS if one.is_secret for name in one.names)


def is_setting(name: str) -> bool:
    """Return True if the variable *name* is a setting of ccproxy."""
    return name in NAMES or name.startswith(HEADER_PREFIX)


def is_secret_setting(name: str) -> bool:
    """Return True if the value of the setting *name* is a credential, or may contain one."""
    return name in _SECRET_NAMES or name.startswith(HEADER_PREFIX)
