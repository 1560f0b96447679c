"""The mod of `ccproxy run --pane`: its files, and the variables that load it."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path

from ccproxy.cli.session.pane_environment import FOLDER, PLUGINS, pane_environment

ROOT = Path(__file__).parents[3]


def variables(**environ: str) -> dict[str, str]:
    return pane_environment(
        environ, python="/venv/bin/python", table=Path("/a b/ccproxy.toml"), status_line="line"
    )


def test_mods_of_the_user_stay():
    assert variables()[PLUGINS] == str(FOLDER)
    assert variables(**{PLUGINS: f"/mine:{FOLDER}"})[PLUGINS] == f"/mine:{FOLDER}"


def test_the_commands_can_be_run_by_a_shell():
    assert variables()["CCPROXY_PANE_SESSION"] == "line --lines"
    words = shlex.split(variables()["CCPROXY_PANE_FLEET"])
    assert words[:6] == ["/venv/bin/python", "-P", "-m", "ccproxy", "--config", "/a b/ccproxy.toml"]


def test_every_file_of_the_mod_is_installed():
    (name,) = json.loads((FOLDER / "hooks/hooks.json").read_text())["modules"]
    assert (FOLDER / "hooks" / name).is_file()
    assert json.loads((FOLDER / ".claude-plugin/plugin.json").read_text())["name"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["ccproxy"]
    package = ROOT / "ccproxy"
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    assert {path for path in FOLDER.rglob("*") if path.is_file()} <= packed
