"""Checks of PATH, HTTP proxies, Claude Code and the settings that override `ccproxy env`."""

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
    ACTIVE,
    MANAGED,
    OWN_KEY,
    PROVIDER_SWITCHES,
    TOKEN,
    is_claude_name,
    session,
)
from ccproxy.cli.session.claude_settings import (
    Conflict,
    SettingsFile,
    effective_environment,
    find_conflicts,
    read_settings_files,
    saved_model,
)
from ccproxy.text import printable

CLAUDE_LIMIT_SECONDS = 10.0
_PROXY_VARIABLES = tuple(
    name
    for scheme in ("http", "https", "all")
    for name in (f"{scheme}_proxy".upper(), f"{scheme}_proxy")
)
_LOOPBACK = {"127.0.0.1", "localhost"}
_SET_SHELL = 'eval "$(ccproxy env LABEL)"'


def path(scene: Scene) -> Iterator[Finding]:
    """Check that `ccproxy` on PATH is this program and that no other program has its name."""
    folders = [folder for folder in scene.environ.get("PATH", "").split(os.pathsep) if folder]
    programs = [Path(folder, "ccproxy") for folder in dict.fromkeys(folders)]
    programs = [file for file in programs if os.access(file, os.X_OK) and file.is_file()]
    foreign = [file for file in programs if not _is_this_ccproxy(file)]
    folder = Path(sys.executable).parent
    if foreign and programs[0] in foreign:
        text = f"ccproxy in this shell is another program: {tilde(programs[0])}"
        yield fail(text, fix=f'export PATH="{folder}:$PATH"')
    elif foreign:
        text = f"another program named ccproxy is on PATH: {tilde(foreign[0])}"
        yield warn(text, fix=f"remove it, or put {folder} before it on PATH")
    else:
        yield ok(tilde(programs[0]) if programs else "not on PATH; called as a module")


def proxies(scene: Scene) -> Iterator[Finding]:
    """Check that Claude Code does not use an HTTP proxy for this machine's ports."""
    files = read_settings_files(scene.environ, scene.cwd)
    sources: list[tuple[str, dict[str, str]]] = [("the environment", dict(scene.environ))]
    sources += [
        (tilde(file.path), effective_environment(scene.environ, [file]))
        for file in files
        if any(name.lower() in {*_PROXY_VARIABLES, "no_proxy"} for name in file.env)
    ]
    findings = []
    for source, environ in sources:
        names = [name for name in _PROXY_VARIABLES if environ.get(name)]
        listed = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
        hosts = {host.strip() for host in listed.split(",")}
        if not names:
            continue
        if "*" in hosts or hosts >= _LOOPBACK:
            findings.append(ok(f"{names[0]} in {source}, but not for this machine"))
        else:
            text = f"{names[0]} is set in {source}, and NO_PROXY lacks localhost and 127.0.0.1"
            fix = "set NO_PROXY=localhost,127.0.0.1,::1 there   (ccproxy run does this)"
            findings.append(fail(text, fix=fix))
    yield from findings or [ok("no HTTP proxy is set")]


def credentials(scene: Scene) -> Iterator[Finding]:
    """Check for conflicting credentials; Claude Code warns if there are two."""
    environ = scene.environ
    if environ.get(OWN_KEY) and environ.get(TOKEN):
        yield warn(f"{OWN_KEY} and {TOKEN} are both set", fix=f"unset {OWN_KEY}")
    elif environ.get(OWN_KEY):
        text = f"{OWN_KEY} is set: a plain `claude` uses that account"
        yield warn(text, fix=f"{_SET_SHELL} or ccproxy run LABEL -- claude")
    else:
        yield ok(f"{TOKEN} alone" if environ.get(TOKEN) else "none in this shell")


