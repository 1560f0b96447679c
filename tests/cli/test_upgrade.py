"""`pipx upgrade` while the fleet runs, with real wheels of two versions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import urllib.request

import pytest

import ccproxy
from tests.cli.conftest import health
from tests.fleet import ROOT
from tests.ports import free_port

NEXT = "99.0.0"


def build_wheel(folder, version):
    """Build a wheel of the source in this folder, with *version*."""
    source = folder / version
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "ccproxy", source / "ccproxy", ignore=ignored)
    init = source / "ccproxy/__init__.py"
    init.write_text(init.read_text().replace(ccproxy.__version__, version))
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, folder],
        cwd=source, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = folder.glob(f"*-{version}-*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment with pip that uses the tests' dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = folder / "venv/lib" / version / "site-packages"
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_an_upgrade_reaches_a_running_fleet(environment, tmp_path, monkeypatch):
    python, command = environment / "venv/bin/python", environment / "venv/bin/ccproxy"
    monkeypatch.chdir(tmp_path)

    def run(*words):
        done = subprocess.run(
            list(map(str, words)), capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(version):
        wheel = build_wheel(environment, version)
        pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--upgrade")
        run(python, *pip, wheel)

    def answer():
        body = {"model": "opus", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        url = f"http://127.0.0.1:{port}/v1/messages"
        request = urllib.request.Request(url, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)["content"]

    install(ccproxy.__version__)
    port = free_port()
    (tmp_path / "ccproxy.toml").write_text(f'proxies = ["{port}:envs/demo.env:Demo"]\n')
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/demo.env").write_text("PROVIDER=demo\n")
    (tmp_path / "envs/demo.env").chmod(0o600)
    run(command, "start")
    try:
        assert run(command, "version") == f"ccproxy {ccproxy.__version__}\n"
        install(NEXT)
        versions = run(command, "version")
        assert f"running {ccproxy.__version__}, installed {NEXT}" in versions
        assert answer(), "the old processes go on"
        run(command, "reload")
        assert health(port)["version"] == NEXT
        assert run(command, "version") == f"ccproxy {NEXT}\n"
        assert answer()
    finally:
        message = run(command, "uninstall", "--yes")
    assert "stop the fleet" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ccproxy.toml", "envs"]
