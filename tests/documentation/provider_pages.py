"""The pages about providers, from the presets, the catalogue and the docstrings of the quirks."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

from ccproxy.providers import quirks as quirks_module
from ccproxy.providers.catalogue import (
    Catalogue,
    ModelFacts,
    parse_catalogue,
    shipped_catalogue_file,
)
from ccproxy.providers.presets import Endpoint, Preset, load_presets, rows_of
from ccproxy.providers.quirks import PLAIN
from tests.documentation.markdown import code, page, table
from tests.fleet import ROOT

MOST_MODELS = 60
"""The longest list of models; `ccproxy models` prints longer ones."""
_ONLY = Endpoint(name="")
_OVERVIEW = """\
A provider preset is the value of `PROVIDER` in an env file. It sets the address, the
authentication, the models and the known deviations. `ccproxy init` asks for one."""
_NOTES = """\
✓¹ parallel calls arrive but cannot be switched off · ² reasoning sent by the server becomes
thinking; none is requested · ³ the request contains a note instead of the file, or its text with
the extra `pdf`. "By model": models known to be text-only get the note. "Cache numbers": the
provider reports how many input tokens came from its cache.

For any other OpenAI-compatible server leave `PROVIDER` out and set `PROVIDER_BASE_URL`."""
_ENDPOINTS = """\
A key is valid at one address only. Set `PROVIDER_REGION` or `PROVIDER_PLAN` to the name; the first
one is the default."""
_MODELS = """\
From the catalogue of {date}. Prices are in US dollars per million tokens: input / output /
cached input. `ccproxy models LABEL` shows more, and `--online` compares them with the
provider's list."""
_QUIRKS = """\
Where this provider differs from a plain OpenAI-compatible server, and what ccproxy does about it.
You need not set any of these."""


def overview() -> str:
    """Return the page that compares all providers."""
    works = ("tools", "parallel", "thinking", "images", "PDF", "cache numbers", "dialects")
    rows = [
        (f"[`{name}`]({name}.md)", *_features(preset)) for name, preset in load_presets().items()
    ]
    return page("Providers", _OVERVIEW, table(("`PROVIDER`", "who", *works), rows), _NOTES)


def _features(preset: Preset) -> tuple[str, ...]:
    quirks = [card.quirks for card in (*preset.cards(), preset.unknown())]
    thinks = any(q.reasoning != "none" or q.history != "drop" or q.always_reasons for q in quirks)
    takes_pdf = preset.api == "messages" or any(q.pdf != "text" for q in quirks)
    return (
        preset.title,
        "✓",
        "✓" if any(q.parallel_tool_calls for q in quirks) else "✓¹",
        "✓" if thinks or preset.api == "messages" else "if sent²",
        _some([q.images for q in quirks]),
        "✓" if takes_pdf else "note³",
        "✓" if preset.reports_cached_input else "–",
        ", ".join(_dialects(preset)),
    )


def _some(flags: list[bool]) -> str:
    if all(flags):
        return "✓"
    return "by model" if any(flags) else "note³"


def _dialects(preset: Preset) -> list[str]:
    """Return the supported dialects, the default first."""
    by_model = {card.api for card in preset.cards()} - {None}
    serves = {
        "chat": preset.api != "messages",
        "responses": bool(preset.responses_quirks) or "responses" in by_model,
        "messages": bool(preset.native_url),
    }
    return [api for api, is_served in serves.items() if is_served]


def provider_pages() -> Mapping[str, str]:
    """Return a page for each provider, by the name of its preset."""
    return {name: _provider(name, preset) for name, preset in load_presets().items()}


def _provider(name: str, preset: Preset) -> str:
    return page(
        preset.title,
        _first_lines(name, preset),
        _endpoints(preset),
        _models(name, preset),
        _quirks(preset),
        _template(name),
    )


def _first_lines(name: str, preset: Preset) -> str:
    tiers = {"opus": preset.big, "sonnet": preset.middle or preset.big}
    tiers["haiku"] = preset.small or preset.big
    facts = {
        "`PROVIDER`": f"`{name}`",
        "get a key": f"<{preset.key_page}>" if preset.key_page else "",
        "Chat Completions": f"`{preset.base_url}`" if preset.base_url != "demo:" else "built in",
        "Messages API (direct mode)": f"`{preset.native_url}`" if preset.native_url else "",
        "dialects": ", ".join(_dialects(preset)),
        "key": "required" if preset.needs_key else "not required",
        "opus, sonnet, haiku": ", ".join(f"`{model}`" for model in tiers.values() if model),
        "sent unchanged": ", ".join(f"`{pattern}`" for pattern in preset.pass_models),
    }
    if not preset.base_url:
        facts["Chat Completions"] = f"yours, for example `{preset.example_url}`"
    return table(("", ""), [(key, value) for key, value in facts.items() if value])