def base_url(scene: Scene) -> Iterator[Finding]:
    """Check the address to which Claude Code in this shell sends requests."""
    url = scene.environ.get("ANTHROPIC_BASE_URL", "")
    if not url:
        yield ok("not set in this shell")
        return
    try:
        split = urlsplit(url)
        host = split.hostname or ""
        port = split.port or {"http": 80, "https": 443}.get(split.scheme)
    except ValueError:
        host, port, split = "", None, urlsplit("")
    labels = {entry.port: entry.label for entry in scene.fleet.entries} if scene.fleet else {}
    if host not in ("127.0.0.1", "localhost", "::1"):
        yield warn("ANTHROPIC_BASE_URL does not point to this machine", fix=_SET_SHELL)
    elif port not in labels:
        text = f"ANTHROPIC_BASE_URL has port {port}, which is not in the table"
        yield fail(text, fix=_SET_SHELL)
    elif split.path.rstrip("/"):
        text = "ANTHROPIC_BASE_URL has a path, but Claude Code adds /v1 itself"
        yield warn(text, fix=_SET_SHELL.replace("LABEL", labels[port]))
    else:
        yield ok(f"{labels[port]} (port {port})")


def settings(scene: Scene) -> Iterator[Finding]:
    """Check for settings files of Claude Code that override a session's environment."""
    files = read_settings_files(scene.environ, scene.cwd)
    network = effective_environment(scene.environ, files)
    sessions = [
        session(config, scene.environ, network_environ=network) for config in scene.workers.values()
    ]
    findings = [_conflict(one) for each in sessions for one in find_conflicts(each, files)]
    saved = saved_model(files)
    if saved is not None and not is_claude_name(saved[0]):
        findings.insert(0, _saved_model(*saved))
    unique = dict.fromkeys(findings)  # sessions of several entries set the same variable
    yield from unique or [ok("no settings file of Claude Code overrides a session")]


def _saved_model(model: str, file: SettingsFile) -> Finding:
    name = tilde(file.path)
    text = f'{name} saves the model "{printable(model)}", which is not a Claude model'
    return warn(text, fix=f'remove "model" from {name}; a plain `claude` would request it')


def _conflict(conflict: Conflict) -> Finding:
    file = tilde(conflict.file.path)
    text = f"{file} sets {conflict.variable}, which overrides `ccproxy env`"
    if conflict.file.is_managed:
        return fail(text, fix="ask your administrator to remove it")
    return fail(text, fix=f'remove "{conflict.variable}" from env in {file}, or use ccproxy run')


def leftovers(scene: Scene) -> Iterator[Finding]:
    """Check for variables from an earlier session or another product."""
    switches = [name for name in PROVIDER_SWITCHES if scene.environ.get(name)]
    for name in switches:
        text = f"{name} is set, so Claude Code ignores ANTHROPIC_BASE_URL"
        yield fail(text, fix=f"unset {name}")
    active = scene.environ.get(ACTIVE)
    if active and scene.fleet is not None and scene.fleet.entry(active) is None:
        text = f"this shell uses {printable(active)}, which is not in the table"
        yield warn(text, fix='eval "$(ccproxy env --unset)"')
    elif not switches:
        count = sum(name in scene.environ for name in MANAGED)
        yield ok(f"{count} variables of a session are set" if count else "no session in this shell")


def claude(_scene: Scene) -> Iterator[Finding]:
    """Report the version of Claude Code."""
    program = shutil.which("claude")
    if program is None:
        fix = "npm install -g @anthropic-ai/claude-code"
        yield warn("Claude Code is not on PATH", fix=fix)
        return
    try:
        process = subprocess.run(  # noqa: S603 - the path is from which()
            [program, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=CLAUDE_LIMIT_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        yield warn(f"{tilde(Path(program))} --version does not respond", fix="claude doctor")
        return
    version = process.stdout.strip().splitlines()
    if process.returncode or not version:
        yield warn(f"{tilde(Path(program))} --version fails", fix="claude doctor")
    else:
        yield ok(printable(version[0])[:60])


def _is_this_ccproxy(file: Path) -> bool:
    """Return True if the script runs this Python, as scripts made by pip and pipx do."""
    if file.resolve().parent == Path(sys.executable).parent:
        return True
    try:
        with file.open("rb") as script:
            head = script.read(4096)
    except OSError:
        return False
    return os.fsencode(sys.executable) in head or b"from ccproxy.__main__ import main" in head
