"""`ccproxy uninstall`: the listed files are removed, all others remain."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest


@pytest.fixture
def installed(home, machine, ccproxy):
    """Install a service, both cron lines, a status line around the user's own, and state files."""
    (machine / "tab").write_bytes(b"0 5 * * * backup\n")
    settings().parent.mkdir()
    own = {"type": "command", "command": "my-line"}
    settings().write_text(json.dumps({"statusLine": own, "model": "opus"}))
    for words in (
        ("install-service", "--systemd"),
        ("install-service", "--cron"),
        ("cleanup", "--install-cron"),
        ("statusline", "--install", "--yes"),
    ):
        assert ccproxy(*words).exit_code == 0
    for name in ("state/usage.db", "pids/Kimi-K2.json", "logs/Kimi-K2.log", "logs/mine.txt"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text("x")
    return home


def settings() -> Path:
    return Path(os.environ["HOME"], ".claude/settings.json")


def unit() -> Path:
    return Path(os.environ["HOME"], ".config/systemd/user/ccproxy.service")


def test_the_local_table_is_kept_and_named(installed, ccproxy):
    (installed / "ccproxy.local.toml").write_text("")
    done = ccproxy("uninstall", "--yes")
    assert "Kept: ccproxy.toml, ccproxy.local.toml and the env files" in done.stdout
    assert (installed / "ccproxy.local.toml").exists()


def test_everything_is_listed_first_and_removed(installed, machine, ccproxy):
    done = ccproxy("uninstall", "--yes")
    assert done.exit_code == 0, done.stderr
    for line in (
        "remove the service ~/.config/systemd/user/ccproxy.service",
        'remove the line "ccproxy start" of your crontab',
        'remove the line "ccproxy cleanup" of your crontab',
        "remove the status line in ~/.claude/settings.json",
        "delete logs/Kimi-K2.log",
        "Kept: ccproxy.toml and the env files",
        "pipx uninstall ccproxy-fleet",
    ):
        assert line in done.stdout
    assert not unit().exists()
    assert (machine / "tab").read_bytes() == b"0 5 * * * backup\n"
    own = {"type": "command", "command": "my-line"}
    assert json.loads(settings().read_text()) == {"statusLine": own, "model": "opus"}
    assert sorted(path.name for path in installed.iterdir()) == ["ccproxy.toml", "envs", "logs"]
    assert [path.name for path in (installed / "logs").iterdir()] == ["mine.txt"]
    again = ccproxy("uninstall", "--yes")
    assert "Nothing is installed, and there is no state." in again.stdout


def test_services_are_removed_last(installed, ccproxy):
    """An unprivileged user who may not remove a system unit has removed everything else."""
    listed = ccproxy("uninstall", "--dry-run", "--keep-state").stdout.splitlines()
    removed = [line for line in listed if line.startswith("  remove ")]
    assert ["service" in line for line in removed] == [False, False, False, True]


def test_state_can_be_kept(installed, ccproxy):
    assert ccproxy("uninstall", "--yes", "--keep-state").exit_code == 0
    assert not unit().exists()
    assert (installed / "state/usage.db").exists()
    assert (installed / "logs/Kimi-K2.log").exists()


def test_a_dry_run_removes_nothing(installed, machine, ccproxy):
    tab = (machine / "tab").read_bytes()
    done = ccproxy("uninstall", "--dry-run")
    assert "Nothing was removed." in done.stdout
    assert unit().exists()
    assert (machine / "tab").read_bytes() == tab
    assert (installed / "state/usage.db").exists()


def test_without_a_terminal_yes_is_required(installed, ccproxy):
    done = ccproxy("uninstall")
    assert (done.exit_code, "--yes" in done.stderr) == (2, True)
    assert unit().exists()


def test_the_status_line_of_another_fleet_is_kept(installed, ccproxy, tmp_path_factory):
    others = tmp_path_factory.mktemp("other"), installed.with_name(installed.name[:-1])
    for other in others:  # the second path is the beginning of the first fleet's path
        other.mkdir(exist_ok=True)
        (other / "ccproxy.toml").write_text((installed / "ccproxy.toml").read_text())
        done = ccproxy("-c", other / "ccproxy.toml", "uninstall", "--yes")
        assert done.exit_code == 0, done.stderr
        assert unit().exists()
        assert "ccproxy.statusline" in settings().read_text()


def test_links_in_the_state_are_not_followed(installed, ccproxy, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "precious").write_text("x")
    (installed / "state/link").symlink_to(other)
    assert ccproxy("uninstall", "--yes").exit_code == 0
    assert (other / "precious").exists()


@pytest.mark.parametrize("name", ["a\tb", "caf\udce9"])
def test_a_folder_whose_name_no_unit_can_contain(name, home, machine, ccproxy, tmp_path):
    table = tmp_path / name / "ccproxy.toml"
    table.parent.mkdir()
    table.write_text('proxies = ["18083:demo.env:Demo"]\n')
    for words in (["uninstall", "--yes"], ["uninstall-service"]):
        done = ccproxy("-c", table, *words)
        assert done.exit_code == 0, done.stderr
    refused = ccproxy("-c", table, "install-service", "--systemd", "--dry-run")
    assert (refused.exit_code, "fix: move the fleet" in refused.stderr) == (1, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change owners")
def test_the_service_of_a_deleted_user_is_removed(home, machine, ccproxy):
    assert ccproxy("install-service", "--systemd", "--system").exit_code == 0
    os.chown(home / "ccproxy.toml", 12345, 12345)
    assert "belongs to the unknown user" in ccproxy("doctor", "--offline").stdout
    assert "Removed" in ccproxy("uninstall-service").stdout
    assert ccproxy("uninstall", "--yes").exit_code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can delete files of others")
def test_a_link_to_a_folder_of_someone_else_is_left_alone(installed, ccproxy, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "precious").write_text("x")
    os.chown(other, 12345, 12345)
    (installed / "pids/Kimi-K2.json").unlink()
    (installed / "pids").rmdir()
    (installed / "pids").symlink_to(other)
    assert ccproxy("uninstall", "--yes").exit_code == 0
    assert (other / "precious").exists()
