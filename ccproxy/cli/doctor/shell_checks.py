"""PATH, proxies, Claude Code and the settings that would win over `ccproxy env`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ccproxy.cli.doctor.finding import Finding, Scene, fail, ok, warn
from ccproxy.cli.render.terminal import tilde
from ccproxy.cli.session.claude_environment import (
    MANAGED,
    PROVIDER_SWITCHES,
    TOKEN,
    is_claude_name,
    session,
)
from ccproxy.cli.session.claude_settings import (
    Conflict,
    effective_environment,
    find_conflicts,
    read_settings_files,
    saved_model,
)
from ccproxy.text import printable

PATIENCE = 10.0
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_LOOPBACK = ("127.0.0.1", "localhost")


def path(scene: Scene) -> Iterator[Finding]:
    """The `ccproxy` that the shell finds is this one; others publish a command of that name."""
    folders = [folder for folder in scene.environ.get("PATH", "").split(os.pathsep) if folder]
    found = [Path(folder, "ccproxy") for folder in dict.fromkeys(folders)]
    found = [file for file in found if os.access(file, os.X_OK) and file.is_file()]
    foreign = [file for file in found if not _is_ours(file)]
    ours = Path(sys.executable).parent / "ccproxy"
    if foreign and found[0] in foreign:
        text = f"the shell's ccproxy is another program: {tilde(found[0])}"
        yield fail(text, fix=f'export PATH="{ours.parent}:$PATH"')
    elif foreign:
        text = f"another ccproxy is on PATH: {tilde(foreign[0])}"
        yield warn(text, fix=f"remove it, or keep {ours.parent} before it")
    else:
        yield ok(tilde(found[0]) if found else "not on PATH; called by its module")


def proxies(scene: Scene) -> Iterator[Finding]:
    """An HTTP proxy must not be asked for this machine's own ports."""
    names = [name for name in _PROXIES if scene.environ.get(name)]
    if not names:
        yield ok("no HTTP proxy in the environment")
        return
    listed = scene.environ.get("NO_PROXY") or scene.environ.get("no_proxy") or ""
    hosts = {host.strip() for host in listed.split(",")}
    if "*" in hosts or hosts >= set(_LOOPBACK):
        yield ok(f"{names[0]}, but not for this machine")
    else:
        text = f"{names[0]} is set, and NO_PROXY does not name localhost and 127.0.0.1"
        yield fail(text, fix="export NO_PROXY=localhost,127.0.0.1,::1   (ccproxy run does it)")


def credentials(scene: Scene) -> Iterator[Finding]:
    """Two credentials at once make Claude Code choose, and warn."""
    environ = scene.environ
    if environ.get("ANTHROPIC_API_KEY") and environ.get(TOKEN):
        yield warn(f"ANTHROPIC_API_KEY and {TOKEN} are both set", fix="unset ANTHROPIC_API_KEY")
    elif environ.get("ANTHROPIC_API_KEY"):
        text = "ANTHROPIC_API_KEY is set: a plain `claude` uses that account"
        yield warn(text, fix='eval "$(ccproxy env LABEL)" or ccproxy run LABEL -- claude')
    else:
        yield ok("none of its own in this shell" if not environ.get(TOKEN) else f"{TOKEN} alone")


def base_url(scene: Scene) -> Iterator[Finding]:
    """Where this shell's Claude Code goes."""
    url = scene.environ.get("ANTHROPIC_BASE_URL", "")
    if not url:
        yield ok("not set in this shell")
        return
    try:
        split = urlsplit(url)
        host, port = split.hostname or "", split.port
    except ValueError:
        host, port, split = "", None, urlsplit("")
    known = {entry.port: entry.label for entry in scene.fleet.entries} if scene.fleet else {}
    if host not in ("127.0.0.1", "localhost", "::1"):
        yield warn(
            "ANTHROPIC_BASE_URL leads away from this machine", fix='eval "$(ccproxy env LABEL)"'
        )
    elif port not in known:
        text = f"ANTHROPIC_BASE_URL names port {port}, which is not in the table"
        yield fail(text, fix='eval "$(ccproxy env LABEL)"')
    elif split.path.rstrip("/"):
        text = "ANTHROPIC_BASE_URL has a path; Claude Code adds /v1 itself"
        yield warn(text, fix=f'eval "$(ccproxy env {known[port]})"')
    else:
        yield ok(f"{known[port]} (port {port})")


def settings(scene: Scene) -> Iterator[Finding]:
    """Claude Code's own files win over the environment: each setting that would, by its name."""
    files = read_settings_files(scene.environ, scene.here)
    network = effective_environment(scene.environ, files)
    conflicts: dict[Conflict, None] = {}
    for config in scene.workers.values():
        variables = session(config, scene.environ, network_environ=network)
        conflicts |= dict.fromkeys(find_conflicts(variables, files))
    saved = saved_model(files)
    is_foreign = saved is not None and not is_claude_name(saved[0])
    if saved is not None and is_foreign:
        file = tilde(saved[1].path)
        text = f'{file} saves the model "{printable(saved[0])}", which is not a Claude model'
        yield warn(text, fix=f'remove "model" from {file}; a plain `claude` would request it')
    for conflict in conflicts:
        text = f"{tilde(conflict.file)} sets {conflict.variable}, which wins over `ccproxy env`"
        if conflict.is_managed:
            yield fail(text, fix="ask the administrator to remove it")
        else:
            entry = f'"{conflict.variable}" from env in {tilde(conflict.file)}'
            fix = f"remove {entry}, or use ccproxy run"
            yield fail(text, fix=fix)
    if not (conflicts or is_foreign):
        yield ok("no settings file of Claude Code is in the way")


def leftovers(scene: Scene) -> Iterator[Finding]:
    """Variables that an older session left behind."""
    found = [name for name in PROVIDER_SWITCHES if scene.environ.get(name)]
    for name in found:
        yield fail(f"{name} goes past ANTHROPIC_BASE_URL", fix=f"unset {name}")
    active = scene.environ.get("CCPROXY_ACTIVE")
    if active and scene.fleet is not None and scene.fleet.entry(active) is None:
        fix = 'eval "$(ccproxy env --unset)"'
        yield warn(f"this shell is set to {printable(active)}, which is not in the table", fix=fix)
    elif not found:
        count = sum(name in scene.environ for name in MANAGED)
        yield ok(f"{count} variables of a session are set" if count else "a clean shell")


def claude(_scene: Scene) -> Iterator[Finding]:
    """The program that all this is for."""
    program = shutil.which("claude")
    if program is None:
        fix = "npm install -g @anthropic-ai/claude-code"
        yield warn("Claude Code is not on PATH", fix=fix)
        return
    try:
        done = subprocess.run(  # noqa: S603 - the path is from which()
            [program, "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        yield warn(f"{tilde(Path(program))} --version does not answer", fix="claude doctor")
        return
    version = done.stdout.strip().splitlines()
    if done.returncode or not version:
        yield warn(f"{tilde(Path(program))} --version fails", fix="claude doctor")
    else:
        yield ok(printable(version[0])[:60])


def _is_ours(file: Path) -> bool:
    """Whether the script runs this very Python; what pip and pipx write names it."""
    if file.resolve().parent == Path(sys.executable).parent:
        return True
    try:
        with file.open("rb") as script:
            head = script.read(4096)
    except OSError:
        return False
    names_us = os.fsencode(sys.executable) in head
    return names_us or b"from ccproxy.__main__ import main" in head
