"""
The tables of README that are generated from settings and presets.

    python -m tests.readme      write them into README.md
"""

from __future__ import annotations

import re
from pathlib import Path

from ccproxy.config.settings import SETTINGS
from ccproxy.providers.presets import Preset, load_presets

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"(?s)(<!-- (\w+) -->\n).*?(<!-- end -->)")


def settings() -> str:
    """Make the table of an env file's settings."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for setting in SETTINGS:
        aliases = "".join(f" (also `{alias}`)" for alias in setting.aliases)
        default = setting.default_text or "–"
        rows.append(f"| `{setting.name}`{aliases} | {default} | {setting.meaning} |")
    return "\n".join(rows)


def providers() -> str:
    """Make the table of providers and of what works with each."""
    works = "tools | parallel | thinking | images | PDF | cache numbers | dialects"
    rows = [f"| `PROVIDER` | who | {works} |", "|---|---|---|---|---|---|---|---|---|"]
    rows += (f"| `{term}` | {_row(preset)} |" for term, preset in load_presets().items())
    return "\n".join(rows)


def _row(preset: Preset) -> str:
    quirks = [card.quirks for card in (*preset.cards(), preset.unknown())]
    thinks = any(q.reasoning != "none" or q.history != "drop" or q.always_reasons for q in quirks)
    cells = (
        preset.title,
        "✓",
        "✓" if any(q.parallel_tool_calls for q in quirks) else "✓¹",
        "✓" if thinks or preset.api == "messages" else "as it comes²",
        _some([q.images for q in quirks]),
        "✓" if preset.api == "messages" or any(q.pdf != "text" for q in quirks) else "note³",
        "✓" if preset.reports_cached_input else "–",
        _dialects(preset),
    )
    return " | ".join(cells)


def _dialects(preset: Preset) -> str:
    """Return the dialects that can be used, the default first."""
    by_model = {card.api for card in preset.cards()} - {None}
    serves = {
        "chat": preset.api != "messages",
        "responses": bool(preset.responses_quirks) or "responses" in by_model,
        "messages": bool(preset.native_url),
    }
    return ", ".join(api for api, is_served in serves.items() if is_served)


def _some(known: list[bool]) -> str:
    if all(known):
        return "✓"
    return "by model" if any(known) else "note³"


TABLES = {"settings": settings, "providers": providers}


def written(text: str) -> str:
    """Return *text* with every marked table generated anew from the code."""
    return BLOCK.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
