"""
claude-code-router: its config.json, which later versions store in a database.

`Providers` become entries. `Router` names a provider and a model for each kind of request; it
becomes the routing rules of the default provider's entry, which receives all requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ccproxy.cli.importers.builder import (
    ImportBuilder,
    names,
    provider_settings,
    same_models,
    table_of,
    text_of,
    texts_of,
    timeout_setting,
)
from ccproxy.cli.importers.document import failure
from ccproxy.config import settings as s

TOOL = "claude-code-router"
_RULES = {
    "background": "background",
    "think": "thinking",
    "webSearch": "web_search",
    "image": "image",
}
_ROUTER_KEYS = (*_RULES, "default", "longContext", "longContextThreshold", "fallback")
_TOP_KEYS = (
    *("Providers", "providers", "Router", "router", "APIKEY", "PROXY_URL", "API_TIMEOUT_MS"),
    "fallback",
)
_PROVIDER_KEYS = (
    *("name", "api_base_url", "baseUrl", "baseurl", "api_key", "apiKey", "apikey"),
    *("models", "transformer", "enabled"),
)
_ROUTER_REASON = "ccproxy has no such rule: see [routes.LABEL] in the routing documentation"
_REASONS = {
    "HOST": "an entry listens on 127.0.0.1; HOST in its env file changes that",
    "PORT": "each entry has its own port",
    "LOG": "ccproxy always keeps logs; to read them, run ccproxy logs",
    "LOG_LEVEL": "set LOG_LEVEL in each env file instead",
    "CUSTOM_ROUTER_PATH": "it names a program; use [routes.LABEL] and [routes.LABEL.agents]",
    "REWRITE_SYSTEM_PROMPT": "ccproxy does not change the system prompt",
    "StatusLine": "ccproxy has its own status line: ccproxy statusline --install",
    "NON_INTERACTIVE_MODE": "not needed",
    "transformers": "they are programs of claude-code-router",
}


@dataclass(frozen=True, slots=True)
class _Target:
    """`PROVIDER,MODEL` of a route."""

    provider: str
    model: str

    @classmethod
    def parse(cls, value: object) -> _Target | None:
        provider, comma, model = (value if isinstance(value, str) else "").partition(",")
        return cls(provider.strip(), model.strip()) if comma and model.strip() else None


def import_router_config(document: Mapping[str, Any], build: ImportBuilder) -> None:
    """Import a config.json."""
    build.tool = TOOL
    providers = document.get("Providers", document.get("providers"))
    if not isinstance(providers, list):
        fix = "pass the config.json of claude-code-router"
        raise failure(build.file, "has no list of Providers", fix)
    router = table_of(document, "Router", "router")
    targets = {rule: target for rule in router if (target := _Target.parse(router[rule]))}
    labels: dict[str, str] = {}
    for number, provider in enumerate(providers, 1):
        if not isinstance(provider, dict):
            build.leave_out(f"provider {number}", "it is not an object")
        elif provider.get("enabled") is False:
            build.leave_out(text_of(provider, "name") or f"provider {number}", "it is disabled")
        else:
            name = text_of(provider, "name") or f"provider-{number}"
            common = _common_settings(document, build)
            labels[name] = _import_provider(name, provider, targets, common, build)
    default = targets.get("default")
    home = labels.get(default.provider, "") if default else ""
    build.route(home, dict(_routes(router, targets, labels, build)))
    build.fall_back(home, _fallbacks(document, router, labels))
    build.leave_out_rest(document, _TOP_KEYS, _REASONS)
    reasons = dict.fromkeys(router, _ROUTER_REASON)
    build.leave_out_rest(router, _ROUTER_KEYS, reasons, path="Router.")


def _common_settings(document: Mapping[str, Any], build: ImportBuilder) -> dict[str, str]:
    """Return the file's global settings, which apply to every entry."""
    values = {
        s.ANTHROPIC_API_KEY.name: text_of(document, "APIKEY"),
        s.UPSTREAM_PROXY.name: text_of(document, "PROXY_URL"),
    }
    try:
        values |= timeout_setting(text_of(document, "API_TIMEOUT_MS"))
    except ValueError:
        build.leave_out("API_TIMEOUT_MS", "it is not a number")
    return {name: value for name, value in values.items() if value}


