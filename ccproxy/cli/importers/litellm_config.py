"""
LiteLLM: the config.yaml of its proxy.

A deployment (an item of `model_list`) names a provider, model, address and key. Deployments with
the same address and key become one entry, and so do deployments of the same models with several
keys.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ccproxy.cli.importers.builder import (
    ImportBuilder,
    header_settings,
    names,
    provider_settings,
    table_of,
    text_of,
    texts_of,
)
from ccproxy.cli.importers.document import failure
from ccproxy.config import settings as s
from ccproxy.routing.tiers import tier_named_in

TOOL = "LiteLLM"
_PARAMETERS = (
    *("model", "api_base", "base_url", "api_key", "api_version", "custom_llm_provider"),
    *("max_tokens", "rpm", "timeout", "num_retries", "extra_headers"),
)
_SECTIONS = ("model_list", "litellm_settings", "router_settings", "general_settings")
_SETTINGS = (
    *("fallbacks", "num_retries", "request_timeout", "timeout"),
    *("master_key", "drop_params", "set_verbose"),
)
_REASONS = {
    "environment_variables": "only keys are imported; set the rest in ccproxy's environment",
    "model_group_alias": "in ccproxy, a model is addressed as LABEL:model; see ccproxy switch",
    "routing_strategy": "the keys of an entry take turns; KEY_STRATEGY changes that",
    "context_window_fallbacks": "set long_context below [routes.LABEL]",
    "default_fallbacks": "set [fallback] in ccproxy.toml",
    "database_url": "ccproxy keeps its statistics in its own files",
    "success_callback": "to follow what happens in the fleet, see ccproxy events",
    "failure_callback": "to follow what happens in the fleet, see ccproxy events",
    "callbacks": "to follow what happens in the fleet, see ccproxy events",
    "cache": "providers cache prompts; ccproxy itself does not cache answers",
    "cache_params": "providers cache prompts; ccproxy itself does not cache answers",
    "guardrails": "ccproxy has no guardrails",
}


@dataclass(slots=True, kw_only=True)
class _Group:
    """Deployments that become one entry."""

    name: str
    settings: dict[str, str] = field(repr=False)
    keys: list[str] = field(repr=False)
    models: dict[str, str] = field(default_factory=dict)
    """The names that clients send, by the provider's model."""


def import_litellm_config(document: Mapping[str, Any], build: ImportBuilder) -> None:
    """Import a config.yaml."""
    build.tool = TOOL
    deployments = document.get("model_list")
    if not isinstance(deployments, list):
        fix = "pass the config.yaml of LiteLLM's proxy"
        raise failure(build.file, "has no model_list", fix)
    variables = table_of(document, "environment_variables")
    build.environ = {**{str(one): str(value) for one, value in variables.items()}, **build.environ}
    common = dict(_common_settings(document))
    groups: dict[tuple[object, ...], _Group] = {}
    for number, deployment in enumerate(deployments, 1):
        if not isinstance(deployment, dict):
            build.leave_out(f"deployment {number}", "it is not a mapping")
        else:
            _add_deployment(deployment, groups, build)
    labels: defaultdict[str, list[str]] = defaultdict(list)
    for group in _merged(groups.values()):
        settings = {**common, **group.settings, **_tiers(group)}
        label = build.add(group.name, settings, key=",".join(group.keys), models=[*group.models])
        for name in group.models.values():
            labels[name].append(label)
        _note_names(group, label, build)
    for name, others in _fallbacks(document):
        for label in labels[name]:
            build.fall_back(label, [one for other in others for one in labels[other]])
    for section in _SECTIONS[1:]:
        build.leave_out_rest(table_of(document, section), _SETTINGS, _REASONS)
    build.leave_out_rest(document, _SECTIONS, _REASONS)


