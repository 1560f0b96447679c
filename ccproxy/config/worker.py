"""
One env file, or the process environment, -> WorkerConfig: all that a worker has to know.

A setting comes from the env file, else from the preset that PROVIDER names, else it has the
default of `config/settings.py`. Without PROVIDER, a base URL at a known provider's host brings
that provider's deviations and auth style, but not its models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar, cast
from urllib.parse import urlsplit

from ccproxy.config import consistency as rules
from ccproxy.config import settings as s
from ccproxy.config.addresses import Address
from ccproxy.config.fleet import Entry
from ccproxy.config.reader import EnvReader, read_environment, read_file
from ccproxy.errors import ConfigError
from ccproxy.keys.state import KeyLimits
from ccproxy.protocol.headers import AuthStyle
from ccproxy.providers.presets import (
    DEMO_ADDRESS,
    Preset,
    bypass_url,
    generic_preset,
    load_presets,
    preset_for_auth,
    preset_for_host,
    with_auto_cache,
    with_extra_body,
)
from ccproxy.providers.pricing import Price
from ccproxy.providers.quirks import Api, Target
from ccproxy.routing.tiers import ModelMap

T = TypeVar("T")

PLACEHOLDER = "ccproxy-needs-no-key"
"""
What a session sends to a proxy that asks for no key: without any credential Claude Code sends
nothing and asks the user to log in. It is nobody's key, and never sent on.
"""


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """Everything that one proxy's user decided. Secrets do not show in its `repr`."""

    label: str
    host: str
    port: int
    provider: str
    """The preset's name, also where the base URL's host told it; empty where none is known."""
    api: Api
    """The dialect; with `api_by_model`, that of models whose card has none."""
    base_url: str
    auth: AuthStyle
    api_keys: tuple[str, ...] = field(repr=False)
    """In the order of their turns. Empty only where the client's key is passed on."""
    client_keys: tuple[str, ...] = field(repr=False)
    """Empty: any client may come."""
    pass_client_key: bool
    models: ModelMap = field(repr=False)
    log_level: str
    max_tokens_limit: int | None
    min_tokens_limit: int | None
    context_window: int | None
    request_timeout: float
    max_retries: int
    early_commit: float
    upstream_proxy: str | None = field(repr=False)
    ca_bundle: Path | None
    custom_headers: Mapping[str, str] = field(repr=False)
    """By their names as sent; the preset's are among them."""
    azure_api_version: str
    env_file: Path | None
    api_by_model: bool = False
    """Whether a model's card may name another dialect; not if the user has chosen one."""
    title: str = ""
    """The provider's name for users."""
    allowed_hosts: tuple[str, ...] = ()
    """What requests may be addressed to; empty: only this machine on loopback, else anything."""
    max_connections: int = 1024
    """Clients' connections that may be open at once."""
    takes_anthropic_keys: bool = False
    """Whether a key of Anthropic's (`sk-ant-…`) may be passed on: nobody else may see one."""
    key_limits: KeyLimits = field(default_factory=KeyLimits)
    """What each key may be used for at most."""
    tool_filter: tuple[str, ...] = ()
    """Glob patterns of tools that the provider does not get."""
    history: bool = False
    """Whether turns are kept."""
    admin_api: bool = True
    inspect: bool = False
    """Whether bodies can be looked at for a day."""
    transparent_url: str = ""
    """Where requests go, unchanged, while the proxy is disabled."""
    long_context_threshold: int | None = None
    """Tokens; what the table says of long_context wins."""

    @property
    def provider_name(self) -> str:
        """What messages call the provider: its title, or the host and port that answer."""
        if self.provider:
            return self.title
        return urlsplit(self.base_url).netloc.rpartition("@")[2] or self.base_url

    @property
    def serves_demo(self) -> bool:
        """Whether the worker itself must serve the provider, and then be told with `at`."""
        return self.base_url == DEMO_ADDRESS

    def at(self, base_url: str) -> WorkerConfig:
        """Return the same configuration with the provider at *base_url*."""
        return replace(self, base_url=base_url)

    def chat_url(self, model: str) -> str:
        """Return where Chat Completions of *model* are asked for."""
        return self._chat_urls(model)

    def messages_url(self) -> str:
        """Return where Messages are asked for (direct mode)."""
        return self._address.messages()

    def count_url(self) -> str:
        """Return where the tokens of Messages are counted (direct mode)."""
        return f"{self.messages_url()}/count_tokens"

    def model_url(self, model: str, api: Api) -> str:
        """Return where *model* is asked in the dialect *api*."""
        match api:
            case "chat":
                return self.chat_url(model)
            case "responses":
                return self._address.responses(azure=self.auth == "api-key")
            case "messages":
                return self.messages_url()

    def api_of(self, model: str) -> Api:
        """Return the dialect in which *model* is asked."""
        if not self.api_by_model or self.api == "messages":
            return self.api
        return self.models.card(model).api or self.api

    def target(self, model: str, api: Api | None = None) -> Target:
        """
        Return all that conversion needs to know of *model*, a name of the provider's.

        *api* is the dialect if it is not the model's own.
        """
        return self._targets(model, api or self.api_of(model))

    @cached_property
    def _targets(self) -> Callable[[str, Api], Target]:
        return lru_cache(maxsize=256)(self._target)

    def _target(self, model: str, api: Api) -> Target:
        card = self.models.card(model)
        return Target(
            provider=self.provider or self._host,
            model=model,
            quirks=card.quirks_in(api),
            window=self.context_window or card.window,
            max_output=card.max_output,
            api=api,
            endpoint=self._endpoint,
        )

    @cached_property
    def _chat_urls(self) -> Callable[[str], str]:
        chat = partial(self._address.chat, azure=self.auth == "api-key")
        return lru_cache(maxsize=256)(chat)

    @cached_property
    def _address(self) -> Address:
        return Address.parse(self.base_url, api_version=self.azure_api_version)

    @cached_property
    def _endpoint(self) -> str:
        return hashlib.sha256(self._address.base.encode()).hexdigest()[:12]

    @cached_property
    def _host(self) -> str:
        return urlsplit(self.base_url).hostname or self.base_url


