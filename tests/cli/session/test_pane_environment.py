"""The mod of `ccproxy run --pane`: its files, and the variables that load it."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path

from ccproxy.cli.session.pane_environment import (
    PLUGINS,
    SOURCE,
    copy_pane,
    pane_environment,
)

ROOT = Path(__file__).parents[3]


def variables(**environ: str) -> dict[str, str]:
    return pane_environment(
        environ,
        Path("/mod"),
        python="/venv/bin/python",
        table=["--config", "/a b/ccproxy.toml"],
        status_line="line",
    )


def test_mods_of_the_user_stay():
    assert variables()[PLUGINS] == "/mod"
    assert variables(**{PLUGINS: "/mine:/mod"})[PLUGINS] == "/mine:/mod"


def test_the_commands_can_be_run_by_a_shell():
    assert variables()["CCPROXY_PANE_SESSION"] == "line --lines"
    words = shlex.split(variables()["CCPROXY_PANE_FLEET"])
    assert words[:6] == ["/venv/bin/python", "-P", "-m", "ccproxy", "--config", "/a b/ccproxy.toml"]


def test_the_mod_is_copied_to_a_folder_that_claude_code_may_change(tmp_path):
    mod = copy_pane(tmp_path / "claude")
    assert copy_pane(tmp_path / "claude") == mod, "a second session updates it"
    (name,) = json.loads((mod / "hooks/hooks.json").read_text())["modules"]
    assert (mod / "hooks" / name).is_file()
    assert json.loads((mod / ".claude-plugin/plugin.json").read_text())["name"]


def test_every_file_of_the_mod_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["ccproxy"]
    package = ROOT / "ccproxy"
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    assert {path for path in SOURCE.rglob("*") if path.is_file()} <= packed
