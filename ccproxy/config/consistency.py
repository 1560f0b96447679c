"""
Checks that involve more than one setting.

Each function reads the settings it needs and notes mistakes. After a mistake, its return value is
meaningless; loading fails anyway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ccproxy.config import settings as s
from ccproxy.config.fleet import Entry
from ccproxy.config.parsers import is_loopback
from ccproxy.config.reader import EnvReader, Value, is_open_to_others
from ccproxy.files import display_path, read_regular
from ccproxy.keys.budgets import EVERY_CLIENT, TOKENS
from ccproxy.protocol.headers import is_framing_header, is_header_name, is_header_value
from ccproxy.providers.presets import Endpoint, Preset, load_presets
from ccproxy.providers.pricing import CURRENCY
from ccproxy.providers.quirks import Api
from ccproxy.routing.tiers import ModelMap
from ccproxy.text import did_you_mean, mask_key

MIN_PUBLIC_KEY_LENGTH = 16
"""Minimum number of characters of a client key on an address that others can reach (CWE-306)."""

_REGIONS = {"cn": "china", "intl": "international", "global": "international"}
"""Short names of regions."""

SECRET_NAME = re.compile(r"auth|cookie|key|secret|token|password", re.IGNORECASE)
"""The words that occur in the names of headers with credentials."""
_PASSWORD = re.compile(r"(?!unix:///).*@|.*password=", re.IGNORECASE)
"""An address that may contain a password; a @ in the path of a socket does not begin one."""


def named_preset(env: EnvReader) -> str | None:
    """Return the preset that PROVIDER names, or None if it is not set or unknown."""
    name = env.read(s.PROVIDER)
    value = env.value(s.PROVIDER)
    if value is None:
        return None
    names = load_presets()
    if name in names:
        return name
    hint = did_you_mean(name, names)
    text = f'PROVIDER must be the name of a preset, got "{value.text.strip()}"{hint}'
    env.note(value, text, fix=f"choose one of {', '.join(names)}, or remove it")
    return None


def base_url(env: EnvReader, preset: Preset, api: Api) -> str:
    """Return the provider's address: the user's, otherwise the preset's for *api*."""
    if value := env.value(s.PROVIDER_BASE_URL):
        url = env.read(s.PROVIDER_BASE_URL)
        _check_endpoint(env, value, url, api)
        return url
    default = preset.native_url if api == "messages" else preset.base_url
    if not default:
        kind = "Messages endpoint" if api == "messages" else "address"
        env.note_absence(
            s.PROVIDER_BASE_URL,
            f"{preset.title} has no known {kind}",
            near=_first(env, s.PROVIDER_API, s.PROVIDER),
            example=preset.example_url or s.PROVIDER_BASE_URL.example,
        )
    return default


def endpoint_of(env: EnvReader, preset: Preset) -> Endpoint:
    """Return the preset's endpoint for the region and plan of the account."""
    region, plan = env.read(s.PROVIDER_REGION), env.read(s.PROVIDER_PLAN)
    region = _REGIONS.get(region, region)
    default = preset.endpoints[0] if preset.endpoints else Endpoint(name="")
    if not region and not plan:
        return default
    names = [f"{region}-{plan}" if region and plan else region or plan]
    if region == default.name:
        names.append(plan)
    by_name = {endpoint.name: endpoint for endpoint in preset.endpoints}
    for name in names:
        for full_name in (name, f"{name}-plan"):
            if full_name in by_name:
                return by_name[full_name]
    value = env.value(s.PROVIDER_PLAN) or env.value(s.PROVIDER_REGION)
    settings = [
        name for name, text in (("PROVIDER_REGION", region), ("PROVIDER_PLAN", plan)) if text
    ]
    text = f'{" and ".join(settings)}: {preset.title} has no address "{names[0]}"'
    if by_name:
        text += did_you_mean(names[0], by_name)
        fix = f"use one of {', '.join(by_name)}, or set PROVIDER_BASE_URL"
    else:
        fix = "remove it, or set PROVIDER_BASE_URL"
    env.note(value, text, fix=fix)
    return default


def no_endpoint(env: EnvReader) -> Endpoint:
    """Return the endpoint of a server without a preset, which has no regions or plans."""
    for setting in (s.PROVIDER_REGION, s.PROVIDER_PLAN):
        value = env.value(setting)
        if value is not None and env.value(s.PROVIDER) is None:
            text = f"{setting.name} has no effect without PROVIDER"
            env.note(value, text, fix="set PROVIDER to the name of the preset, or remove this line")
    return Endpoint(name="")


