"""
The pages of docs/ that are generated from the code.

    python -m tests.documentation.generate      write them
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tests.documentation import provider_pages, reference_pages
from tests.fleet import ROOT

DOCS = ROOT / "docs"
FOLDERS = ("reference", "providers")
"""Folders that contain only generated pages."""


@cache
def generated_pages() -> Mapping[str, str]:
    """Return the text of each generated page by its path in docs/."""
    pages = {
        "reference/settings.md": reference_pages.settings(),
        "reference/commands.md": reference_pages.command_reference(),
        "reference/quirks.md": reference_pages.quirks(),
        "reference/exit-codes.md": reference_pages.exit_codes(),
        "reference/endpoints.md": reference_pages.endpoints(),
        "reference/metrics.md": reference_pages.metrics(),
        "providers/index.md": provider_pages.overview(),
    }
    for name, text in provider_pages.provider_pages().items():
        pages[f"providers/{name}.md"] = text
    return pages


def main() -> None:
    """Write the pages and delete those that are no longer generated."""
    pages = generated_pages()
    for name, text in pages.items():
        path = DOCS / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for folder in FOLDERS:
        for path in (DOCS / folder).glob("*.md"):
            if f"{folder}/{path.name}" not in pages:
                path.unlink()


if __name__ == "__main__":
    main()
