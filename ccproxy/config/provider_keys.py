"""
The provider's keys in an env file or a separate file, and the order in which they are used.

After a mistake, the return values are meaningless; loading fails anyway.
"""

from __future__ import annotations

import re
from pathlib import Path

from ccproxy.config import settings as s
from ccproxy.config.parsers import listed_key_problem, split_key
from ccproxy.config.reader import EnvReader, is_open_to_others
from ccproxy.files import display_path, read_regular
from ccproxy.keys.policy import NO_RANK, KeyPolicy, KeyRank, Strategy
from ccproxy.providers.presets import Preset
from ccproxy.text import mask_key

MAX_FILE_SIZE = 256 * 1024
"""Maximum bytes of a file with keys."""
_COMMENT = re.compile(r"(?:^|\s)#.*")


def api_keys(env: EnvReader, preset: Preset) -> tuple[tuple[str, ...], tuple[KeyRank, ...]]:
    """
    Return the provider's keys and their ranks.

    Without a configured key, return the placeholder for a server that needs none, or no key if
    the client's key is passed on.
    """
    listed = _listed_keys(env)
    if listed is not None:
        pairs = [split_key(key) for key in listed]
        return tuple(key for key, _ in pairs), tuple(KeyRank(**rank) for _, rank in pairs)
    if env.read(s.PASS_CLIENT_KEY):
        return (), ()
    if preset.needs_key:
        where = f"; get one at {preset.key_page}" if preset.key_page else ""
        env.note_absence(
            s.PROVIDER_API_KEY,
            f"{preset.title} requires a key",
            near=env.value(s.PROVIDER),
            example=f"your key{where}",
        )
    return (preset.placeholder_key,), ()


def key_policy(env: EnvReader, ranks: tuple[KeyRank, ...]) -> KeyPolicy:
    """Return how keys with these *ranks* are selected."""
    return KeyPolicy(
        strategy=_strategy(env, ranks),
        ranks=ranks,
        affinity=env.read(s.KEY_AFFINITY),
        move_wait=env.read(s.KEY_MOVE_WAIT),
    )


def _strategy(env: EnvReader, ranks: tuple[KeyRank, ...]) -> Strategy:
    """Return how keys are selected: as configured, otherwise as their attributes imply."""
    has_priority = any(rank.priority != NO_RANK.priority for rank in ranks)
    has_weight = any(rank.weight != NO_RANK.weight for rank in ranks)
    strategy = env.read(s.KEY_STRATEGY)
    if strategy is None:
        return "priority" if has_priority else "weights" if has_weight else "rotate"
    text, fix = "", "remove these attributes, or remove KEY_STRATEGY"
    ignored = [name for name, has in (("priority", has_priority), ("weight", has_weight)) if has]
    if strategy == "priority":
        ignored = []
    elif strategy == "weights":
        ignored = [name for name in ignored if name != "weight"]
    if ignored:
        text = f"KEY_STRATEGY {strategy} ignores the {' and '.join(ignored)} of the keys"
    elif strategy == "priority" and not has_priority:
        text = "KEY_STRATEGY is priority, but no key has a priority above 1"
        fix = "write ;priority=2 after the keys to be used last"
    elif strategy == "weights" and not has_weight:
        text = "KEY_STRATEGY is weights, but no key has a weight above 1"
        fix = "for example, write ;weight=3 after a key"
    if text:
        env.note(env.value(s.KEY_STRATEGY), text, fix=fix)
    return strategy


def keys_file(env: EnvReader) -> Path | None:
    """Return the file of PROVIDER_API_KEYS_FILE; None if it is not set."""
    name = env.read(s.PROVIDER_API_KEYS_FILE)
    return None if name is None else env.path(name)


def _listed_keys(env: EnvReader) -> tuple[str, ...] | None:
    """Return the keys with their attributes; None if no setting contains keys."""
    path, value = keys_file(env), env.value(s.PROVIDER_API_KEYS_FILE)
    if path is None or value is None:
        return env.read(s.PROVIDER_API_KEY) if env.value(s.PROVIDER_API_KEY) else None
    if env.value(s.PROVIDER_API_KEY) is not None:
        text = "PROVIDER_API_KEYS_FILE is set, but the env file also contains a provider key"
        env.note(value, text, fix="keep only one of the two")
    listed, problem, fix = _read_keys(path)
    if problem:
        env.note(value, f"PROVIDER_API_KEYS_FILE: {display_path(path)}{problem}", fix=fix)
    return listed


def _read_keys(path: Path) -> tuple[tuple[str, ...], str, str]:
    """Return the keys in a file, its problem and a fix; the last two are empty if it is valid."""
    try:
        content = read_regular(path, encoding="utf-8-sig")
        is_exposed = is_open_to_others(path)
    except OSError as error:
        return (
            (),
            f" cannot be read: {error.strerror}",
            "correct the name, or make the file readable",
        )
    except UnicodeDecodeError:
        return (), " is not UTF-8 text", "save it as UTF-8"
    if is_exposed:
        return (), " is readable by other users", f"chmod 600 {display_path(path)}"
    if len(content) > MAX_FILE_SIZE:
        return (), f" is larger than {MAX_FILE_SIZE >> 10} KiB", "write one key per line"
    lines: dict[str, int] = {}
    listed = []
    for number, line in enumerate(content.splitlines(), 1):
        key = _COMMENT.sub("", line).strip()
        if not key:
            continue
        secret = split_key(key)[0]
        problem = "a comma" if "," in key else listed_key_problem(key)
        if not problem and secret in lines:
            problem = f"the key from line {lines[secret]} again"
        if problem:
            text = f":{number} contains {problem} ({mask_key(secret)})"
            return (), text, "write one key per line, such as sk-…;priority=2"
        lines[secret] = number
        listed.append(key)
    if not listed:
        return (), " contains no key", "write one key per line"
    return tuple(listed), "", ""
