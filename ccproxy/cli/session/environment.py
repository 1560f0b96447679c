"""
The environment of a Claude Code session on one proxy. Pure.

Claude Code takes the model names from ANTHROPIC_DEFAULT_*_MODEL, and they are the provider's own:
the proxy sends names equal to BIG, MIDDLE and SMALL on unchanged, so the session shows what
really answers, and because Claude Code does not know such names, CLAUDE_CODE_MAX_CONTEXT_TOKENS
holds for them (measured with 2.1.329; for the names it knows, it uses its own window, and for
unknown ones without the setting a million tokens, so that compaction would come too late). Its
default model is opus with the suffix [1m], which counts more than that setting: without
CLAUDE_CODE_DISABLE_1M_CONTEXT a plain `claude` takes demo-large[1m] for a million tokens wide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ccproxy.config.answering import Map, Way
from ccproxy.config.worker import PLACEHOLDER, WorkerConfig

Session = Mapping[str, str | None]
"""Variables in the order of showing; None means that the variable must not be set."""

TOKEN = "ANTHROPIC_AUTH_TOKEN"  # noqa: S105 - the name of a variable
OWN_KEY = "ANTHROPIC_API_KEY"
ACTIVE = "CCPROXY_ACTIVE"
_ELSEWHERE = (
    OWN_KEY,  # both credentials at once make Claude Code warn
    "ANTHROPIC_MODEL",  # would choose a model that the proxy has to substitute
    "ANTHROPIC_SMALL_FAST_MODEL",
    "CLAUDE_CODE_USE_BEDROCK",  # these three go past ANTHROPIC_BASE_URL
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
    *_ELSEWHERE,
)
"""Every variable that a session sets or removes; what one label set, the next one overwrites."""

# Claude Code asks for 32,000 with a name that it does not know, and begins to compact when
# 13,000 plus an answer of at most 20,000 are left: what is no larger always fits the window.
_LARGEST_ANSWER = 32_000
_SHARE_OF_WINDOW = 4

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def session(
    config: WorkerConfig,
    environ: Mapping[str, str],
    *,
    known: Map | None = None,
    is_off: bool = False,
) -> Session:
    """
    Return what a session on the proxy of *config* needs, started from *environ*.

    A tier may be another entry's model; *known* is the map of the fleet, by which it is found.
    While the proxy *is_off*, the user's own key is left alone: requests go on with it.
    """
    models = config.models
    answering = _answering(config, known)
    targets = [way.target for way in answering if way.target is not None]
    window = min((target.window for target in targets if target.window), default=None)
    output = min((target.max_output for target in targets if target.max_output), default=None)
    is_known = _knows_itself(config, answering)
    limits = [way.config.max_tokens_limit for way in answering if way.config is not None]
    limit = min(filter(None, [*limits, config.max_tokens_limit]), default=None)
    answer = limit if is_known else _answer(window, output, limit)
    settings: dict[str, str | None] = dict.fromkeys(MANAGED)
    settings |= {
        "ANTHROPIC_BASE_URL": base_url(config.host, config.port),
        TOKEN: _token(config, environ, is_off=is_off),
        "ANTHROPIC_DEFAULT_OPUS_MODEL": models.big,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": models.middle,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": models.small,
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": None if window is None else str(window),
        "CLAUDE_CODE_DISABLE_1M_CONTEXT": None if window is None or is_known else "1",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": None if answer is None else str(answer),
        # The header changes with each request and costs the provider's prompt cache.
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_AUTO_MODE_SERVER": "0",
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
        "API_TIMEOUT_MS": "3000000",
        ACTIVE: config.label,
    }
    settings |= _way_past_proxies(environ)
    if is_off:
        del settings[OWN_KEY]
    return settings


def window_note(config: WorkerConfig, *, known: Map | None = None) -> str | None:
    """Say so if nobody knows how long a conversation may become; None if somebody does."""
    answering = _answering(config, known)
    is_told = any(way.target is not None and way.target.window for way in answering)
    if is_told or _knows_itself(config, answering):
        return None
    where = config.env_file.name if config.env_file else "the environment"
    text = f"the window of {config.models.big} is unknown, and Claude Code assumes 1,000,000 tokens"
    return f"{text}; CONTEXT_WINDOW in {where} sets it"


def no_session() -> Session:
    """Return what leaves a session: every variable removed."""
    return dict.fromkeys(MANAGED)


def base_url(host: str, port: int) -> str:
    """Return where a client on this machine reaches the proxy; without /v1, which it adds."""
    if host in ("", "0.0.0.0"):  # noqa: S104 - not bound here, but replaced
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _answering(config: WorkerConfig, known: Map | None) -> list[Way]:
    """Return who answers in the end, in each tier, as far as they can be known."""
    known = known or Map(labels={}, config=lambda _: config)
    return [way for way in known.ways(config.label) if way.config is not None]


def _knows_itself(config: WorkerConfig, answering: Iterable[Way]) -> bool:
    """Tell whether Claude Code knows the big model's window and limit: those of its own models."""
    names = [
        config.models.big or "claude-",
        *(way.model for way in answering if way.places[0].model == "big"),
    ]
    return all(name.startswith("claude-") for name in names)


def _answer(window: int | None, output: int | None, limit: int | None) -> int | None:
    """Return the longest answer to ask for; None where nothing about the models is known."""
    share = None if window is None else window // _SHARE_OF_WINDOW
    known = [number for number in (output, limit, share) if number]
    return min(_LARGEST_ANSWER, *known) if known else None


def _token(config: WorkerConfig, environ: Mapping[str, str], *, is_off: bool) -> str:
    if config.client_keys:
        return config.client_keys[0]
    # A key that is left alone travels in a header of its own.
    own = environ.get(TOKEN) or (None if is_off else environ.get(OWN_KEY))
    # Another label's key is not the user's: it must not travel on to this provider.
    is_own = environ.get(ACTIVE, config.label) == config.label
    return own if config.pass_client_key and own and is_own else PLACEHOLDER


def _way_past_proxies(environ: Mapping[str, str]) -> Session:
    """Keep requests to this machine out of an HTTP proxy of the user's, if there is one."""
    if not any(environ.get(name) for name in _PROXIES):
        return {}
    names = [name for name in ("NO_PROXY", "no_proxy") if environ.get(name)] or ["NO_PROXY"]
    return {name: _with_loopback(environ.get(name, "")) for name in names}


def _with_loopback(hosts: str) -> str:
    listed = [host.strip() for host in hosts.split(",") if host.strip()]
    missing = [host for host in _LOOPBACK if host not in listed]
    return hosts if "*" in listed else ",".join([*listed, *missing])