def load_worker(
    env_file: Path | None,
    *,
    entry: Entry | None = None,
    environ: Mapping[str, str] | None = None,
    ports: Mapping[int, str] = MappingProxyType({}),
) -> WorkerConfig:
    """
    Read the settings of one proxy: of *env_file*, or without one those in *environ*.

    *ports* are those of the whole fleet with their labels; the entry's own is known anyway.

    Raises:
        ConfigError: With every mistake, not only the first.

    """
    env = read_environment(environ or {}) if env_file is None else read_file(env_file, entry=entry)
    config = _load(env, entry, env_file) if env.is_read else None
    if config is not None:
        own = {**ports, config.port: config.label}
        rules.check_own_port(env, config.base_url, own, host=config.host)
        rules.check_host(env, config.host, config.client_keys)
        rules.check_limits(env, config.min_tokens_limit, config.max_tokens_limit)
    if env_file is not None:
        env.check_names()
        rules.check_port(env, entry)
        rules.check_file(env)
    if env.mistakes or config is None:
        raise ConfigError(sorted(env.mistakes, key=lambda mistake: mistake.line or 0))
    return config


def _load(env: EnvReader, entry: Entry | None, env_file: Path | None) -> WorkerConfig:
    """Read every setting; what is wrong is noted in *env*, and the value is then of no use."""
    named = rules.named_preset(env)
    provider = named or _recognised(env)
    # What deviates is known by name and by host alike; addresses and models only by name.
    preset = load_presets()[provider] if provider else generic_preset()
    chosen = preset if named else generic_preset()
    wanted_api = env.read(s.PROVIDER_API) or "auto"
    api = chosen.api if wanted_api == "auto" else cast(Api, wanted_api)
    passes = env.read(s.PASS_CLIENT_KEY) or False
    return WorkerConfig(
        label=entry.label if entry else "ccproxy",
        host=env.read(s.HOST) or "127.0.0.1",
        port=entry.port if entry else env.read(s.PORT) or 0,
        provider=provider,
        title=preset.title,
        api=api,
        api_by_model=wanted_api == "auto",
        base_url=rules.base_url(env, chosen, api),
        auth=preset.native_auth if api == "messages" else preset.auth,
        api_keys=rules.api_keys(env, preset, passes=passes),
        client_keys=env.read(s.ANTHROPIC_API_KEY) or (),
        pass_client_key=passes,
        takes_anthropic_keys=preset.takes_anthropic_keys,
        models=_models(env, preset, chosen),
        log_level=env.read(s.LOG_LEVEL) or "INFO",
        max_tokens_limit=env.read(s.MAX_TOKENS_LIMIT),
        min_tokens_limit=env.read(s.MIN_TOKENS_LIMIT),
        context_window=env.read(s.CONTEXT_WINDOW),
        request_timeout=env.read(s.REQUEST_TIMEOUT) or 600.0,
        max_retries=_or(env.read(s.MAX_RETRIES), 2),
        early_commit=_or(env.read(s.EARLY_COMMIT), 15.0),
        upstream_proxy=env.read(s.UPSTREAM_PROXY),
        ca_bundle=rules.ca_bundle(env),
        custom_headers={**preset.headers, **rules.custom_headers(env)},
        azure_api_version=env.read(s.AZURE_API_VERSION) or "",
        env_file=env_file,
        allowed_hosts=env.read(s.ALLOWED_HOSTS) or (),
        max_connections=env.read(s.MAX_CONNECTIONS) or 1024,
        key_limits=KeyLimits(
            in_flight=env.read(s.KEY_MAX_IN_FLIGHT),
            per_minute=env.read(s.KEY_PER_MINUTE),
            per_day=env.read(s.KEY_PER_DAY),
        ),
        tool_filter=env.read(s.TOOL_FILTER) or (),
        history=env.read(s.HISTORY) or False,
        admin_api=_or(env.read(s.ADMIN_API), True),
        inspect=env.read(s.INSPECT) or False,
        transparent_url=env.read(s.TRANSPARENT_URL) or bypass_url(),
        long_context_threshold=env.read(s.LONG_CONTEXT_THRESHOLD),
    )