def _check_endpoint(env: EnvReader, value: Value, url: str, api: Api) -> None:
    """Check that the base URL is not an endpoint of an API other than *api*."""
    try:
        path = urlsplit(url).path.rstrip("/").lower()
    except ValueError:
        return
    if api != "messages" and path.endswith(("/anthropic", "/anthropic/v1", "/v1/messages")):
        text = f'{value.name} "{url}" is an endpoint of the Messages API, but PROVIDER_API is {api}'
        fix = "set PROVIDER_API=messages, or write the address of the OpenAI-compatible endpoint"
        env.note(value, text, fix=fix)
    elif api == "messages" and path.endswith(("/chat/completions", "/responses")):
        text = f'{value.name} "{url}" is not a Messages API endpoint, but PROVIDER_API is messages'
        fix = "set PROVIDER_API=chat, or write the address of the Messages endpoint"
        env.note(value, text, fix=fix)


def custom_headers(env: EnvReader) -> dict[str, str]:
    """Return the user's headers, keyed by the names under which they are sent."""
    headers: dict[str, str] = {}
    for value in env.prefixed(s.HEADER_PREFIX):
        suffix = value.name.removeprefix(s.HEADER_PREFIX)
        name = "-".join(part.capitalize() for part in suffix.split("_"))
        if not suffix or not is_header_name(name):
            text = f"{value.name} does not name a header: only letters, digits and _ may follow"
            env.note(value, text, fix=f"for example, write {s.HEADER_PREFIX}X_TEAM=blue")
        elif is_framing_header(name):
            text = f"{value.name} is not allowed: {name} is a header of the connection"
            env.note(value, text, fix="remove it")
        elif not is_header_value(value.text):
            text = f"{value.name} contains a line break or another control character"
            env.note(value, text, fix="write its value on one line")
        else:
            headers[name] = value.text
    return headers


def ca_bundle(env: EnvReader) -> Path | None:
    """Return the user's file of trusted certificate authorities, or None if it is not set."""
    path_text = env.read(s.CA_BUNDLE)
    return None if path_text is None else checked_bundle(env, s.CA_BUNDLE, path_text)


def checked_bundle(env: EnvReader, setting: s.Setting[Any, Any], path_text: str) -> Path:
    """Return the path of the CA bundle that *setting* names; note a mistake if it is not one."""
    path = env.path(path_text)
    if problem := _bundle_problem(path, path_text):
        text, fix = problem
        env.note(env.value(setting), f"{setting.name} {text}", fix=fix)
    return path


def _bundle_problem(path: Path, path_text: str) -> tuple[str, str] | None:
    """Return why the file *path* is not a CA bundle, and the fix, or None if it is one."""
    try:
        content = read_regular(path, encoding="latin-1")
    except FileNotFoundError:
        text = f'must be a file of certificates, got "{path_text}"'
        return text, "correct the path, or remove it"
    except OSError as error:
        text = f'"{path_text}" cannot be read: {error.strerror}'
        return text, "name a readable file, or remove it"
    if "PRIVATE KEY-----" in content:
        text = f'"{path_text}" contains a private key'
        return text, "keep only the certificates in it"
    import ssl  # takes 15 ms to import, and few users have their own file

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        if error.reason == "NO_CERTIFICATE_OR_CRL_FOUND":
            text = f'"{path_text}" contains no certificate'
            return text, "save the authority's certificate as PEM text: -----BEGIN CERTIFICATE-----"
        return f'"{path_text}" is truncated or damaged', "save the complete file again"
    return None


def check_limits(env: EnvReader, minimum: int | None, maximum: int | None) -> None:
    """Check that the lower bound of max_tokens is not above the upper bound."""
    if minimum is not None and maximum is not None and minimum > maximum:
        text = f"MIN_TOKENS_LIMIT is {minimum}, above MAX_TOKENS_LIMIT, which is {maximum}"
        env.note(
            env.value(s.MIN_TOKENS_LIMIT),
            text,
            fix="lower MIN_TOKENS_LIMIT, or raise MAX_TOKENS_LIMIT",
        )


