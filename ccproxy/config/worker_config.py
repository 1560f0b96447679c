"""
Reads a WorkerConfig from an env file or the process environment.

A setting comes from the env file, otherwise from the provider preset, otherwise from the defaults
in `config/settings.py`. Without PROVIDER, the host of the base URL selects a preset's deviations
and authentication, but not its models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import structs

from ccproxy.bounded_dict import MAX_MODELS
from ccproxy.config import consistency as rules
from ccproxy.config import provider_keys
from ccproxy.config import settings as s
from ccproxy.config.added_feature_settings import AddedFeatureSettings, read_added_features
from ccproxy.config.addresses import Address
from ccproxy.config.catalogue.catalogue_file import provider_rows
from ccproxy.config.fleet import Entry
from ccproxy.config.parsers import AccountCheck, is_loopback
from ccproxy.config.reader import EnvReader, read_environment, read_file
from ccproxy.config.services.service_settings import ServiceSettings, read_services
from ccproxy.config.team.gateway_settings import GatewaySettings, read_gateway
from ccproxy.errors import ConfigError
from ccproxy.keys.budgets import Budget
from ccproxy.keys.key_state import KeyLimits
from ccproxy.keys.policy import KeyPolicy
from ccproxy.protocol.headers import AuthStyle
from ccproxy.providers.catalogue import ModelFacts
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
    with_family,
)
from ccproxy.providers.quirks import Api, Target
from ccproxy.routing.tiers import ModelMap

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

PLACEHOLDER = "ccproxy-needs-no-key"
"""
The key of a session on a proxy that requires none: without any credential, Claude Code asks the
user to log in. It is never sent to a provider.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainTimes:
    """Time limits for the exit of a worker without a supervisor after SIGTERM, in seconds."""

    delay: float
    """Time until it stops accepting."""
    timeout: float
    """Additional time for running requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """Whether, and how often, to read the provider's reports on the accounts of the keys."""

    check: AccountCheck
    host: str
    """The preset's host if its endpoint is queried for any base URL; otherwise empty."""
    interval: float
    """Seconds between reports."""


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """The settings of one proxy. Its `repr` contains no secrets."""

    label: str
    host: str
    port: int
    provider: str
    """The provider preset, even if the base URL selected it; empty if there is none."""
    api: Api
    """The dialect; with `api_by_model`, only of models that have none in their card."""
    api_by_model: bool
    """True if a model's card may select the dialect, because the user has not chosen one."""
    base_url: str
    auth: AuthStyle
    api_keys: tuple[str, ...] = field(repr=False)
    """In order of use. Empty only if the client's key is passed on."""
    client_keys: tuple[str, ...] = field(repr=False)
    """If empty, no key is required."""
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
    """Headers of every upstream request, including the preset's."""
    azure_api_version: str
    env_file: Path | None
    keys_file: Path | None
    """The file with the provider's keys, if they are not in the env file."""
    title: str
    """The provider's name in messages."""
    allowed_hosts: tuple[str, ...]
    """Host names that requests may use; if empty, loopback names on loopback, else any."""
    drain: DrainTimes
    gateway: GatewaySettings
    max_connections: int
    takes_anthropic_keys: bool
    """True if an Anthropic key (`sk-ant-…`) may be passed on; other providers must not get one."""
    key_limits: KeyLimits
    key_policy: KeyPolicy
    fallback_hold: float
    """Seconds that a session stays with a fallback after its own entry was tried."""
    key_wait: float
    """Seconds that a request waits for a key that has reached its limit of requests in flight."""
    tool_filter: tuple[str, ...]
    """Glob patterns for the names of tools to remove from requests."""
    history: bool
    admin_api: bool
    inspect: bool
    transparent_url: str
    """Where requests are sent while the proxy is bypassed."""
    price_guard: bool
    """True if sessions stay below the price thresholds of models."""
    accounts: AccountSettings
    budgets: tuple[Budget, ...]
    """The budgets of the entry and of its client keys."""
    long_context_threshold: int | None
    """Tokens; a threshold in the table overrides it."""
    services: ServiceSettings
    added_features: AddedFeatureSettings
    """The features that ccproxy adds to the provider."""
    measured: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The measured quirks of models in Chat Completions."""
    measured_outputs: dict[str, int] = field(default_factory=dict)
    """The measured output limits in tokens, by model, in Chat Completions."""

    @property
    def provider_name(self) -> str:
        """The provider's name in messages: its title, or the host and port of the base URL."""
        if self.provider:
            return self.title
        return urlsplit(self.base_url).netloc.rpartition("@")[2] or self.base_url

    @property
    def is_on_loopback(self) -> bool:
        """True if only this machine can reach the listener."""
        return is_loopback(self.host)

    @property
    def serves_demo(self) -> bool:
        """True if the worker must serve the provider itself and then set its address with `at`."""
        return self.base_url == DEMO_ADDRESS

    def at(self, base_url: str) -> WorkerConfig:
        """Return the same configuration with the provider at *base_url*."""
        return replace(self, base_url=base_url)

    def chat_url(self, model: str) -> str:
        """Return the address of Chat Completions for *model*."""
        return self._chat_urls(model)

    def messages_url(self) -> str:
        """Return the address of the Messages endpoint (direct mode)."""
        return self._address.messages()

    def models_url(self) -> str:
        """Return the address of the provider's list of models."""
        if self.api == "messages":
            return self._address.messages_models()
        return self._address.models(azure=self.auth == "api-key")

    def count_url(self) -> str:
        """Return the address of the Messages API's token count (direct mode)."""
        return f"{self.messages_url()}/count_tokens"

    def model_url(self, model: str, api: Api) -> str:
        """Return the address for *model* in the dialect *api*."""
        match api:
            case "chat":
                return self.chat_url(model)
            case "responses":
                return self._address.responses(azure=self.auth == "api-key")
            case "messages":
                return self.messages_url()

    def api_of(self, model: str) -> Api:
        """Return the dialect of *model*."""
        if not self.api_by_model or self.api == "messages":
            return self.api
        return self.models.card(model).api or self.api

    def target(self, model: str, api: Api | None = None) -> Target:
        """
        Return the properties of *model* (the provider's name) that conversion needs.

        *api* is the dialect if it is not the model's own.
        """
        return self._targets(model, api)

    def take_measured(self, model: str, quirks: Mapping[str, Any]) -> None:
        """Use *quirks*, measured while the worker is running, for *model* from now on."""
        self.measured[model] = {**self.measured.get(model, {}), **quirks}
        self._targets.cache_clear()

    @cached_property
    def _targets(self) -> _lru_cache_wrapper[Target]:
        return lru_cache(maxsize=MAX_MODELS)(self._target)

    def _target(self, model: str, asked_api: Api | None) -> Target:
        api = asked_api or self.api_of(model)
        card = with_family(self.models.card(model), model)
        quirks = card.quirks_in(api)
        if api == "chat" and (measured := self.measured.get(model)):
            quirks = structs.replace(quirks, **measured)
        measured_output = self.measured_outputs.get(model) if api == "chat" else None
        if quirks.web_search and not self.added_features.own_search:
            quirks = structs.replace(quirks, web_search=False)
        if self.added_features.max_tools is not None:
            quirks = structs.replace(quirks, max_tools=self.added_features.max_tools)
        return Target(
            provider=self.provider or self._host,
            model=model,
            quirks=quirks,
            window=self.context_window or card.window,
            max_output=measured_output or card.max_output,
            api=api,
            endpoint=self._endpoint,
        )

    @cached_property
    def _chat_urls(self) -> Callable[[str], str]:
        chat = partial(self._address.chat, azure=self.auth == "api-key")
        return lru_cache(maxsize=MAX_MODELS)(chat)

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
    Read the settings of one proxy from *env_file*, or from *environ* if that is None.

    *ports* are the ports of the whole fleet with their labels; the entry's own port is added.

    Raises:
        ConfigError: With every mistake, not only the first.

    """
    env = read_environment(environ or {}) if env_file is None else read_file(env_file, entry=entry)
    config = _load(env, entry, env_file) if env.is_read else None
    if config is not None:
        fleet_ports = {**ports, config.port: config.label}
        rules.check_own_port(env, config.base_url, fleet_ports, host=config.host)
        rules.check_host(env, config.host, config.client_keys)
        rules.check_limits(env, config.min_tokens_limit, config.max_tokens_limit)
        rules.check_budgets(env, config.models, config.client_keys)
    if env_file is not None:
        env.check_names()
        rules.check_port(env, entry)
        rules.check_file(env)
    if env.mistakes or config is None:
        raise ConfigError(sorted(env.mistakes, key=lambda mistake: mistake.line or 0))
    return config


def _load(env: EnvReader, entry: Entry | None, env_file: Path | None) -> WorkerConfig:
    """Read every setting; mistakes are noted in *env*, and the result is then unusable."""
    named = rules.named_preset(env)
    provider, preset, rows = _provider(env, named)
    # A name or a host determines deviations; only a name determines addresses and models.
    model_source = preset if named else generic_preset()
    api_choice = env.read(s.PROVIDER_API)
    api: Api = model_source.api if api_choice == "auto" else api_choice
    api_keys, ranks = provider_keys.api_keys(env, preset)
    return WorkerConfig(
        label=entry.label if entry else "ccproxy",
        host=env.read(s.HOST),
        port=entry.port if entry else env.read(s.PORT) or 0,
        provider=provider,
        title=preset.title,
        api=api,
        api_by_model=api_choice == "auto",
        base_url=rules.base_url(env, model_source, api),
        auth=preset.native_auth if api == "messages" else preset.auth,
        api_keys=api_keys,
        client_keys=env.read(s.ANTHROPIC_API_KEY),
        pass_client_key=env.read(s.PASS_CLIENT_KEY),
        takes_anthropic_keys=preset.takes_anthropic_keys,
        models=_models(env, preset, model_source, rows, is_named=bool(named)),
        log_level=env.read(s.LOG_LEVEL),
        max_tokens_limit=env.read(s.MAX_TOKENS_LIMIT),
        min_tokens_limit=env.read(s.MIN_TOKENS_LIMIT),
        context_window=env.read(s.CONTEXT_WINDOW),
        request_timeout=env.read(s.REQUEST_TIMEOUT),
        max_retries=env.read(s.MAX_RETRIES),
        early_commit=env.read(s.EARLY_COMMIT),
        upstream_proxy=env.read(s.UPSTREAM_PROXY),
        ca_bundle=rules.ca_bundle(env),
        custom_headers={**preset.headers, **rules.custom_headers(env)},
        azure_api_version=env.read(s.AZURE_API_VERSION),
        env_file=env_file,
        keys_file=provider_keys.keys_file(env),
        allowed_hosts=env.read(s.ALLOWED_HOSTS),
        drain=DrainTimes(delay=env.read(s.DRAIN_DELAY), timeout=env.read(s.DRAIN_TIMEOUT)),
        gateway=read_gateway(env),
        max_connections=env.read(s.MAX_CONNECTIONS),
        key_limits=_key_limits(env),
        key_policy=provider_keys.key_policy(env, ranks),
        fallback_hold=env.read(s.FALLBACK_HOLD),
        key_wait=env.read(s.KEY_WAIT),
        tool_filter=env.read(s.TOOL_FILTER),
        history=env.read(s.HISTORY),
        admin_api=env.read(s.ADMIN_API),
        inspect=env.read(s.INSPECT),
        transparent_url=env.read(s.TRANSPARENT_URL) or bypass_url(),
        price_guard=env.read(s.PRICE_GUARD),
        accounts=_accounts(env, preset if named else None),
        budgets=(*env.read(s.BUDGET), *env.read(s.CLIENT_BUDGETS)),
        long_context_threshold=env.read(s.LONG_CONTEXT_THRESHOLD),
        services=read_services(env),
        added_features=read_added_features(env, provider),
    )


def _provider(env: EnvReader, named: str | None) -> tuple[str, Preset, Mapping[str, ModelFacts]]:
    """Return the name of the preset, the preset for the account's endpoint, and its models."""
    provider = named or _recognized_preset(env)
    preset = load_presets()[provider] if provider else generic_preset()
    endpoint = rules.endpoint_of(env, preset) if named else rules.no_endpoint(env)
    rows = provider_rows(provider, endpoint)
    return endpoint.preset or provider, preset.at(endpoint), rows