def _recognised(env: EnvReader) -> str:
    """Find the provider without its name: by Azure's own setting, or by the base URL's host."""
    if env.given(s.AZURE_API_VERSION):
        return preset_for_auth("api-key")
    given = env.given(s.PROVIDER_BASE_URL)
    try:
        host = urlsplit(given.value.strip() if given else generic_preset().base_url).hostname
    except ValueError:  # the address itself is judged where it is read
        return ""
    return preset_for_host(host or "")


def _models(env: EnvReader, preset: Preset, chosen: Preset) -> ModelMap:
    """Put the models together: tiers and patterns as *chosen*, cards as known of the provider."""
    big = env.read(s.BIG_MODEL) or chosen.big
    middle = env.read(s.MIDDLE_MODEL) or chosen.middle
    small = env.read(s.SMALL_MODEL) or chosen.small
    patterns = env.read(s.PASS_MODELS)
    auto_cache = env.read(s.AUTO_CACHE)
    cards = (*preset.cards(), preset.unknown())
    if auto_cache is not None:
        cards = tuple(with_auto_cache(card, on=auto_cache) for card in cards)
    if extra := env.read(s.EXTRA_BODY):
        cards = tuple(with_extra_body(card, extra) for card in cards)
    # A preset without models of its own sends names on; a tier that the user left out, too.
    instead = big if chosen.big else None
    return ModelMap(
        big=big,
        middle=middle or instead,
        small=small or instead,
        pass_patterns=chosen.pass_models if patterns is None else patterns,
        cards=cards[:-1],
        unknown=cards[-1],
        prices=tuple((name, Price.of(price)) for name, price in env.read(s.PRICES) or ()),
    )


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
