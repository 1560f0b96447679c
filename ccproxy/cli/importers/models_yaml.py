"""
The models.yaml of a direct-mode proxy.

The file is a list of models, or a mapping from a model's id to its other fields; either may be the
value of `models:`. Each model has its own key, address, limits and extra fields, so every model
becomes its own proxy. Sizes may end in `k` (1024) or `m` (1024²).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ccproxy.cli.importers.builder import (
    ImportBuilder,
    header_settings,
    same_models,
    text_of,
)
from ccproxy.cli.importers.document import failure
from ccproxy.config import parsers
from ccproxy.config import settings as s
from ccproxy.errors import ConfigError, Mistake

TOOL = "models.yaml"
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([kKmM]?)")
_UNITS = {"": 1, "k": 1024, "m": 1024**2}
_FIELDS = {
    *("model_id", "model_name", "api_base", "api_key_name", "api_key", "max_tokens"),
    *("max_input_tokens", "reasoning_effort", "extra_headers", "extra_body", "direct"),
}


def import_models(document: object, build: ImportBuilder) -> None:
    """
    Import the models of a models.yaml; each becomes a proxy.

    Raises:
        ConfigError: If the file has errors; it lists all of them.

    """
    build.tool = TOOL
    mistakes: list[Mistake] = []
    models = []
    for number, fields in enumerate(_models(document, build.file), 1):
        try:
            models.append((fields, _settings_of(fields)))
        except ValueError as error:
            text = f"model {text_of(fields, 'model_id') or number}: {error}"
            mistakes.append(
                Mistake(file=build.file, line=None, text=text, fix="correct it in the file")
            )
    if mistakes:
        raise ConfigError(mistakes)
    for fields, settings in models:
        variable = text_of(fields, "api_key_name")
        key = text_of(fields, "api_key") or (variable and f"${{{variable}}}")
        name = text_of(fields, "model_id")
        build.add(name, settings, key=key)
        build.leave_out_rest(fields, _FIELDS, {}, path=f"{name}: ")


# The two formats of the file.


def _models(document: object, file: Path) -> Iterator[dict[str, Any]]:
    """Yield the fields of each model, from either format."""
    if isinstance(document, dict) and isinstance(document.get("models"), dict | list):
        document = document["models"]
    if isinstance(document, dict):
        document = [
            {"model_id": name, **fields} if isinstance(fields, dict) else fields
            for name, fields in document.items()
        ]
    items: list[Any] = document if isinstance(document, list) else []
    if not items or not all(isinstance(fields, dict) for fields in items):
        text = "contains no models: expected a list, or a mapping from model ids"
        raise failure(file, text, "see the format in: ccproxy import --help")
    yield from items


# Parsing one model.


def _settings_of(fields: Mapping[str, Any]) -> dict[str, str]:
    model = text_of(fields, "model_id")
    if not model:
        raise ValueError("model_id is missing")
    upstream = parsers.model(text_of(fields, "model_name") or model)
    address = text_of(fields, "api_base")
    if not address:
        raise ValueError("api_base is missing")
    settings = {s.PROVIDER_BASE_URL.name: parsers.http_url(address), **same_models(upstream)}
    if fields.get("direct") is True:
        settings[s.PROVIDER_API.name] = "messages"
    for setting, name in (
        (s.MAX_TOKENS_LIMIT, "max_tokens"),
        (s.CONTEXT_WINDOW, "max_input_tokens"),
    ):
        if fields.get(name) is not None:
            settings[setting.name] = str(parse_size(fields[name], name))
    settings |= header_settings(fields.get("extra_headers") or {})
    if body := _body(fields):
        settings[s.EXTRA_BODY.name] = json.dumps(body, ensure_ascii=False)
    if key := text_of(fields, "api_key"):
        parsers.keys(key)
    return settings


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


def _body(fields: Mapping[str, Any]) -> dict[str, Any]:
    body = fields.get("extra_body") or {}
    if not isinstance(body, dict):
        raise ValueError("extra_body must be a mapping")
    effort = fields.get("reasoning_effort")
    if effort:
        body = {"reasoning_effort": str(effort), **body}
    return parsers.extra_body(json.dumps(body, default=str)) if body else {}
