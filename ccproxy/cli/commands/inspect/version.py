"""Show the version."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import click

from ccproxy import __version__
from ccproxy.cli.command import Options, command
from ccproxy.cli.render.command_lines import callable_here
from ccproxy.cli.render.terminal import show, show_json
from ccproxy.cli.selection import open_readable_part
from ccproxy.errors import CcproxyError

LIBRARIES = ("aiohttp", "msgspec", "uvloop", "click", "psutil", "structlog")


@command("ccproxy version", "ccproxy version --json")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON, with the versions of Python and the libraries.",
)
def version(options: Options, *, as_json: bool) -> None:
    """
    Show the installed version, and the running one if it differs.

    After an upgrade, running processes keep the code that they have loaded until they are replaced.
    """
    if not as_json:
        show(_with_running_version(options))
        return
    facts = {
        "schema": 1,
        "ccproxy": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _version_of(name) for name in LIBRARIES},
    }
    show_json(facts)


def _with_running_version(options: Options) -> str:
    try:
        fleet, _ = open_readable_part(options)
    except CcproxyError:
        return f"ccproxy {__version__}"  # no fleet, or one that cannot be read
    # Slow to load; `version --json` and `--help` do not need it.
    from ccproxy.cli.render.fleet_table import version_text
    from ccproxy.supervisor.control.client import fleet_status

    status = fleet_status(fleet)
    return callable_here(version_text(status, status.proxies))


def _version_of(library: str) -> str | None:
    try:
        return installed_version(library)
    except PackageNotFoundError:
        return None
