"""Show the version."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import click

from ccproxy import __version__
from ccproxy.cli.command import Command
from ccproxy.cli.render.terminal import show

LIBRARIES = ("aiohttp", "msgspec", "uvloop", "click", "psutil", "structlog")


@click.command(cls=Command, examples=["ccproxy version", "ccproxy version --json"])
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON, with the versions of Python and the libraries.",
)
def version(*, as_json: bool) -> None:
    """Show the version."""
    if not as_json:
        show(f"ccproxy {__version__}")
        return
    facts = {
        "schema": 1,
        "ccproxy": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _version_of(name) for name in LIBRARIES},
    }
    show(json.dumps(facts, indent=2))


def _version_of(library: str) -> str | None:
    try:
        return installed_version(library)
    except PackageNotFoundError:
        return None