def _key_limits(env: EnvReader) -> KeyLimits:
    return KeyLimits(
        in_flight=env.read(s.KEY_MAX_IN_FLIGHT),
        per_minute=env.read(s.KEY_PER_MINUTE),
        per_day=env.read(s.KEY_PER_DAY),
    )


def _accounts(env: EnvReader, preset: Preset | None) -> AccountSettings:
    check = env.read(s.ACCOUNT_CHECK)
    host = urlsplit(preset.base_url).hostname if preset and check == "on" else None
    return AccountSettings(check=check, host=host or "", interval=env.read(s.ACCOUNT_INTERVAL))


def _recognized_preset(env: EnvReader) -> str:
    """Return the preset if PROVIDER is not set, by Azure's own setting or the base URL's host."""
    if env.value(s.AZURE_API_VERSION):
        return preset_for_auth("api-key")
    value = env.value(s.PROVIDER_BASE_URL)
    try:
        host = urlsplit(value.text.strip() if value else generic_preset().base_url).hostname
    except ValueError:  # noted when the setting is read
        return ""
    return preset_for_host(host or "")


def _models(
    env: EnvReader,
    preset: Preset,
    source: Preset,
    rows: Mapping[str, ModelFacts],
    *,
    is_named: bool,
) -> ModelMap:
    """Return the models: tiers and name patterns of *source*, model cards of *preset*."""
    big = env.read(s.BIG_MODEL) or source.big
    middle = env.read(s.MIDDLE_MODEL) or source.middle
    small = env.read(s.SMALL_MODEL) or source.small
    patterns = env.read(s.PASS_MODELS)
    auto_cache = env.read(s.AUTO_CACHE)
    cards = (*preset.cards(), preset.unknown())
    if auto_cache is not None:
        cards = tuple(with_auto_cache(card, on=auto_cache) for card in cards)
    if extra := env.read(s.EXTRA_BODY):
        cards = tuple(with_extra_body(card, extra) for card in cards)
    # A preset without models sends the client's names, even for tiers that the user left out.
    other = big if source.big else None
    return ModelMap(
        big=big,
        middle=middle or other,
        small=small or other,
        pass_patterns=source.pass_models if patterns is None else patterns,
        cards=cards[:-1],
        unknown=cards[-1],
        rows=rows,
        passes_rows=patterns is None and is_named,
        prices=env.read(s.PRICES),
    )
