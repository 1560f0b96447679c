"""`ccproxy remove`: the entry is removed, its proxy stops, its files remain."""

from __future__ import annotations

import pytest

from ccproxy.config.fleet import load_fleet
from tests.cli.conftest import KIMI, write_env
from tests.cli.terminal import Terminal


def labels(home) -> list[str]:
    return [entry.label for entry in load_fleet(home / "ccproxy.toml").entries]


def test_a_running_proxy_is_stopped(demo, process, ccproxy):
    assert process("start").returncode == 0
    settings = demo / "state/claude/Other.json"
    settings.parent.mkdir()
    settings.write_text("{}")
    done = process("remove", "other", "--yes")
    assert (done.returncode, done.stdout) == (0, "Removed Other from ccproxy.toml.\n"), done.stderr
    assert "Stopped Other.\n" in done.stderr
    assert labels(demo) == ["Demo"]
    assert not settings.exists()
    assert "Other" not in process("status").stdout
    assert process("status", "demo").returncode == 0


def test_the_last_running_proxy_is_stopped(demo, process):
    assert process("start").returncode == 0
    write_env(demo, "demo", "PROVIDER=demo\n")
    assert process("remove", "other", "--yes").returncode == 0
    done = process("remove", "demo", "--yes", "--delete-env")
    assert (done.returncode, "Stopped Demo.\n" in done.stderr) == (0, True), done.stderr
    assert not (demo / "envs/demo.env").exists()
    assert "ready" not in process("status").stdout


def test_the_env_file_is_kept_or_deleted(home, ccproxy):
    done = ccproxy("remove", "kimi-k2", "--yes")
    assert (done.exit_code, done.stdout) == (0, "Removed Kimi-K2 from ccproxy.toml.\n")
    assert done.stderr == "Kept envs/kimi.env with its keys; to delete it:  rm envs/kimi.env\n"
    done = ccproxy("remove", "glm-4.6", "--yes", "--delete-env")
    assert done.exit_code == 0, done.stderr
    assert "Deleted envs/glm.env." in done.stdout
    assert [path.name for path in (home / "envs").iterdir()] == ["kimi.env"]


def test_a_shared_env_file_is_not_deleted(home, ccproxy):
    table = home / "ccproxy.toml"
    table.write_text(table.read_text().replace("envs/glm.env", "envs/kimi.env"))
    done = ccproxy("remove", "kimi-k2", "--yes", "--delete-env")
    assert (done.exit_code, "also used by GLM-4.6" in done.stderr) == (2, True)
    assert len(labels(home)) == 2


@pytest.mark.parametrize(("answer", "code", "remaining"), [("n\n", 130, 2), ("y\n", 0, 1)])
def test_at_a_terminal_removal_is_confirmed(answer, code, remaining, home):
    terminal = Terminal("remove", "kimi-k2")
    terminal.wait_for("Remove Kimi-K2 (port 18081)? [y/N]: ")
    terminal.type(answer)
    assert terminal.end() == code
    assert len(labels(home)) == remaining


def test_without_a_terminal_yes_is_required(home, ccproxy):
    done = ccproxy("remove", "kimi-k2")
    assert done.exit_code == 2
    assert "fix: ccproxy remove Kimi-K2 --yes\n" in done.stderr
    done = ccproxy("remove", "kimi-k2", "--delete-env")
    assert "fix: ccproxy remove Kimi-K2 --yes --delete-env\n" in done.stderr
    assert len(labels(home)) == 2


def test_a_removed_label_can_be_added_again(home, ccproxy):
    assert ccproxy("remove", "kimi-k2", "--yes", "--delete-env").exit_code == 0
    words = ["--preset", "kimi", "--label", "Kimi-K2", "--key-stdin", "--no-input"]
    done = ccproxy("init", *words, input="sk-again-0123456789abcdef")
    assert done.exit_code == 0, done.stderr
    assert labels(home) == ["GLM-4.6", "Kimi-K2"]
    write_env(home, "kimi", KIMI)