def _import_provider(
    name: str,
    provider: Mapping[str, Any],
    targets: Mapping[str, _Target],
    common: Mapping[str, str],
    build: ImportBuilder,
) -> str:
    """Add one of the Providers; return its label, or "" if it was left out."""
    transformers = dict(_transformers(provider, name, build))
    transformer_names = names("router_transformers")
    models = texts_of(provider.get("models"))
    big = _model_for("default", name, targets) or next(iter(models), "")
    small = _model_for("background", name, targets) or big
    try:
        settings = {
            **common,
            **provider_settings(
                text_of(provider, "api_base_url", "baseUrl", "baseurl"),
                api="messages" if transformers.keys() & {*transformer_names["messages"]} else "",
                own_api=bool(transformers.keys() & {*transformer_names["own_api"]}),
            ),
            **same_models(big),
        }
    except ValueError as error:
        build.leave_out(name, f"api_base_url {error}")
        return ""
    if small:
        settings[s.SMALL_MODEL.name] = small
    limit = text_of(transformers.get("maxtoken", {}), "max_tokens")
    if limit:
        settings[s.MAX_TOKENS_LIMIT.name] = limit
    body = {**transformers.get("customparams", {})}
    for options in transformers.values():
        if routing := table_of(options, "provider"):
            body["provider"] = routing
    if body:
        settings[s.EXTRA_BODY.name] = json.dumps(body, ensure_ascii=False)
    build.leave_out_rest(provider, _PROVIDER_KEYS, {}, path=f"{name}.")
    keys = texts_of(
        next((provider[one] for one in ("api_key", "apiKey", "apikey") if one in provider), "")
    )
    routed = [target.model for target in targets.values() if target.provider == name]
    return build.add(name, settings, key=",".join(keys), models=(*models, *routed))


def _model_for(rule: str, provider: str, targets: Mapping[str, _Target]) -> str:
    target = targets.get(rule)
    return target.model if target is not None and target.provider == provider else ""


def _transformers(
    provider: Mapping[str, Any], name: str, build: ImportBuilder
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a provider's transformers with their options, except those of individual models."""
    table = table_of(provider, "transformer")
    transformer_names = names("router_transformers")
    needless = {*transformer_names["conversion"], *transformer_names["messages"]}
    for key, value in table.items():
        used = value if key == "use" else table_of(table, key).get("use")
        for item in used if isinstance(used, list) else ():
            parts = item if isinstance(item, list) else [item]
            transformer = str(parts[0]) if parts else ""
            options = parts[1] if len(parts) > 1 and isinstance(parts[1], dict) else {}
            lower = transformer.lower()
            if key == "use" and lower in (*needless, "maxtoken", "customparams"):
                yield lower, options
            elif lower not in needless:
                where = f"{name}: transformer {transformer}"
                reason = "ccproxy has no such transformer"
                if key != "use":
                    where, reason = (
                        f"{where} of {key}",
                        "settings apply to a whole entry, not to a single model",
                    )
                build.leave_out(where, reason)


def _routes(
    router: Mapping[str, Any],
    targets: Mapping[str, _Target],
    labels: Mapping[str, str],
    build: ImportBuilder,
) -> Iterator[tuple[str, str | dict[str, str | int]]]:
    """Yield the routing rules of the default provider's entry."""
    for rule in (*_RULES, "longContext"):
        target = targets.get(rule)
        if target is None:
            if router.get(rule):
                build.leave_out(f"Router.{rule}", "it is not PROVIDER,MODEL")
            continue
        label = labels.get(target.provider, "")
        if not label:
            build.leave_out(f"Router.{rule}", f"{target.provider} was not imported")
            continue
        model = f"{label}:{target.model}"
        if rule in _RULES:
            yield _RULES[rule], model
            continue
        over = router.get("longContextThreshold", 60000)
        yield (
            "long_context",
            {"over": over if type(over) is int and over > 0 else 60000, "model": model},
        )


def _fallbacks(
    document: Mapping[str, Any], router: Mapping[str, Any], labels: Mapping[str, str]
) -> list[str]:
    chains = (router.get("fallback"), table_of(document, "fallback").get("default"))
    targets = [_Target.parse(text) for chain in chains for text in texts_of(chain)]
    return [labels.get(target.provider, "") for target in targets if target is not None]