def _endpoints(preset: Preset) -> str:
    if not preset.endpoints:
        return ""
    rows = []
    for endpoint in preset.endpoints:
        at = preset.at(endpoint)
        native = f"`{at.native_url}`" if at.native_url else "–"
        key_page = f"<{at.key_page}>" if at.key_page else "–"
        rows.append((f"`{endpoint.name}`", f"`{at.base_url}`", native, key_page))
    head = ("name", "Chat Completions", "Messages API", "keys")
    return "\n\n".join(["## Regions and plans", _ENDPOINTS, table(head, rows)])


@cache
def _catalogue() -> Catalogue:
    return parse_catalogue(shipped_catalogue_file().read_bytes())


def _models(name: str, preset: Preset) -> str:
    endpoint = preset.endpoints[0] if preset.endpoints else _ONLY
    rows = rows_of(_catalogue(), name, endpoint)
    current = {model: row for model, row in rows.items() if row.status != "retired"}
    if not current:
        return ""
    note = _MODELS.format(date=_catalogue().date)
    chosen = current
    if len(current) > MOST_MODELS:
        tiers = {preset.big, preset.middle, preset.small}
        chosen = {model: row for model, row in current.items() if model in tiers}
        note += (
            f"\nThe catalogue has {len(current)} models of this provider; these are the defaults."
        )
    if not chosen:
        return f"## Models\n\n{note}"
    body = table(
        ("model", "window", "output", "images", "efforts", "price", "retires"),
        [(f"`{model}`", *_facts(row)) for model, row in chosen.items()],
    )
    return "\n\n".join(["## Models", note, body])


def _facts(row: ModelFacts) -> Iterator[str]:
    price = row.price
    yield f"{row.prompt_window:,}" if row.prompt_window else "–"
    yield f"{row.max_output:,}" if row.max_output else "–"
    yield {True: "✓", False: "–", None: ""}[row.images]
    yield " ".join(row.efforts or ())
    if price is None:
        yield "–"
    else:
        amounts = [price.input, price.output, price.cache_read]
        yield " / ".join(f"{amount:g}" for amount in amounts if amount is not None)
    yield row.retires + (f", then `{row.successor}`" if row.retires and row.successor else "")


def _quirks(preset: Preset) -> str:
    """Describe the quirks of the provider and its models."""
    values: dict[str, list[str]] = {}
    for scope, fields in _scopes(preset):
        for field, value in fields.items():
            if value != getattr(PLAIN, field):
                values.setdefault(field, []).append(f"`{_value(value)}` {scope}".strip())
    if not values:
        return ""
    meanings = quirk_meanings()
    rows = [
        (f"`{field}`", "<br>".join(dict.fromkeys(places)), meanings.get(field, ""))
        for field, places in values.items()
    ]
    return "\n\n".join(["## Quirks", _QUIRKS, table(("quirk", "value", "meaning"), rows)])


def _scopes(preset: Preset) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "", preset.quirks
    if preset.responses_quirks:
        yield "(Responses API)", preset.responses_quirks
    for card in preset.models:
        names = ", ".join(card.names[:3]) + (", …" if len(card.names) > 3 else "")
        yield f"({names})".replace("*", "\\*"), card.quirks
        yield f"({names}; Responses API)".replace("*", "\\*"), card.responses_quirks


def _value(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


@cache
def quirk_meanings() -> Mapping[str, str]:
    """Return the docstring of each quirk: the string below its field."""
    tree = ast.parse(inspect.getsource(quirks_module))
    struct = next(
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Quirks"
    )
    meanings = {}
    for field, text in zip(struct.body, struct.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(text, ast.Expr):
            continue
        assert isinstance(field.target, ast.Name)
        assert isinstance(text.value, ast.Constant)
        meanings[field.target.id] = re.sub(r"\s+", " ", str(text.value.value)).replace("*", "\\*")
    return meanings


def _template(name: str) -> str:
    files = [ROOT / f"envs/{name}.env.example", ROOT / f"envs/{name}.env"]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return ""
    text = file.read_text(encoding="utf-8")
    return "\n\n".join(["## Env file", f"`envs/{file.name}`:", code(text, "ini")])
