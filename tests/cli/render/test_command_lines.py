"""Commands for the user to paste."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ccproxy.cli.render.command_lines import callable_here, program

SCRIPT = f"#!{sys.executable}\nfrom ccproxy.cli.main import main\n\nmain()\n"


def install(folder: Path) -> Path:
    """Create a `ccproxy` in *folder* like pip."""
    folder.mkdir(parents=True)
    script = folder / "ccproxy"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    return script


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a ccproxy outside of PATH, which contains only the folder `on path`."""
    monkeypatch.setenv("PATH", str(tmp_path / "on path"))
    return install(tmp_path / ".venv" / "bin")


def test_a_program_that_is_not_on_path_keeps_its_path(installed):
    assert program(str(installed)) == str(installed)


def test_a_program_on_path_is_called_by_its_name(installed, tmp_path):
    (tmp_path / "on path").mkdir()
    (tmp_path / "on path" / "ccproxy").symlink_to(installed)
    assert program(str(installed)) == "ccproxy"


def test_another_one_on_path_is_not_this_one(installed, tmp_path):
    other = install(tmp_path / "on path")
    assert program(str(installed)) == str(installed)
    assert program(str(other)) == "ccproxy"


@pytest.mark.parametrize("invoked", ["ccproxy", "/x/ccproxy/__main__.py", "-c", ""])
def test_other_names_are_replaced_by_ccproxy(invoked, installed):
    assert program(invoked) == "ccproxy"


def test_a_path_with_spaces_can_be_pasted(installed, tmp_path):
    assert program(str(tmp_path / "my tools" / "ccproxy")) == f"'{tmp_path}/my tools/ccproxy'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Next:  ccproxy run A -- claude", "Next:  bin/ccproxy run A -- claude"),
        ("fix: ccproxy stop; ccproxy start", "fix: bin/ccproxy stop; bin/ccproxy start"),
        ('eval "$(ccproxy env A)"', 'eval "$(bin/ccproxy env A)"'),
        ("fix: ccproxy --help", "fix: bin/ccproxy --help"),
        ("ccproxy itself failed", "ccproxy itself failed"),
        ("install ccproxy with Python", "install ccproxy with Python"),
        ("see /opt/ccproxy start", "see /opt/ccproxy start"),
        ("port in ccproxy.toml", "port in ccproxy.toml"),
    ],
)
def test_only_commands_are_renamed(text, expected, installed, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bin/ccproxy"])
    assert callable_here(text) == expected


def test_a_command_shows_how_to_call_it_again(installed, home):
    def result(*args):
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
        command = [os.path.relpath(installed, home), *args]
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        return done.stdout + done.stderr

    assert "Next:  .venv/bin/ccproxy start" in result("status")
    assert "fix: .venv/bin/ccproxy start" in result("keys", "kimi-k2", "reset")
    assert "fix: .venv/bin/ccproxy status --help" in result("status", "--nonsense")
