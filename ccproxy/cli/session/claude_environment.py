"""
The environment variables of a Claude Code session on one proxy. Pure.

Model names come from ANTHROPIC_DEFAULT_*_MODEL and are the provider's own. The proxy forwards names
equal to BIG, MIDDLE and SMALL unchanged, so the session shows the model that answers. Claude Code
does not recognize these names; CLAUDE_CODE_MAX_CONTEXT_TOKENS sets the window of such models. It
is ignored for Claude models, and without it the window is 1,000,000 tokens, so that compaction
starts too late.

ANTHROPIC_MODEL names the model of a new session. Without it, Claude Code takes the model that an
earlier session saved in settings.json, which may belong to another provider, or else the opus model
with the suffix [1m], which means a window of 1,000,000 tokens regardless of the limit. All of this
was measured with Claude Code 2.1.329 and 2.1.332.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ccproxy.config.worker_config import PLACEHOLDER, WorkerConfig
from ccproxy.routing.entry_references import FleetModels, ModelChain
from ccproxy.routing.tiers import TIERS as TIER_NAMES
from ccproxy.routing.tiers import Tier
from ccproxy.text import mask_key

Session = Mapping[str, str | None]
"""Variables in the order in which they are printed; the value None unsets the variable."""

TOKEN = "ANTHROPIC_AUTH_TOKEN"  # noqa: S105 - the name of a variable
OWN_KEY = "ANTHROPIC_API_KEY"
MODEL = "ANTHROPIC_MODEL"
ACTIVE = "CCPROXY_ACTIVE"
MAX_CONTEXT = "CLAUDE_CODE_MAX_CONTEXT_TOKENS"
DISABLE_1M = "CLAUDE_CODE_DISABLE_1M_CONTEXT"
PROVIDER_SWITCHES = (
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_GATEWAY",
    "ANTHROPIC_UNIX_SOCKET",
)
"""Variables that make Claude Code ignore ANTHROPIC_BASE_URL or change its requests."""
UNSET = (
    OWN_KEY,  # Claude Code warns if both credentials are set
    "ANTHROPIC_DEFAULT_MODEL",  # these two select models that the proxy may not offer
    "ANTHROPIC_SMALL_FAST_MODEL",
    *PROVIDER_SWITCHES,
)
"""Variables that a session always unsets."""
TIERS: Mapping[str, Tier] = {"OPUS": "big", "SONNET": "middle", "HAIKU": "small", "FABLE": "big"}
"""The ccproxy tier that answers for each of Claude Code's model aliases."""
_TIER_SUFFIXES = ("", "_NAME", "_DESCRIPTION", "_SUPPORTED_CAPABILITIES")
_TIER_VARIABLES = tuple(
    f"ANTHROPIC_DEFAULT_{tier}_MODEL{suffix}" for tier in TIERS for suffix in _TIER_SUFFIXES
)
MANAGED = (
    "ANTHROPIC_BASE_URL",
    TOKEN,
    MODEL,
    *_TIER_VARIABLES,
    MAX_CONTEXT,
    DISABLE_1M,
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
    "CLAUDE_CODE_ATTRIBUTION_HEADER",
    "CLAUDE_CODE_AUTO_MODE_SERVER",
    "CLAUDE_CODE_GATEWAY_HINT_HEADERS",
    "API_TIMEOUT_MS",
    ACTIVE,
    *UNSET,
)
"""Every variable that a session sets or unsets, so that a second label overwrites the first."""

# Claude Code requests 32,000 output tokens from an unknown model and compacts when 13,000 tokens
# plus the output limit (at most 20,000) remain. An answer within these bounds fits the window.
_LARGEST_ANSWER = 32_000
_SHARE_OF_WINDOW = 4
SMALLEST_COMPACTION = 100_000
"""In tokens; Claude Code 2.1.332 ignores a smaller autoCompactWindow."""
_PLAIN_WINDOW = 200_000
"""In tokens; up to this window, CLAUDE_CODE_DISABLE_1M_CONTEXT takes effect without a notice."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
ALIASES: Mapping[str, Tier] = {
    **{alias.lower(): TIERS[alias] for alias in TIERS},
    "opusplan": "big",
}
"""The tier for each model alias that Claude Code saves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The properties of the models that serve a session's tiers."""

    windows: Mapping[str, int]
    """Context windows in tokens by model name, in the order big, middle, small."""
    max_output: int | None
    """The output limit to request, in tokens; None means Claude Code's default."""
    is_claude: bool
    """True if the big model is a Claude model; Claude Code has built-in limits for it."""
    price_thresholds: Mapping[str, int] = field(default_factory=dict)
    """With PRICE_GUARD: the prompt tokens above which a Claude model costs more, by model name."""

    @property
    def smallest_window(self) -> int | None:
        """The smallest context window; None if none is known."""
        return min(self.windows.values(), default=None)


