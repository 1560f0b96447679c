"""
The env files of the claude-code-proxy family.

Most names are the same as in ccproxy. `names.toml` maps other names; the rest are left out.
"""

from __future__ import annotations

import io
import re

from dotenv.parser import parse_stream

from ccproxy.cli.importers.builder import ImportBuilder, names, provider_settings
from ccproxy.cli.importers.document import failure
from ccproxy.config import settings as s
from ccproxy.text import counted, did_you_mean

TOOL = "an env file"
_PREFERENCE = "PREFERRED_PROVIDER"
_PLACES = {
    s.HOST.name: "an entry listens on 127.0.0.1; HOST in its env file changes that",
    s.PORT.name: "the port is set in ccproxy.toml",
}


def import_env_settings(text: str, build: ImportBuilder) -> None:
    """Import the variables in the *text* of an env file as one proxy."""
    build.tool = TOOL
    values = _values_in(text, build)
    preferences = names("preferred_providers")
    preferred = preferences.get(values.get(_PREFERENCE, "").strip().lower(), {})
    used = {_PREFERENCE, *(one["key"] for one in preferences.values())} if preferred else set()
    settings: dict[str, str] = {}
    for name, value in values.items():
        if name not in used:
            _import_variable(name, value.strip(), settings, build)
    key = (
        values.get(preferred["key"], "") if preferred else settings.pop(s.PROVIDER_API_KEY.name, "")
    )
    address = settings.pop(s.PROVIDER_BASE_URL.name, "")
    try:
        provider = provider_settings(address) if address else {}
    except ValueError as error:
        text = f"{s.PROVIDER_BASE_URL.name} {error}"
        raise failure(build.file, text, "correct it in the file") from error
    if preferred and not address:
        provider = {s.PROVIDER.name: preferred["preset"]}
    settings = {**provider, **settings}
    if not (address or key or s.PROVIDER.name in settings):
        fix = "set OPENAI_API_KEY and OPENAI_BASE_URL in it"
        raise failure(build.file, "names no provider", fix)
    if preferred:
        settings = {name: _plain(value) for name, value in settings.items()}
        for other in preferences.values():
            if other != preferred and other["key"] in values:
                build.leave_out(other["key"], f"{_PREFERENCE} selects another provider")
    build.add(settings.get(s.PROVIDER.name) or "imported", settings, key=key)


def _values_in(text: str, build: ImportBuilder) -> dict[str, str]:
    """Return the variables in the *text* of an env file; empty ones are left out."""
    # python-dotenv takes quadratic time on a long run of blanks.
    text = re.sub(r"[ \t]{100,}", " ", text)
    bindings = list(parse_stream(io.StringIO(text)))
    if broken := [one for one in bindings if one.error]:
        lines = counted(len(broken), "line")
        build.leave_out(lines, f"not NAME=value, the first at line {broken[0].original.line}")
    values = {one.key: one.value for one in bindings if one.key}
    return {name: value for name, value in values.items() if value and value.strip()}


def _import_variable(name: str, value: str, settings: dict[str, str], build: ImportBuilder) -> None:
    """Add a variable to *settings* if ccproxy has it under this or another name."""
    target = names("env_settings").get(name, name)
    setting = next((one for one in s.SETTINGS if target in one.names), None)
    if reason := _PLACES.get(target):
        build.leave_out(name, reason)
    elif name.startswith(s.HEADER_PREFIX):
        settings[name] = value
    elif setting is None:
        hint = did_you_mean(name, s.NAMES)
        build.leave_out(name, f"ccproxy has no such setting{hint}")
    elif setting in (s.PROVIDER_API_KEY, s.PROVIDER_BASE_URL):
        settings.setdefault(setting.name, value)
    else:
        try:
            setting.parse(value)
        except ValueError as error:
            build.leave_out(name, str(error))
        else:
            settings.setdefault(setting.name, value)


def _plain(value: str) -> str:
    """Return a model's name without LiteLLM's provider prefix."""
    prefix, slash, model = value.partition("/")
    return model if slash and prefix in names("litellm_providers") else value