def _common_settings(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings for every entry."""
    if key := text_of(table_of(document, "general_settings"), "master_key"):
        yield s.ANTHROPIC_API_KEY.name, key
    for section in ("router_settings", "litellm_settings"):
        table = table_of(document, section)
        if timeout := text_of(table, "request_timeout", "timeout"):
            yield s.REQUEST_TIMEOUT.name, timeout
        if retries := text_of(table, "num_retries"):
            yield s.MAX_RETRIES.name, retries


def _add_deployment(
    deployment: Mapping[str, Any], groups: dict[tuple[object, ...], _Group], build: ImportBuilder
) -> None:
    """Add a deployment to the group of its address and key."""
    parameters = table_of(deployment, "litellm_params")
    name = text_of(deployment, "model_name")
    prefix, slash, model = text_of(parameters, "model").partition("/")
    if text_of(parameters, "custom_llm_provider") or not slash:
        model = f"{prefix}{slash}{model}"
        prefix = text_of(parameters, "custom_llm_provider") or "openai"
    what = name or model or "a deployment"
    mode = text_of(table_of(deployment, "model_info"), "mode")
    if mode not in ("", "chat", "responses", "completion"):
        build.leave_out(what, f"its mode is {mode}; Claude Code needs chat models")
        return
    if reason := names("litellm_logins").get(prefix):
        build.leave_out(what, reason)
        return
    try:
        settings = _settings_of(prefix, parameters, mode)
    except ValueError as error:
        build.leave_out(what, str(error))
        return
    build.leave_out_rest(parameters, _PARAMETERS, {}, path=f"{what}: ")
    key = _key_of(prefix, parameters)
    group = groups.setdefault(
        (*sorted(settings.items()), key), _Group(name=prefix, settings=settings, keys=[key])
    )
    if model and "*" not in model:
        group.models.setdefault(model, name)


def _settings_of(prefix: str, parameters: Mapping[str, Any], mode: str) -> dict[str, str]:
    """
    Return the settings of a deployment, without its key or models.

    Raises:
        ValueError: If ccproxy does not support the provider, or its address is not valid.
    """
    preset = names("litellm_providers").get(prefix, "")
    address = text_of(parameters, "api_base", "base_url")
    settings = {s.PROVIDER.name: preset} if preset else {}
    if address and not address.startswith("os.environ/"):
        settings |= provider_settings(address)
    elif not preset:
        raise ValueError(f'the provider "{prefix}" has no preset, and api_base is not set')
    if version := text_of(parameters, "api_version"):
        settings[s.AZURE_API_VERSION.name] = version
    for setting, name in (
        (s.MAX_TOKENS_LIMIT, "max_tokens"),
        (s.KEY_PER_MINUTE, "rpm"),
        (s.REQUEST_TIMEOUT, "timeout"),
        (s.MAX_RETRIES, "num_retries"),
    ):
        if value := text_of(parameters, name):
            settings[setting.name] = value
    settings |= header_settings(parameters.get("extra_headers") or {})
    return {**settings, **({s.PROVIDER_API.name: mode} if mode == "responses" else {})}


def _key_of(prefix: str, parameters: Mapping[str, Any]) -> str:
    """Return the key, or a reference to the variable from which LiteLLM reads it."""
    variable = names("litellm_keys").get(prefix, f"{prefix.upper()}_API_KEY")
    return text_of(parameters, "api_key") or f"os.environ/{variable}"


def _merged(groups: Iterable[_Group]) -> list[_Group]:
    """Return the groups, merging those that differ only in their key."""
    merged: dict[tuple[object, ...], _Group] = {}
    for group in groups:
        identity = (*sorted(group.settings.items()), *sorted(group.models.items()))
        first = merged.setdefault(identity, group)
        # One value in an env file cannot refer to two variables.
        if first is not group and not any("/" in key for key in (*first.keys, *group.keys)):
            first.keys += group.keys
        elif first is not group:
            merged[(*identity, *group.keys)] = group
    return [*merged.values()]


def _tiers(group: _Group) -> dict[str, str]:
    """Return the model of each tier: the one with the tier's name, else the first one."""
    if not group.models:
        return {}
    tiers: dict[str, str] = {}
    for model, name in group.models.items():
        if "claude" in name.lower():
            tiers.setdefault(tier_named_in(name), model)
    first = next(iter(group.models))
    big = tiers.get("big") or tiers.get("middle") or first
    return {
        s.BIG_MODEL.name: big,
        s.MIDDLE_MODEL.name: tiers.get("middle") or big,
        s.SMALL_MODEL.name: tiers.get("small") or big,
    }


def _note_names(group: _Group, label: str, build: ImportBuilder) -> None:
    """Record the names that clients use for the models."""
    for model, name in group.models.items():
        if label and name not in ("", model) and "claude" not in name.lower():
            build.leave_out(f"the name {name}", f"the model is {label}:{model} in ccproxy")


def _fallbacks(document: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for section in ("litellm_settings", "router_settings"):
        chains = table_of(document, section).get("fallbacks")
        for chain in chains if isinstance(chains, list) else ():
            for name, others in chain.items() if isinstance(chain, dict) else ():
                yield str(name), texts_of(others)
