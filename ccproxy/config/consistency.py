"""
What settings mean together: rules that look at more than one of them.

Each function reads what it needs, notes what is wrong and returns a value that is of no use then.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from ccproxy.config import settings as s
from ccproxy.config.fleet import Entry, shown
from ccproxy.config.parsers import is_loopback, masked
from ccproxy.config.reader import EnvReader, Given, is_open_to_others
from ccproxy.protocol.headers import is_framing_header, is_header_name, is_header_value
from ccproxy.providers.presets import Preset, load_presets

SHORTEST_PUBLIC_KEY = 16
"""Characters of a client key on an address that others can reach (CWE-306)."""

_SECRET_WORDS = ("AUTH", "COOKIE", "KEY", "SECRET", "TOKEN")


def named_preset(env: EnvReader) -> str | None:
    """Return the preset that PROVIDER names; None if none is named or the name is unknown."""
    word = env.read(s.PROVIDER)
    given = env.given(s.PROVIDER)
    if word is None or given is None:
        return None
    names = load_presets()
    if word in names:
        return word
    close = get_close_matches(word, names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    text = f'PROVIDER must be the name of a preset, got "{given.value.strip()}"{hint}'
    env.note(given, text, fix=f"choose one of {', '.join(names)}, or remove it")
    return None


def base_url(env: EnvReader, preset: Preset, api: str) -> str:
    """Return the provider's address: the user's, else the preset's for *api*."""
    if env.given(s.PROVIDER_BASE_URL):
        return env.read(s.PROVIDER_BASE_URL) or ""
    known = preset.native_url if api == "messages" else preset.base_url
    if not known:
        what = "Messages endpoint" if api == "messages" else "address"
        env.note_absence(
            s.PROVIDER_BASE_URL,
            f"no {what} of {preset.title} is known",
            near=_first(env, s.PROVIDER_API, s.PROVIDER),
            value=preset.example_url or s.PROVIDER_BASE_URL.example,
        )
    return known


def api_keys(env: EnvReader, preset: Preset, *, passes: bool) -> tuple[str, ...]:
    """Return the provider's keys; without any, what stands in for one."""
    if env.given(s.PROVIDER_API_KEY):
        return env.read(s.PROVIDER_API_KEY) or ()
    if passes:
        return ()
    if preset.needs_key:
        where = f"; get one at {preset.key_page}" if preset.key_page else ""
        env.note_absence(
            s.PROVIDER_API_KEY,
            f"{preset.title} asks for a key",
            near=_first(env, s.PROVIDER),
            value=f"your key{where}",
        )
    return (preset.placeholder_key,)


def custom_headers(env: EnvReader) -> dict[str, str]:
    """Return the user's own headers, by the names under which they are sent."""
    headers: dict[str, str] = {}
    for given in env.prefixed(s.HEADER_PREFIX):
        written = given.name.removeprefix(s.HEADER_PREFIX)
        name = "-".join(word.capitalize() for word in written.split("_"))
        if not written or not is_header_name(name):
            text = f"{given.name} does not name a header: only letters, digits and _ may follow"
            env.note(given, text, fix=f"write for example {s.HEADER_PREFIX}X_TEAM=blue")
        elif is_framing_header(name):
            text = f"{given.name} is not allowed: {name} belongs to the connection, not to you"
            env.note(given, text, fix="remove it")
        elif not is_header_value(given.value):
            text = f"{given.name} holds a line break or another control sign"
            env.note(given, text, fix="write its value on one line")
        else:
            headers[name] = given.value
    return headers


def ca_bundle(env: EnvReader) -> Path | None:
    """Return the user's file of trusted authorities."""
    written = env.read(s.CA_BUNDLE)
    if written is None:
        return None
    path = env.file.parent / Path(written).expanduser()
    if wrong := _wrong_with_bundle(path, written):
        text, fix = wrong
        env.note(env.given(s.CA_BUNDLE), f"CA_BUNDLE {text}", fix=fix)
    return path.resolve()