def session(
    config: WorkerConfig,
    environ: Mapping[str, str],
    *,
    fleet_models: FleetModels[WorkerConfig] | None = None,
    is_bypassed: bool = False,
    saved_model: str | None = None,
    network_environ: Mapping[str, str] | None = None,
) -> Session:
    """
    Return the variables of a session on the proxy of *config*, started from *environ*.

    A tier may be a model of another entry; *fleet_models* resolves it. While the proxy
    *is_bypassed*, requests go to Anthropic: no model is set, and ANTHROPIC_API_KEY is left alone.
    *saved_model* is the model in Claude Code's settings. *network_environ* is the environment with
    the variables from these settings added, and is searched for HTTP proxies.
    """
    settings: dict[str, str | None] = dict.fromkeys(MANAGED)
    settings |= {
        "ANTHROPIC_BASE_URL": base_url(config),
        TOKEN: _token(config, environ, is_bypassed=is_bypassed),
        # The header changes with each request and breaks the provider's prompt cache.
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        # Without a judge in the proxy, Claude Code would report that the gateway cannot judge.
        "CLAUDE_CODE_AUTO_MODE_SERVER": None if _judges_calls(config) else "0",
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
        "API_TIMEOUT_MS": "3000000",
        ACTIVE: config.label,
    }
    settings |= _proxy_exceptions(network_environ or environ, config.host)
    if is_bypassed:  # Anthropic answers: it has its own models and accepts the user's own key
        del settings[OWN_KEY]
        return settings
    limits = find_limits(config, fleet_models=fleet_models)
    return settings | _model_settings(config, limits, saved_model)


def _judges_calls(config: WorkerConfig) -> bool:
    """Return True if the proxy answers `safeguards`; direct mode leaves them to the provider."""
    return bool(config.added_features.judge) and config.api != "messages"


def session_model(config: WorkerConfig, saved_model: str | None) -> str | None:
    """
    Return the model of a new session: the saved one if this entry has it, else the big model.

    A saved alias such as `sonnet` selects that tier. None if the entry forwards names unchanged.
    """
    saved = (saved_model or "").removesuffix("[1m]")
    if saved in ALIASES:
        return config.models.tier(ALIASES[saved])
    return saved if is_own_model(config, saved) else config.models.big


def is_own_model(config: WorkerConfig, name: str) -> bool:
    """Return True if *name* is a model of a tier of this entry, with or without its label."""
    head, colon, tail = name.partition(":")
    if colon and head.lower() == config.label.lower():
        name = tail
    return bool(name) and name in {*config.models.tiers(), *TIERS.values()}


def is_foreign_model(config: WorkerConfig, name: str) -> bool:
    """Return True if a saved model *name* belongs to another provider."""
    return not (is_claude_name(name) or is_own_model(config, name.removesuffix("[1m]")))


def is_claude_name(name: str) -> bool:
    """Return True for Claude Code's own model names and aliases."""
    plain = name.removesuffix("[1m]")
    return plain in ALIASES or plain.startswith("claude-") or plain in ("", "default")


def find_limits(
    config: WorkerConfig, *, fleet_models: FleetModels[WorkerConfig] | None = None
) -> Limits:
    """Return the known limits of the models that answer for the tiers of *config*."""
    answering = _answering(config, fleet_models)
    targets = [chain.target for chain in answering if chain.target is not None]
    names: dict[str, str | None] = {tier: config.models.tier(tier) for tier in TIER_NAMES}
    windows: dict[str, int] = {}
    for chain in answering:
        if window := session_window(chain):
            name = names.get(chain.refs[0].model) or chain.model
            windows[name] = min(window, windows.get(name, window))
    is_claude = _is_claude_model(config, answering)
    user_limits = [chain.config.max_tokens_limit for chain in answering if chain.config is not None]
    limit = min(filter(None, [*user_limits, config.max_tokens_limit]), default=None)
    output = min((target.max_output for target in targets if target.max_output), default=None)
    smallest = min(windows.values(), default=None)
    return Limits(
        windows=windows,
        max_output=limit if is_claude else _longest_answer(smallest, output, limit),
        is_claude=is_claude,
        price_thresholds=_price_thresholds(config) if is_claude else {},
    )


def _price_thresholds(config: WorkerConfig) -> dict[str, int]:
    """Return the price thresholds of an entry's Claude models if PRICE_GUARD is on."""
    if not config.price_guard:
        return {}
    prices = {name: config.models.price(name) for name in config.models.rows}
    return {
        name: price.cliff
        for name, price in prices.items()
        if price is not None and price.cliff is not None and name.startswith("claude-")
    }