def check_budgets(env: EnvReader, models: ModelMap, client_keys: tuple[str, ...]) -> None:
    """Check that each budget can be enforced: its prices are known, and its client keys exist."""
    unpriced = next((name for name in models.tiers() if models.price(name) is None), None)
    for setting in (s.BUDGET, s.CLIENT_BUDGETS):
        if env.value(setting) is None:
            continue
        for budget in env.read(setting):
            if budget.unit not in (TOKENS, CURRENCY):
                text = f"{setting.name} is in {budget.unit}, but prices are in {CURRENCY}"
                fix = f"set the budget in {CURRENCY} or in tokens"
                env.note(env.value(setting), text, fix=fix)
                break
            if budget.unit != TOKENS and unpriced is not None:
                text = f"{setting.name} is in {budget.unit}, but the price of {unpriced} is unknown"
                fix = f"set PRICES={unpriced}=INPUT/OUTPUT, or set the budget in tokens"
                env.note(env.value(setting), text, fix=fix)
                break
    for name in dict.fromkeys(budget.client for budget in env.read(s.CLIENT_BUDGETS)):
        matches = [key for key in client_keys if name == EVERY_CLIENT or key.endswith(name)]
        if not matches or (name != EVERY_CLIENT and len(matches) > 1):
            count = "no client key" if not matches else f"{len(matches)} client keys"
            text = f"CLIENT_BUDGETS: found {count} in ANTHROPIC_API_KEY ending in {name}"
            if name == EVERY_CLIENT:
                text = "CLIENT_BUDGETS has no effect without client keys"
            fix = "identify one key of ANTHROPIC_API_KEY by its last 4 to 8 characters"
            env.note(env.value(s.CLIENT_BUDGETS), text, fix=fix)


def check_host(env: EnvReader, host: str, client_keys: tuple[str, ...]) -> None:
    """Check that a proxy on an address that others can reach requires client keys."""
    if env.read(s.ALLOW_PUBLIC) or is_loopback(host):
        return
    host_value = env.value(s.HOST)
    opt_in = "or set ALLOW_PUBLIC=on if everyone may use your keys"
    value = env.value(s.ANTHROPIC_API_KEY)
    if value is None and env.is_whole and env.value(s.USERS) is None:
        text = f'HOST "{host}" can be reached by others, but no client key is required'
        env.note(host_value, text, fix=f"set ANTHROPIC_API_KEY to a long random string, {opt_in}")
    for key in client_keys:
        if len(key) < MIN_PUBLIC_KEY_LENGTH:
            text = f'ANTHROPIC_API_KEY ({mask_key(key)}) is too short for HOST "{host}"'
            fix = f"use at least {MIN_PUBLIC_KEY_LENGTH} characters, {opt_in}"
            env.note(value, text, fix=fix)


def check_own_port(env: EnvReader, base_url: str, own: Mapping[int, str], *, host: str) -> None:
    """Check that the provider is not a proxy of this fleet, which would create a loop."""
    split = urlsplit(base_url)
    name, port = split.hostname or "", split.port or 0
    if port in own and (is_loopback(name) or name in (host, "0.0.0.0", "::")):  # noqa: S104
        text = (
            f'PROVIDER_BASE_URL must not be the address of the proxy {own[port]}, got "{base_url}"'
        )
        fix = "write the address of the provider itself"
        env.note(env.value(s.PROVIDER_BASE_URL), text, fix=fix)


def check_port(env: EnvReader, entry: Entry | None) -> None:
    """Check that PORT, if set, is the port in the table."""
    port = env.read(s.PORT)
    if entry is None or entry.table is None or port is None or port == entry.port:
        return
    text = (
        f"PORT is {port} here, but {entry.label} has port {entry.port} in the table"
        f"\n      {display_path(env.file)}:{_line(env.value(s.PORT))}   PORT={port}"
        f"\n      {display_path(entry.table)}:{entry.line}   {entry.port}:…:{entry.label}"
    )
    env.note(env.value(s.PORT), text, fix="remove PORT; the port in the table is used")


def check_file(env: EnvReader) -> None:
    """Check that a file with keys is readable only by its owner (CWE-732)."""
    if _contains_secret(env) and is_open_to_others(env.file):
        text = "contains a key and is readable by other users"
        fix = f"chmod 600 {display_path(env.file)}"
        env.note(None, text, fix=fix, is_exposed_file=True)


def _contains_secret(env: EnvReader) -> bool:
    headers = [value.name for value in env.prefixed(s.HEADER_PREFIX) if value.text]
    secrets = [setting for setting in s.SETTINGS if setting.is_secret]
    addresses = filter(None, map(env.value, (s.REDIS_URL, s.UPSTREAM_PROXY)))
    return (
        _first(env, *secrets) is not None
        or any(_PASSWORD.match(address.text.strip()) for address in addresses)
        or any(map(SECRET_NAME.search, headers))
    )


def _first(env: EnvReader, *settings: s.Setting[Any, Any]) -> Value | None:
    return next((value for setting in settings if (value := env.value(setting))), None)


def _line(value: Value | None) -> int | str:
    return (value.line if value else None) or ""