def _wrong_with_bundle(path: Path, written: str) -> tuple[str, str] | None:
    """Say why the file at *path* makes nobody trusted, and how to mend it; None if it does."""
    if not path.is_file():
        return f'must be a file of certificates, got "{written}"', "correct the path, or remove it"
    try:
        holds_private_key = b"PRIVATE KEY-----" in path.read_bytes()
    except OSError as error:
        return f'"{written}" cannot be read: {error.strerror}', "make it readable for you"
    if holds_private_key:
        text = f'"{written}" holds a private key, and is for certificates only'
        return text, "leave the certificates in it, and nothing else"
    import ssl  # costs 15 ms, and most users need no file of their own

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        if error.reason == "NO_CERTIFICATE_OR_CRL_FOUND":
            text = f'"{written}" holds no certificate'
            return text, "save the authority's in it, as text: -----BEGIN CERTIFICATE-----"
        return f'"{written}" is cut off or damaged', "save the file again, whole"
    return None


def check_limits(env: EnvReader, least: int | None, most: int | None) -> None:
    """The least number of tokens must not be above the most."""
    if least is not None and most is not None and least > most:
        text = f"MIN_TOKENS_LIMIT is {least}, above MAX_TOKENS_LIMIT, which is {most}"
        env.note(env.given(s.MIN_TOKENS_LIMIT), text, fix="lower it, or raise MAX_TOKENS_LIMIT")


def check_host(env: EnvReader, host: str, client_keys: tuple[str, ...]) -> None:
    """Whoever listens where others reach it asks for a key (DESIGN.md, decision 11)."""
    if env.read(s.ALLOW_PUBLIC) or is_loopback(host):
        return
    where = env.given(s.HOST)
    opt_in = "or ALLOW_PUBLIC=on if everybody may use your keys"
    given = env.given(s.ANTHROPIC_API_KEY)
    if given is None and env.is_whole:
        text = f'HOST "{host}" can be reached by others, and no client key is asked for'
        env.note(where, text, fix=f"set ANTHROPIC_API_KEY to a long random word, {opt_in}")
    for key in client_keys:
        if len(key) < SHORTEST_PUBLIC_KEY:
            text = f'ANTHROPIC_API_KEY ({masked(key)}) is too short for HOST "{host}"'
            fix = f"use at least {SHORTEST_PUBLIC_KEY} characters, {opt_in}"
            env.note(given, text, fix=fix)


def check_own_port(env: EnvReader, base_url: str, own: Mapping[int, str], *, host: str) -> None:
    """A proxy that asks one of this fleet's proxies may ask itself for ever."""
    split = urlsplit(base_url)
    name, port = split.hostname or "", split.port or 0
    if port in own and (is_loopback(name) or name in (host, "0.0.0.0", "::")):  # noqa: S104
        text = f'PROVIDER_BASE_URL is the port of the proxy {own[port]}, got "{base_url}"'
        fix = "write the address of the provider itself"
        env.note(env.given(s.PROVIDER_BASE_URL), text, fix=fix)


def check_port(env: EnvReader, entry: Entry | None) -> None:
    """The table's port is the truth; another one in the env file is a mistake."""
    port = env.read(s.PORT)
    if entry is None or entry.table is None or port is None or port == entry.port:
        return
    text = (
        f"PORT is {port} here, but {entry.label} has port {entry.port} in the table"
        f"\n      {shown(env.file)}:{_line(env.given(s.PORT))}   PORT={port}"
        f"\n      {shown(entry.table)}:{entry.line}   {entry.port}:…:{entry.label}"
    )
    env.note(env.given(s.PORT), text, fix="remove PORT; the table's port counts")


def check_file(env: EnvReader) -> None:
    """A file that holds a key is its owner's alone (CWE-732)."""
    if _holds_secret(env) and is_open_to_others(env.file):
        text = "holds a key, and others on this machine can read it"
        env.note(None, text, fix=f"chmod 600 {shown(env.file)}")


def _holds_secret(env: EnvReader) -> bool:
    headers = [given.name.upper() for given in env.prefixed(s.HEADER_PREFIX) if given.value]
    return (
        env.given(s.PROVIDER_API_KEY) is not None
        or env.given(s.ANTHROPIC_API_KEY) is not None
        or any(word in name for name in headers for word in _SECRET_WORDS)
    )


def _first(env: EnvReader, *settings: s.Setting[str]) -> Given | None:
    return next((given for one in settings if (given := env.given(one))), None)


def _line(given: Given | None) -> int | str:
    return (given.line if given else None) or ""