def session_window(chain: ModelChain[WorkerConfig]) -> int | None:
    """
    Return the context window of the model at the end of *chain*; None if it is unknown.

    With PRICE_GUARD, the window ends at the price threshold, because Claude Code compacts before
    it.
    """
    config, window = chain.config, chain.target.window if chain.target else None
    price = config.models.price(chain.model) if config and config.price_guard else None
    threshold = price.cliff if price else None
    if threshold is None or threshold < SMALLEST_COMPACTION:
        return window
    return min(threshold, window or threshold)


def window_note(
    config: WorkerConfig, *, fleet_models: FleetModels[WorkerConfig] | None = None
) -> str | None:
    """Return a note if the big model's context window is unknown, else None."""
    limits = find_limits(config, fleet_models=fleet_models)
    if limits.windows or limits.is_claude:
        return None
    source = config.env_file.name if config.env_file else "the environment"
    model = config.models.big
    text = f"the context window of {model} is unknown; Claude Code assumes 1,000,000 tokens"
    return f"{text}. Set CONTEXT_WINDOW in {source}."


def no_session() -> Session:
    """Return the variables that end a session: all are unset."""
    return dict.fromkeys(MANAGED)


def masked(session: Session) -> Session:
    """Return *session* with its token masked."""
    token = session[TOKEN]
    return session if token in (None, PLACEHOLDER) else {**session, TOKEN: mask_key(token)}


def base_url(config: WorkerConfig) -> str:
    """Return the proxy's URL for a client on this machine, without /v1, which clients add."""
    if config.gateway.tls is not None:
        return config.gateway.public_url  # the name in its certificate
    host, port = config.host, config.port
    if host in ("", "0.0.0.0"):  # noqa: S104 - not bound here, but replaced
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _model_settings(
    config: WorkerConfig, limits: Limits, saved_model: str | None
) -> dict[str, str | None]:
    window, output = limits.smallest_window, limits.max_output
    is_small = window is not None and window <= _PLAIN_WINDOW and not limits.is_claude
    return {
        MODEL: session_model(config, saved_model),
        **_tier_settings(config, limits),
        MAX_CONTEXT: None if window is None else str(window),
        DISABLE_1M: "1" if is_small else None,
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": None if output is None else str(output),
    }


def _tier_settings(config: WorkerConfig, limits: Limits) -> dict[str, str | None]:
    """Return the model of each alias, with its title and description in the model picker."""
    settings: dict[str, str | None] = {}
    for alias, tier in TIERS.items():
        if (model := config.models.tier(tier)) is None:
            continue
        prefix = f"ANTHROPIC_DEFAULT_{alias}_MODEL"
        window = limits.windows.get(model)
        size = f", {window:,} tokens" if window else ""
        settings |= {
            prefix: model,
            f"{prefix}_NAME": f"{config.label} · {model}",
            f"{prefix}_DESCRIPTION": f"{tier} model of {config.label}{size}",
        }
    return settings


def _answering(
    config: WorkerConfig, fleet_models: FleetModels[WorkerConfig] | None
) -> list[ModelChain[WorkerConfig]]:
    """Return the entry and model that ultimately serve each tier, where they can be resolved."""
    fleet_models = fleet_models or FleetModels(labels={}, config=lambda _: config)
    return [chain for chain in fleet_models.chains(config.label) if chain.config is not None]


def _is_claude_model(config: WorkerConfig, answering: Iterable[ModelChain[WorkerConfig]]) -> bool:
    """Return True if the big model is a Claude model; Claude Code has built-in limits for it."""
    names = [
        config.models.big or "claude-",
        *(chain.model for chain in answering if chain.refs[0].model == "big"),
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
    # While the proxy is bypassed, ANTHROPIC_API_KEY stays set and is sent in a separate header.
    own_key = environ.get(TOKEN) or (None if is_bypassed else environ.get(OWN_KEY))
    # A shell that uses another label contains that label's client key: do not forward it.
    is_own = environ.get(ACTIVE, config.label) == config.label
    return own_key if config.pass_client_key and own_key and is_own else PLACEHOLDER


def _proxy_exceptions(environ: Mapping[str, str], host: str) -> Session:
    """Return NO_PROXY with this machine's addresses added; empty without an HTTP proxy."""
    if not any(environ.get(name) for name in _PROXIES):
        return {}
    names = [name for name in ("NO_PROXY", "no_proxy") if environ.get(name)] or ["NO_PROXY"]
    is_local = host in ("", "0.0.0.0", "::", *_LOOPBACK)  # noqa: S104 - only compared
    local = _LOOPBACK if is_local else (*_LOOPBACK, host)
    return {name: _with_hosts(environ.get(name, ""), local) for name in names}


def _with_hosts(no_proxy: str, hosts: Iterable[str]) -> str:
    listed = [host.strip() for host in no_proxy.split(",") if host.strip()]
    missing = [host for host in hosts if host not in listed]
    return ",".join([*listed, *missing]) if missing and "*" not in listed else no_proxy
