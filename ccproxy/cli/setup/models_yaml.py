"""
A models.yaml of the direct-mode ancestor -> entries and env files.

Both of its forms are read: a list of models, and a mapping from the model's id to the rest (either
one also below `models:`). Every model becomes a proxy of its own, since key, address, limits and
extra fields are the model's there. Sizes may end in `k` (1024) or `m` (1024²).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccproxy.cli.setup.user_files import env_line
from ccproxy.config import parsers
from ccproxy.config.fleet import LABEL
from ccproxy.errors import CcproxyError, ConfigError, Mistake

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kKmM]?)")
_UNITS = {"": 1, "k": 1024, "m": 1024**2}
_NAMES = {
    *("model_id", "model_name", "api_base", "api_key_name", "api_key", "max_tokens"),
    *("max_input_tokens", "reasoning_effort", "extra_headers", "extra_body", "direct"),
}
_CLIENTS_CHOICE = {"can_stream", "enable_thinking"}
"""What the client decides with every request here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """One model as an entry of the table and the settings of its env file."""

    label: str
    settings: Mapping[str, str]
    key_name: str
    """The environment variable that held the key; empty where the file has the key itself."""
    left_out: tuple[str, ...]
    """Fields that mean nothing here."""


def read_models(file: Path, *, taken: Iterable[str]) -> list[Imported]:
    """
    Read *file*; labels are made of the models' ids and differ from those that are *taken*.

    Raises:
        ConfigError: With every mistake in the file.
        CcproxyError: If there is no reader for YAML.

    """
    labels = {label.lower() for label in taken}
    mistakes: list[Mistake] = []
    found = []
    for number, fields in enumerate(_models(_document(file), file), 1):
        try:
            found.append(_imported(fields, labels))
        except ValueError as error:
            text = f"model {fields.get('model_id') or number}: {error}"
            mistakes.append(Mistake(file=file, line=None, text=text, fix="correct it in the file"))
    if mistakes:
        raise ConfigError(mistakes)
    return found


def env_text(imported: Imported, *, key: str | None) -> str:
    """Return the env file of *imported*; without a *key* a line says where to put one."""
    lines = [f"# Imported from models.yaml: {imported.label}"]
    if key is not None:
        lines.append(f"PROVIDER_API_KEY={key}")
    elif imported.key_name:
        lines.append(f"# The key that was in ${imported.key_name}:\n# PROVIDER_API_KEY=")
    lines += [env_line(name, value) for name, value in imported.settings.items()]
    return "\n".join(lines) + "\n"


# The file...


def _document(file: Path) -> object:
    try:
        import yaml
    except ImportError as error:
        text = "reading YAML needs PyYAML\n  fix: pip install 'ccproxy-fleet[import]'"
        raise CcproxyError(text) from error
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        said = getattr(error, "problem", None) or "cannot be read"
        mistake = Mistake(file=file, line=line, text=f"is not YAML: {said}", fix="correct it")
        raise ConfigError([mistake]) from error


def _models(document: object, file: Path) -> Iterator[dict[str, Any]]:
    """Give the fields of each model, in either form."""
    if isinstance(document, dict) and isinstance(document.get("models"), dict | list):
        document = document["models"]
    if isinstance(document, dict):
        document = [
            {"model_id": name, **fields} if isinstance(fields, dict) else fields
            for name, fields in document.items()
        ]
    is_list = isinstance(document, list) and document
    if not is_list or not all(isinstance(fields, dict) for fields in document):  # type: ignore[attr-defined]
        text = "holds no models: neither a list of them nor a mapping from their ids"
        raise ConfigError([Mistake(file=file, line=None, text=text, fix="name another file")])
    yield from document  # type: ignore[misc]


# ...and a model of it.


def _imported(fields: Mapping[str, Any], labels: set[str]) -> Imported:
    model = _word(fields, "model_id")
    if not model:
        raise ValueError("model_id is missing")
    upstream = parsers.model(_word(fields, "model_name") or model)
    address = _word(fields, "api_base")
    if not address:
        raise ValueError("api_base is missing")
    settings = {
        "PROVIDER_BASE_URL": parsers.http_url(address),
        "BIG_MODEL": upstream,
        "SMALL_MODEL": upstream,
    }
    if fields.get("direct") is True:
        settings["PROVIDER_API"] = "messages"
    for ours, theirs in (
        ("MAX_TOKENS_LIMIT", "max_tokens"),
        ("CONTEXT_WINDOW", "max_input_tokens"),
    ):
        if fields.get(theirs) is not None:
            settings[ours] = str(size(fields[theirs], theirs))
    settings |= _headers(fields.get("extra_headers") or {})
    if body := _body(fields):
        settings["EXTRA_BODY"] = json.dumps(body, ensure_ascii=False)
    if key := _word(fields, "api_key"):
        settings["PROVIDER_API_KEY"] = ",".join(parsers.keys(key))
    return Imported(
        label=_label(model, labels),
        settings=settings,
        key_name="" if key else _word(fields, "api_key_name"),
        left_out=tuple(name for name in fields if name not in _NAMES),
    )


def size(value: object, name: str) -> int:
    """
    Read a number of tokens: 8192, "8192" or "8k".

    Raises:
        ValueError: If it is none.

    """
    found = _SIZE.fullmatch(str(value).strip())
    if found is None or isinstance(value, bool) or float(found[1]) <= 0:
        raise ValueError(f'{name} must be a number of tokens such as 8192 or 8k, got "{value}"')
    return int(float(found[1]) * _UNITS[found[2].lower()])


def _headers(given: object) -> dict[str, str]:
    if not isinstance(given, dict):
        raise ValueError("extra_headers must be a mapping")
    settings = {}
    for name, value in given.items():
        if not re.fullmatch(r"[A-Za-z0-9_-]+", str(name)):
            raise ValueError(f'extra_headers: "{name}" cannot be the name of a header')
        word = str(name).upper().replace("-", "_")
        settings[f"CUSTOM_HEADER_{word}"] = parsers.text(str(value))
    return settings


def _body(fields: Mapping[str, Any]) -> dict[str, Any]:
    body = fields.get("extra_body") or {}
    if not isinstance(body, dict):
        raise ValueError("extra_body must be a mapping")
    effort = fields.get("reasoning_effort")
    if effort:
        body = {"reasoning_effort": str(effort), **body}
    return parsers.extra_body(json.dumps(body, default=str)) if body else {}


def _word(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return "" if value is None else str(value).strip()


def _label(model: str, labels: set[str]) -> str:
    """Make a label of the model's id, and take it."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("._-")[:29] or "model"
    label, count = stem, 1
    while label.lower() in labels or LABEL.fullmatch(label) is None:
        count += 1
        label = f"{stem}-{count}"
    labels.add(label.lower())
    return label
