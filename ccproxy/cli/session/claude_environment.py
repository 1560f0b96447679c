"""
The environment variables of a Claude Code session on one proxy. Pure.

Model names come from ANTHROPIC_DEFAULT_*_MODEL and are the provider's own. The proxy forwards names
equal to BIG, MIDDLE and SMALL unchanged, so the session shows the model that answers. Claude Code
does not recognize these names; CLAUDE_CODE_MAX_CONTEXT_TOKENS sets the window of such models
(measured with 2.1.329: it is ignored for Claude models, and without it the window is 1,000,000
tokens, so compaction starts too late). The default model is opus with the suffix [1m], which
overrides that setting: CLAUDE_CODE_DISABLE_1M_CONTEXT removes the suffix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ccproxy.config.answering import Map, Way
from ccproxy.config.worker import PLACEHOLDER, WorkerConfig

Session = Mapping[str, str | None]
"""Variables in the order in which they are printed; None unsets the variable."""

TOKEN = "ANTHROPIC_AUTH_TOKEN"  # noqa: S105 - the name of a variable
OWN_KEY = "ANTHROPIC_API_KEY"
ACTIVE = "CCPROXY_ACTIVE"
_UNSET = (
    OWN_KEY,  # Claude Code warns if both credentials are set
    "ANTHROPIC_MODEL",  # selects a model that the proxy would have to substitute
    "ANTHROPIC_SMALL_FAST_MODEL",
    "CLAUDE_CODE_USE_BEDROCK",  # these three ignore ANTHROPIC_BASE_URL
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
)
MANAGED = (
    "ANTHROPIC_BASE_URL",
    TOKEN,
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "CLAUDE_CODE_MAX_CONTEXT_TOKENS",
    "CLAUDE_CODE_DISABLE_1M_CONTEXT",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
    "CLAUDE_CODE_ATTRIBUTION_HEADER",
    "CLAUDE_CODE_AUTO_MODE_SERVER",
    "CLAUDE_CODE_GATEWAY_HINT_HEADERS",
    "API_TIMEOUT_MS",
    ACTIVE,
    *_UNSET,
)
"""Every variable that a session sets or unsets, so that a second label overwrites the first."""

# Claude Code requests 32,000 output tokens from an unknown model and compacts when 13,000 tokens
# plus the output limit (at most 20,000) remain. An answer within these bounds fits the window.
_LARGEST_ANSWER = 32_000
_SHARE_OF_WINDOW = 4

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def session(
    config: WorkerConfig,
    environ: Mapping[str, str],
    *,
    fleet_map: Map | None = None,
    is_bypassed: bool = False,
) -> Session:
    """
    Return the variables of a session on the proxy of *config*, started from *environ*.

    A tier may be a model of another entry; *fleet_map* resolves it. While the proxy *is_bypassed*,
    ANTHROPIC_API_KEY is left alone because requests are sent to Anthropic with it.
    """
    models = config.models
    answering = _answering(config, fleet_map)
    targets = [way.target for way in answering if way.target is not None]
    window = min((target.window for target in targets if target.window), default=None)
    max_output = min((target.max_output for target in targets if target.max_output), default=None)
    is_claude = _is_claude_model(config, answering)
    limits = [way.config.max_tokens_limit for way in answering if way.config is not None]
    limit = min(filter(None, [*limits, config.max_tokens_limit]), default=None)
    answer = limit if is_claude else _longest_answer(window, max_output, limit)
    settings: dict[str, str | None] = dict.fromkeys(MANAGED)
    settings |= {
        "ANTHROPIC_BASE_URL": base_url(config.host, config.port),
        TOKEN: _token(config, environ, is_bypassed=is_bypassed),
        "ANTHROPIC_DEFAULT_OPUS_MODEL": models.big,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": models.middle,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": models.small,
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": None if window is None else str(window),
        "CLAUDE_CODE_DISABLE_1M_CONTEXT": None if window is None or is_claude else "1",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": None if answer is None else str(answer),
        # The header changes with each request and breaks the provider's prompt cache.
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_AUTO_MODE_SERVER": "0",
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
        "API_TIMEOUT_MS": "3000000",
        ACTIVE: config.label,
    }
    settings |= _proxy_exceptions(environ)
    if is_bypassed:
        del settings[OWN_KEY]
    return settings


def window_note(config: WorkerConfig, *, fleet_map: Map | None = None) -> str | None:
    """Return a note that the big model's context window is unknown; None if it is known."""
    answering = _answering(config, fleet_map)
    has_window = any(way.target is not None and way.target.window for way in answering)
    if has_window or _is_claude_model(config, answering):
        return None
    source = config.env_file.name if config.env_file else "the environment"
    model = config.models.big
    text = f"the context window of {model} is unknown; Claude Code assumes 1,000,000 tokens"
    return f"{text}. Set CONTEXT_WINDOW in {source}."


def no_session() -> Session:
    """Return the variables that end a session: all are unset."""
    return dict.fromkeys(MANAGED)


def base_url(host: str, port: int) -> str:
    """Return the proxy's URL for a client on this machine, without /v1, which clients add."""
    if host in ("", "0.0.0.0"):  # noqa: S104 - not bound here, but replaced
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _answering(config: WorkerConfig, fleet_map: Map | None) -> list[Way]:
    """Return the entry and model that finally answer each tier, where they can be resolved."""
    fleet_map = fleet_map or Map(labels={}, config=lambda _: config)
    return [way for way in fleet_map.ways(config.label) if way.config is not None]


def _is_claude_model(config: WorkerConfig, answering: Iterable[Way]) -> bool:
    """Return True if the big model is a Claude model, whose limits Claude Code has built in."""
    names = [
        config.models.big or "claude-",
        *(way.model for way in answering if way.places[0].model == "big"),
    ]
    return all(name.startswith("claude-") for name in names)


def _longest_answer(window: int | None, max_output: int | None, limit: int | None) -> int | None:
    """Return the output limit in tokens; None if no limit of the models is known."""
    share = None if window is None else window // _SHARE_OF_WINDOW
    bounds = [number for number in (max_output, limit, share) if number]
    return min(_LARGEST_ANSWER, *bounds) if bounds else None


def _token(config: WorkerConfig, environ: Mapping[str, str], *, is_bypassed: bool) -> str:
    if config.client_keys:
        return config.client_keys[0]
    # With the bypass, ANTHROPIC_API_KEY stays set and is sent in a header of its own.
    own_key = environ.get(TOKEN) or (None if is_bypassed else environ.get(OWN_KEY))
    # A shell that is set to another label holds that label's client key: do not forward it.
    is_own = environ.get(ACTIVE, config.label) == config.label
    return own_key if config.pass_client_key and own_key and is_own else PLACEHOLDER


def _proxy_exceptions(environ: Mapping[str, str]) -> Session:
    """Return NO_PROXY with the loopback addresses added; nothing without an HTTP proxy."""
    if not any(environ.get(name) for name in _PROXIES):
        return {}
    names = [name for name in ("NO_PROXY", "no_proxy") if environ.get(name)] or ["NO_PROXY"]
    return {name: _with_loopback(environ.get(name, "")) for name in names}


def _with_loopback(no_proxy: str) -> str:
    hosts = [host.strip() for host in no_proxy.split(",") if host.strip()]
    missing = [host for host in _LOOPBACK if host not in hosts]
    return no_proxy if "*" in hosts else ",".join([*hosts, *missing])
