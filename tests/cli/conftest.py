"""A fleet's folder, and the command line, in this process or in a separate one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ccproxy.cli.main import cli
from ccproxy.cli.service import install
from ccproxy.cli.single_proxy import default_home
from ccproxy.config.fleet import load_fleet
from ccproxy.supervisor.processes.identity import identify
from ccproxy.supervisor.state.records import RecordFolder, Spec, WorkerRecord
from tests.ports import free_port

TABLE = """\
proxies = [
  "18081:envs/kimi.env:Kimi-K2",
  "18082:envs/glm.env:GLM-4.6",
]
"""
KIMI = "PROVIDER=kimi\nPROVIDER_API_KEY=sk-kimi-secret-number-one-1111\n"
GLM = "PROVIDER=zai\nPROVIDER_API_KEY=sk-glm-secret-number-one-2222\n"
MINE = ("CCPROXY", "ANTHROPIC", "CLAUDE", "API_TIMEOUT", "NO_COLOR", "FORCE_COLOR", "XDG_")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path_factory):
    """Hide the tester's own shell variables and home from the tests."""
    for name in os.environ:
        if name.startswith(MINE) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("user")))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of a fleet of two, which is also the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ccproxy.toml").write_text(TABLE)
    write_env(tmp_path, "kimi", KIMI)
    write_env(tmp_path, "glm", GLM)
    return tmp_path


def write_env(home: Path, name: str, text: str) -> Path:
    """Write an env file that only its owner may read."""
    file = home / "envs" / f"{name}.env"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    file.chmod(0o600)
    return file


@pytest.fixture
def ccproxy():
    """Run a command line in this process; the result has exit_code, stdout and stderr."""

    def invoke(*args, **kwargs):
        return CliRunner().invoke(cli, [str(arg) for arg in args], **kwargs)

    return invoke


def command(*args):
    """Return a command line for a separate process."""
    return [sys.executable, "-m", "ccproxy", *map(str, args)]


@pytest.fixture
def process():
    """Run a command line in a separate process, and wait for it."""

    def run(*args, **kwargs):
        return subprocess.run(
            command(*args), capture_output=True, text=True, timeout=60, check=False, **kwargs
        )

    return run


@pytest.fixture
def demo(tmp_path, monkeypatch, process):
    """The folder of a fleet of two that needs no provider; it is stopped after the test."""
    monkeypatch.chdir(tmp_path)
    entries = [f'"{free_port()}:envs/demo.env:{label}"' for label in ("Demo", "Other")]
    (tmp_path / "ccproxy.toml").write_text(f"proxies = [{', '.join(entries)}]\n")
    write_env(tmp_path, "demo", "PROVIDER=demo\n")
    yield tmp_path
    done = process("-c", tmp_path / "ccproxy.toml", "stop", "--now")
    assert done.returncode == 0, done.stderr


def port_of(home: Path, label: str) -> int:
    """Return the port of an entry in the table."""
    entry = load_fleet(home / "ccproxy.toml").entry(label)
    assert entry is not None
    return entry.port


def health(port: int) -> dict[str, Any]:
    """Return the health response of the proxy on *port*."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as answer:
        return json.load(answer)


MOUNTED = """
/usr/bin/mount --bind "$1" "$1"
/usr/bin/mount -o remount,bind,ro "$1"
cd "$1"
shift
exec "$@"
"""


@pytest.fixture
def read_only():
    """Run a command line in a folder that is mounted read-only."""

    def run(folder, *words):
        inside = ["/usr/bin/unshare", "--mount", "/bin/sh", "-ec", MOUNTED, "sh", str(folder)]
        return subprocess.run(
            [*inside, *words], capture_output=True, text=True, timeout=60, check=False
        )

    if not Path("/usr/bin/unshare").exists() or run("/tmp", "/bin/true").returncode:
        pytest.skip("nothing may be mounted here")
    return lambda folder, *args: run(folder, *command(*args))


FAKE = """#!/bin/sh
if [ "$1" = --version ]; then echo "systemd ${VERSION:-255} (255.4-1)"; exit; fi
echo "$(basename "$0") $*" >> "$CALLS"
exit ${FAILS:-0}
"""
CRONTAB = """#!/bin/sh
if [ "$1" = -l ]; then cat "$CRONTAB_FILE"; else cat > "$CRONTAB_FILE"; fi
"""


@pytest.fixture
def machine(tmp_path_factory, monkeypatch):
    """A PATH with service managers that only record their arguments."""
    folder = tmp_path_factory.mktemp("bin")
    for name, text in {"systemctl": FAKE, "launchctl": FAKE, "crontab": CRONTAB}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "tab").write_bytes(b"")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(folder / "calls"))
    monkeypatch.setenv("CRONTAB_FILE", str(folder / "tab"))
    monkeypatch.setattr(install, "SYSTEM_UNITS", tmp_path_factory.mktemp("etc"))
    return folder


@pytest.fixture
def single_proxy(tmp_path, monkeypatch):
    """The home folder of a proxy without a table; this process is recorded as its worker."""
    monkeypatch.chdir(tmp_path)
    home = default_home(os.environ)
    identity = identify(os.getpid())
    assert identity is not None
    spec = Spec(label="demo", host="127.0.0.1", port=18081, env_file=".")
    record = WorkerRecord(
        home=str(home), identity=identity, nonce="0" * 32, control="", index=1, spec=spec
    )
    RecordFolder(home / "pids").write(record)
    return home
