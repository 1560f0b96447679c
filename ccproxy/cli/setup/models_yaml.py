"""
Convert a models.yaml to entries of the table and env files.

The file is a list of models, or a mapping from a model's id to its other fields; either may be the
value of `models:`. Key, address, limits and extra fields belong to a model there, so every model
becomes its own proxy. Sizes may end in `k` (1024) or `m` (1024²).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccproxy.config import parsers
from ccproxy.config.env_text import env_line
from ccproxy.config.fleet import LABEL
from ccproxy.errors import CcproxyError, ConfigError, Mistake

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kKmM]?)")
_UNITS = {"": 1, "k": 1024, "m": 1024**2}
_FIELDS = {
    *("model_id", "model_name", "api_base", "api_key_name", "api_key", "max_tokens"),
    *("max_input_tokens", "reasoning_effort", "extra_headers", "extra_body", "direct"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedModel:
    """One model as an entry of the table and the settings of its env file."""

    label: str
    settings: Mapping[str, str]
    key_name: str
    """The environment variable with the key; empty if the file contains the key itself."""
    ignored: tuple[str, ...]
    """Fields that have no equivalent in an env file."""


def read_models(file: Path, *, existing_labels: Iterable[str]) -> list[ImportedModel]:
    """
    Read *file*; labels are derived from the models' ids and differ from *existing_labels*.

    Raises:
        ConfigError: With every error in the file.
        CcproxyError: If PyYAML is not installed.

    """
    labels = {label.lower() for label in existing_labels}
    mistakes: list[Mistake] = []
    models = []
    for number, fields in enumerate(_models(_document(file), file), 1):
        try:
            models.append(_import_model(fields, labels))
        except ValueError as error:
            text = f"model {fields.get('model_id') or number}: {error}"
            mistakes.append(Mistake(file=file, line=None, text=text, fix="correct it in the file"))
    if mistakes:
        raise ConfigError(mistakes)
    return models


def env_text(model: ImportedModel, *, key: str | None) -> str:
    """Return the env file of *model*; without a *key*, the key is a commented line."""
    lines = [f"# Imported from models.yaml: {model.label}"]
    if key is not None:
        lines.append(f"PROVIDER_API_KEY={key}")
    elif model.key_name:
        lines.append(f"# The key from ${model.key_name}:\n# PROVIDER_API_KEY=")
    lines += [env_line(name, value) for name, value in model.settings.items()]
    return "\n".join(lines) + "\n"


# Parsing the file.


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
        cause = getattr(error, "problem", None) or "cannot be parsed"
        mistake = Mistake(file=file, line=line, text=f"is not YAML: {cause}", fix="correct it")
        raise ConfigError([mistake]) from error


def _models(document: object, file: Path) -> Iterator[dict[str, Any]]:
    """Yield the fields of each model, from either form."""
    if isinstance(document, dict) and isinstance(document.get("models"), dict | list):
        document = document["models"]
    if isinstance(document, dict):
        document = [
            {"model_id": name, **fields} if isinstance(fields, dict) else fields
            for name, fields in document.items()
        ]
    is_list = isinstance(document, list) and document
    if not is_list or not all(isinstance(fields, dict) for fields in document):  # type: ignore[attr-defined]
        text = "contains no models: expected a list, or a mapping from model ids"
        fix = "see the format in: ccproxy import --help"
        raise ConfigError([Mistake(file=file, line=None, text=text, fix=fix)])
    yield from document  # type: ignore[misc]


# Parsing one model.


def _import_model(fields: Mapping[str, Any], labels: set[str]) -> ImportedModel:
    model = _text(fields, "model_id")
    if not model:
        raise ValueError("model_id is missing")
    upstream = parsers.model(_text(fields, "model_name") or model)
    address = _text(fields, "api_base")
    if not address:
        raise ValueError("api_base is missing")
    settings = {
        "PROVIDER_BASE_URL": parsers.http_url(address),
        "BIG_MODEL": upstream,
        "SMALL_MODEL": upstream,
    }
    if fields.get("direct") is True:
        settings["PROVIDER_API"] = "messages"
    for setting, name in (
        ("MAX_TOKENS_LIMIT", "max_tokens"),
        ("CONTEXT_WINDOW", "max_input_tokens"),
    ):
        if fields.get(name) is not None:
            settings[setting] = str(parse_size(fields[name], name))
    settings |= _headers(fields.get("extra_headers") or {})
    if body := _body(fields):
        settings["EXTRA_BODY"] = json.dumps(body, ensure_ascii=False)
    if key := _text(fields, "api_key"):
        settings["PROVIDER_API_KEY"] = ",".join(parsers.keys(key))
    return ImportedModel(
        label=_label(model, labels),
        settings=settings,
        key_name="" if key else _text(fields, "api_key_name"),
        ignored=tuple(name for name in fields if name not in _FIELDS),
    )


def parse_size(value: object, name: str) -> int:
    """
    Parse a number of tokens: 8192, "8192" or "8k".

    Raises:
        ValueError: If it is not a number of tokens.

    """
    match = _SIZE.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool) or float(match[1]) <= 0:
        raise ValueError(f'{name} must be a number of tokens such as 8192 or 8k, got "{value}"')
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _headers(headers: object) -> dict[str, str]:
    if not isinstance(headers, dict):
        raise ValueError("extra_headers must be a mapping")
    settings = {}
    for name, value in headers.items():
        if not re.fullmatch(r"[A-Za-z0-9_-]+", str(name)):
            raise ValueError(f'extra_headers: "{name}" is not a header name')
        suffix = str(name).upper().replace("-", "_")
        settings[f"CUSTOM_HEADER_{suffix}"] = parsers.text(str(value))
    return settings


def _body(fields: Mapping[str, Any]) -> dict[str, Any]:
    body = fields.get("extra_body") or {}
    if not isinstance(body, dict):
        raise ValueError("extra_body must be a mapping")
    effort = fields.get("reasoning_effort")
    if effort:
        body = {"reasoning_effort": str(effort), **body}
    return parsers.extra_body(json.dumps(body, default=str)) if body else {}


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return "" if value is None else str(value).strip()


def _label(model: str, labels: set[str]) -> str:
    """Derive an unused label from the model's id, and add it to *labels*."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("._-")[:29] or "model"
    label, count = stem, 1
    while label.lower() in labels or LABEL.fullmatch(label) is None:
        count += 1
        label = f"{stem}-{count}"
    labels.add(label.lower())
    return label
