"""The documentation is complete, current, and builds without a network."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import urllib.parse
from pathlib import Path

import pytest

from ccproxy.cli.command import commands
from ccproxy.cli.exit_codes import MEANINGS
from ccproxy.config.settings import SETTINGS
from ccproxy.providers.presets import load_presets
from ccproxy.worker.server.app import ROUTES
from tests.documentation.blocks import PAGES
from tests.documentation.generate import DOCS, FOLDERS, generated_pages
from tests.documentation.provider_pages import quirk_meanings
from tests.fleet import ROOT

RENEW = "run: python -m tests.documentation.generate"
LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("name", generated_pages())
def test_generated_pages_are_current(name: str):
    assert (DOCS / name).read_text(encoding="utf-8") == generated_pages()[name], RENEW


def test_no_obsolete_generated_page_remains():
    files = {f"{folder}/{path.name}" for folder in FOLDERS for path in (DOCS / folder).glob("*.md")}
    assert files == set(generated_pages()), RENEW


def test_the_reference_is_complete():
    pages = generated_pages()
    assert all(f"`{setting.name}`" in pages["reference/settings.md"] for setting in SETTINGS)
    assert all(f"### ccproxy {name}\n" in pages["reference/commands.md"] for name in commands())
    assert all(f"| {code} |" in pages["reference/exit-codes.md"] for code in MEANINGS)
    assert all(f"| `{path}` |" in pages["reference/endpoints.md"] for path in ROUTES)
    assert all(f"providers/{name}.md" in pages for name in load_presets())


def test_every_extra_is_described():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    text = (DOCS / "getting-started.md").read_text(encoding="utf-8")
    assert [name for name in extras if f"| `{name}` |" not in text] == []


def test_every_page_is_in_the_navigation():
    named = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.glob("**/*.md")}
    in_index = {f"providers/{name}.md" for name in load_presets()}
    assert pages - in_index == set(named)


def test_every_quirk_of_a_provider_has_a_meaning():
    text = "".join(text for name, text in generated_pages().items() if "providers/" in name)
    named = set(re.findall(r"^\| `(\w+)` \| .*?`", text.split("## Quirks", 1)[1], re.MULTILINE))
    assert len(quirk_meanings()) > 40
    assert {"history", "images", "efforts"} <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_has_a_target(page: Path):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        url = urllib.parse.urlsplit(target)
        if url.scheme:
            assert url.scheme in ("https", "mailto"), target
            continue
        path = page.parent / url.path if url.path else page
        assert path.exists(), f"{page.name}: {target}"
        if url.fragment and path.suffix == ".md":
            assert url.fragment in anchors(path), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs form them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Build the site without a network; warnings are errors."""
    pytest.importorskip("material", reason="needs the group docs: make docs")
    folder = tmp_path_factory.mktemp("site")
    closed = "http://127.0.0.1:9"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "HTTPS_PROXY": closed,
            "HTTP_PROXY": closed,
            "HOME": "/tmp",
            "NO_MKDOCS_2_WARNING": "1",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_every_page(site: Path):
    for name in generated_pages():
        path = name.removesuffix(".md").removesuffix("index")
        assert (site / path / "index.html").exists(), name


def test_the_site_loads_nothing_from_other_hosts(site: Path):
    loads = re.compile(r"""<(?:script|img|link|iframe)[^>]+(?:src|href)=["']?(https?:[^"'\s>]+)""")
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        addresses = [url for url in loads.findall(text) if 'rel="canonical"' not in text]
        assert addresses == [], page
        assert "fonts.g" not in text, page
