"""install-service and uninstall-service: files, commands and crontab lines."""

from __future__ import annotations

import os
import plistlib
import pwd
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ccproxy.cli.service import install as service
from ccproxy.cli.service.systemd import table_of


def calls(machine) -> list[str]:
    file = machine / "calls"
    return file.read_text().splitlines() if file.exists() else []


def unit_file() -> Path:
    return Path(os.environ["HOME"], ".config/systemd/user/ccproxy.service")


def test_a_users_unit(home, machine, ccproxy):
    result = ccproxy("install-service", "--systemd", "--now")
    assert result.exit_code == 0, result.stderr
    assert table_of(unit_file().read_bytes()) == home / "ccproxy.toml"
    assert calls(machine) == [
        "systemctl --user daemon-reload",
        "systemctl --user enable ccproxy.service",
        "systemctl --user start ccproxy.service",
    ]
    assert "loginctl enable-linger" in result.stderr
    assert unit_file().stat().st_mode & 0o777 == 0o644
    assert list(unit_file().parent.iterdir()) == [unit_file()], "no draft is left"


def test_the_unit_runs_this_python_from_anywhere(home, machine, ccproxy):
    ccproxy("install-service", "--systemd")
    (line,) = (row for row in unit_file().read_text().splitlines() if row.startswith("ExecStart="))
    words = shlex.split(line.removeprefix("ExecStart=:"))
    assert words == [
        *(sys.executable, "-P", "-m", "ccproxy", "--config", str(home / "ccproxy.toml"), "up")
    ]
    done = subprocess.run(
        [*words[:-1], "check"], cwd="/", capture_output=True, text=True, check=False,
        env={"PYTHONPATH": os.pathsep.join(sys.path), "HOME": os.environ["HOME"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("version", "settings"),
    [
        pytest.param("252", ["RestartSec=5"], id="before 254"),
        pytest.param("254", ["RestartSec=1", "RestartSteps=5", "RestartMaxDelaySec=30"], id="254"),
        pytest.param(
            "v256~rc3", ["RestartSec=1", "RestartSteps=5", "RestartMaxDelaySec=30"], id="unknown"
        ),
    ],
)
def test_a_unit_has_only_settings_that_this_systemd_supports(
    version, settings, home, machine, ccproxy, monkeypatch
):
    monkeypatch.setenv("VERSION", version)
    assert ccproxy("install-service", "--systemd").exit_code == 0
    lines = unit_file().read_text().splitlines()
    assert [line for line in lines if line.startswith("Restart") and line[7] in "SM"] == settings


def test_installing_again_changes_nothing(home, machine, ccproxy):
    ccproxy("install-service", "--systemd")
    before = unit_file().read_bytes()
    result = ccproxy("install-service", "--systemd")
    assert "Unchanged:" in result.stdout
    assert unit_file().read_bytes() == before


def test_uninstall_undoes_install(home, machine, ccproxy):
    ccproxy("install-service", "--systemd")
    result = ccproxy("uninstall-service")
    assert (result.exit_code, unit_file().exists()) == (0, False)
    assert calls(machine)[-2:] == [
        "systemctl --user disable --now ccproxy.service",
        "systemctl --user daemon-reload",
    ]
    assert "No service" in ccproxy("uninstall-service").stdout


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("[Service]\nExecStart=/theirs\n", id="not ours"),
        pytest.param("# The fleet of /other/ccproxy.toml\n", id="another fleet's"),
    ],
)
def test_a_file_that_is_not_this_fleets_is_left_alone(content, home, machine, ccproxy):
    unit_file().parent.mkdir(parents=True)
    unit_file().write_text(content)
    result = ccproxy("install-service", "--systemd")
    assert result.exit_code == 2
    assert "--name" in result.stderr
    assert "No service" in ccproxy("uninstall-service").stdout
    assert unit_file().read_text() == content
    assert calls(machine) == []
    assert ccproxy("install-service", "--systemd", "--name", "mine").exit_code == 0


