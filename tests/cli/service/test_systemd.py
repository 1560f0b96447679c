"""The systemd unit, parsed by an independent reader and by systemd itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ccproxy.cli.service.systemd import (
    DRAIN_SECONDS,
    LONGEST_HOME,
    SystemUser,
    quoted,
    table_of,
    unit_for,
)
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError

ALICE = SystemUser(name="alice", group="users")
ODD = [
    "/a b",
    "/100%h",
    "/it's",
    '/"quoted"',
    "/$HOME",
    "/${HOME}",
    "/ünï",
    "/# hash",
    "/; semicolon",
    "/back\\slash",
    "/\\x41\\n",
    "/%%",
]


def fleet_at(home) -> Fleet:
    return Fleet(home=Path(home), file=Path(home) / "ccproxy.toml", entries=())


def settings(unit: str) -> dict[str, list[str]]:
    """Return a unit's settings and their values, with lines split in systemd's way."""
    result: dict[str, list[str]] = {}
    for line in unit.splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            result.setdefault(name, []).append(value)
    return result


def words(value: str) -> list[str]:
    """Parse quoted arguments by the rules of systemd.syntax(7) and systemd.unit(5)."""
    pieces = re.findall(r'"((?:[^"\\]|\\.)*)"', value)
    plain = [re.sub(r"\\(.)", r"\1", piece) for piece in pieces]
    assert all("%" not in term.replace("%%", "") for term in plain), "a specifier was left open"
    return [term.replace("%%", "%") for term in plain]


@pytest.mark.parametrize("user", [None, ALICE], ids=["user", "system"])
def test_the_unit_restarts_and_stops_correctly(user):
    result = settings(unit_for(fleet_at("/h"), command=["/bin/x"], user=user))
    for name, value in {
        "Type": "notify",
        "Restart": "on-failure",
        "RestartSec": "1",
        "RestartSteps": "5",
        "RestartMaxDelaySec": "30",
        "StartLimitIntervalSec": "0",
        "RestartPreventExitStatus": "78",
        "KillMode": "mixed",
        "UMask": "0077",
        "LimitCORE": "0",
        "NoNewPrivileges": "yes",
    }.items():
        assert result[name] == [value]
    assert int(result["TimeoutStopSec"][0]) > DRAIN_SECONDS
    assert int(result["WatchdogSec"][0]) > 0


def test_a_system_unit_runs_as_the_tables_owner_and_writes_to_its_home_only():
    result = settings(unit_for(fleet_at("/srv/a b"), command=["/bin/x"], user=ALICE))
    assert (result["User"], result["Group"]) == (["alice"], ["users"])
    assert result["ProtectSystem"] == ["strict"]
    assert words(result["ReadWritePaths"][0]) == ["/srv/a b"]
    assert result["WantedBy"] == ["multi-user.target"]


def test_a_users_unit_has_only_settings_that_user_units_support():
    result = settings(unit_for(fleet_at("/h"), command=["/bin/x"]))
    assert not {"User", "ProtectSystem", "PrivateDevices", "CapabilityBoundingSet"} & set(result)
    assert result["WantedBy"] == ["default.target"]


@pytest.mark.parametrize(
    ("length", "private"), [(LONGEST_HOME, ["yes"]), (LONGEST_HOME + 1, ["no"])]
)
def test_control_sockets_in_tmp_stay_reachable(length, private):
    home = "/" + "x" * (length - 1)
    assert settings(unit_for(fleet_at(home), command=["/x"], user=ALICE))["PrivateTmp"] == private


@pytest.mark.parametrize("folder", ODD)
def test_any_path_reads_back(folder):
    command = [f"{folder}/python", "-m", "ccproxy", "--config", f"{folder}/ccproxy.toml"]
    unit = unit_for(fleet_at(folder), command=command, user=ALICE)
    result = settings(unit)
    (start,) = result["ExecStart"]
    assert start.startswith(":"), "without it a dollar sign begins a variable"
    assert [term for term in words(start) if term != "/usr/bin/env"] == command
    assert words(result["ReadWritePaths"][0]) == [folder]
    assert table_of(unit.encode()) == Path(folder) / "ccproxy.toml"


@pytest.mark.parametrize("char", ["\n", "\r", "\0", "\x1b", "\udce9"])
def test_a_path_that_would_add_a_line_is_refused(char):
    with pytest.raises(CcproxyError, match="line break"):
        unit_for(fleet_at(f"/a{char}ExecStartPre=/bin/evil"), command=["/x"])
    with pytest.raises(CcproxyError, match="line break"):
        quoted(f"a{char}b")


@pytest.mark.parametrize(
    "unit", [b"", b"[Unit]\nDescription=theirs\n", b"# another comment\n", b"\xff\0"]
)
def test_a_unit_of_another_program_has_no_table(unit):
    assert table_of(unit) is None


# Verification by systemd itself.

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)
SINCE_254 = {"RestartSteps", "RestartMaxDelaySec"}


def analyze(*args) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, args)], capture_output=True, text=True, check=False
    )


def complaints(output: str, file: Path) -> list[str]:
    """Return systemd's messages about *file*, without those about names new in later versions."""
    lines = [line for line in output.splitlines() if str(file) in line or file.name in line]
    unknown = re.compile(r"Unknown key (?:name )?'(\w+)'")
    return [line for line in lines if not ((key := unknown.search(line)) and key[1] in SINCE_254)]


def system_unit(folder: Path, home: Path, **more) -> Path:
    (home / "bin").mkdir(parents=True, exist_ok=True)
    python = home / "bin/python"
    python.symlink_to(sys.executable)
    user = SystemUser(name="daemon", group="daemon")
    command = [str(python), "-P", "-m", "ccproxy", "--config", str(home / "ccproxy.toml"), "up"]
    file = folder / "ccproxy.service"
    file.write_text(unit_for(fleet_at(home), command=command, user=user) + more.get("extra", ""))
    return file


@needs_systemd
@pytest.mark.parametrize("folder", ["plain", "a b", "100%h", "$HOME", "it's", 'a"b', "back\\slash"])
def test_systemd_accepts_the_unit(folder, tmp_path):
    # It also checks that the program of ExecStart= exists at the parsed path.
    file = system_unit(tmp_path, tmp_path / folder)
    done = analyze("verify", file)
    assert complaints(done.stderr, file) == []
    assert "not executable" not in done.stderr


@needs_systemd
def test_systemd_reports_an_invalid_unit(tmp_path):
    file = system_unit(tmp_path, tmp_path / "x", extra="[Service]\nNoSuchSetting=1\n")
    assert len(complaints(analyze("verify", file).stderr, file)) == 1


@needs_systemd
def test_the_system_unit_exposes_little(tmp_path):
    file = system_unit(tmp_path, tmp_path / "x")
    output = analyze("security", "--offline=true", file).stdout
    result = re.search(r"Overall exposure level .*: ([0-9.]+)", output)
    assert result, output
    assert float(result[1]) <= 2.5