def test_a_symbolic_link_instead_of_the_unit_is_not_followed(home, machine, ccproxy, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    unit_file().parent.mkdir(parents=True)
    unit_file().symlink_to(victim)
    assert ccproxy("install-service", "--systemd").exit_code == 2
    assert victim.read_text() == "theirs"


@pytest.mark.parametrize("command", [["uninstall-service"], ["uninstall", "--yes"]])
def test_services_of_every_name_are_removed(command, home, machine, ccproxy):
    installed = [
        ["--systemd"],
        ["--systemd", "--name", "mine"],
        ["--systemd", "--system", "--name", "work.2"],
        ["--launchd", "--name", "mine"],
    ]
    for words in installed:
        assert ccproxy("install-service", *words).exit_code == 0
    theirs = unit_file().with_name("theirs.service")
    theirs.write_text("# The fleet of /other/ccproxy.toml\n")
    assert ccproxy(*command, "--name", "other").exit_code == 0
    assert ccproxy(*command, "--name", "work.2").exit_code == 0
    folder, agents = unit_file().parent, Path(os.environ["HOME"], "Library/LaunchAgents")
    assert sorted(file.name for file in folder.iterdir()) == [
        *("ccproxy.service", "mine.service", "theirs.service")
    ]
    assert ccproxy(*command).exit_code == 0
    assert [*folder.iterdir(), *service.SYSTEM_UNITS.iterdir(), *agents.iterdir()] == [theirs]


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a b", "-x", "x\n"])
def test_invalid_unit_names_are_refused(name, home, machine, ccproxy):
    result = ccproxy("install-service", "--systemd", "--name", name)
    assert result.exit_code == 2
    assert not unit_file().parent.exists()


def test_the_system_unit(home, machine, ccproxy):
    result = ccproxy("install-service", "--systemd", "--system")
    assert result.exit_code == 0, result.stderr
    text = (service.SYSTEM_UNITS / "ccproxy.service").read_text()
    assert f"User={pwd.getpwuid(os.getuid()).pw_name}" in text
    assert calls(machine)[0] == "systemctl daemon-reload"
    assert ccproxy("uninstall-service").exit_code == 0
    assert not (service.SYSTEM_UNITS / "ccproxy.service").exists()


def test_running_as_root_is_warned_about(home, machine, ccproxy):
    if os.getuid() != 0:
        pytest.skip("root only")
    result = ccproxy("install-service", "--systemd", "--system")
    assert "runs as root" in result.stderr


def test_a_failure_names_the_commands_to_run(home, machine, ccproxy, monkeypatch):
    monkeypatch.setenv("FAILS", "1")
    result = ccproxy("install-service", "--systemd", "--now")
    assert result.exit_code == 1
    assert "fix: systemctl --user daemon-reload && systemctl --user enable" in result.stderr


def test_a_broken_configuration_is_not_installed(home, machine, ccproxy):
    (home / "envs/kimi.env").write_text("PROVIDER_BASE_URL=nonsense\n")
    for kind in ("--systemd", "--launchd", "--cron"):
        assert ccproxy("install-service", kind).exit_code == 78
    assert calls(machine) == []
    assert (machine / "tab").read_bytes() == b""


@pytest.mark.parametrize("kind", ["--systemd", "--launchd", "--cron"])
@pytest.mark.parametrize("option", [[], ["--dry-run"]], ids=["install", "dry run"])
def test_a_proxy_without_a_table_is_not_installed(kind, option, single_proxy, machine, ccproxy):
    result = ccproxy("install-service", kind, *option)
    assert result.exit_code in (2, 78)
    assert result.stdout == ""
    assert "ccproxy init" in result.stderr
    assert (unit_file().exists(), calls(machine), (machine / "tab").read_bytes()) == (
        False,
        [],
        b"",
    )


@pytest.mark.parametrize("command", [["uninstall-service"], ["uninstall", "--yes"]])
def test_uninstalling_without_a_table_names_the_folder_and_the_process(
    command, single_proxy, machine, ccproxy
):
    result = ccproxy(*command)
    assert result.exit_code == 2
    assert "runs demo without ccproxy.toml and without a service" in result.stderr
    assert "logs and state are in ~/.local/state/ccproxy" in result.stderr
    assert f"fix: kill {os.getpid()}; rm -r {single_proxy} once" in result.stderr
    assert ccproxy("statusline", "--install", "--yes").exit_code == 0
    result = ccproxy(*command)
    assert f"fix: ccproxy statusline --uninstall; kill {os.getpid()}" in result.stderr
    assert single_proxy.exists()


def test_a_dry_run_writes_nothing(home, machine, ccproxy):
    for kind in ("--systemd", "--launchd", "--cron"):
        result = ccproxy("install-service", kind, "--dry-run")
        assert result.exit_code == 0
        assert str(home / "ccproxy.toml") in result.stdout
    assert (unit_file().exists(), calls(machine), (machine / "tab").read_bytes()) == (
        False,
        [],
        b"",
    )


def test_launchd(home, machine, ccproxy):
    assert ccproxy("install-service", "--launchd", "--now").exit_code == 0
    (file,) = Path(os.environ["HOME"], "Library/LaunchAgents").iterdir()
    agent = plistlib.loads(file.read_bytes())
    assert agent["ProgramArguments"][0] == sys.executable
    assert calls(machine)[-1] == f"launchctl bootstrap gui/{os.getuid()} {file}"
    assert ccproxy("uninstall-service").exit_code == 0
    assert not file.exists()


# cron.

OTHERS = (
    b"MAILTO=me\n*/5 * * * *\tdate +\\%H\xff\n@reboot y # ccproxy start of /other/ccproxy.toml\n"
)


@pytest.mark.parametrize("before", [b"", OTHERS, b"0 1 * * * x\r\n\x0c# odd\r\n"])
def test_other_lines_of_the_crontab_are_unchanged(before, home, machine, ccproxy):
    tab = machine / "tab"
    tab.write_bytes(before)
    assert ccproxy("install-service", "--cron").exit_code == 0
    once = tab.read_bytes()
    line = once.removeprefix(before).decode()
    assert line.startswith(
        f"@reboot {sys.executable} -m ccproxy --config {home}/ccproxy.toml start"
    )
    assert line.count("\n") == 1
    assert "already" in ccproxy("install-service", "--cron").stdout
    assert tab.read_bytes() == once
    assert 'Removed the line "ccproxy start"' in ccproxy("uninstall-service").stdout
    assert tab.read_bytes() == before


def test_the_nightly_cleanup_is_kept(home, machine, ccproxy):
    ccproxy("cleanup", "--install-cron")
    cleanup = (machine / "tab").read_bytes()
    ccproxy("install-service", "--cron")
    ccproxy("uninstall-service")
    assert (machine / "tab").read_bytes() == cleanup
