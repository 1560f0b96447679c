"""`ccproxy cleanup`: its report, and a crontab whose other lines are unchanged."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from ccproxy.cli.service import cron
from ccproxy.config.fleet import Fleet
from ccproxy.store.history import FILE_NAME, Turn, add_new_turns
from ccproxy.store.wall_clock import WallClock

DAY = 86400.0
CRONTAB = """\
#!/bin/sh
# What cron's own program does, with a file.
case "$1" in
-l) if [ -f "$CRONTAB_FILE" ]; then cat "$CRONTAB_FILE"; else
        echo "no crontab for $(id -un)" >&2; exit 1
    fi ;;
-) cat > "$CRONTAB_FILE" ;;
*) exit 2 ;;
esac
"""
BROKEN = '#!/bin/sh\necho "you are not allowed to use this program" >&2\nexit 1\n'


def write(home, name, *, age, text="x" * 1500):
    file = home / "logs" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    os.utime(file, (time.time() - age, time.time() - age))
    return file


# Retention.


@pytest.fixture
def logs(home):
    write(home, "Kimi-K2.log", age=9 * DAY)
    write(home, "Kimi-K2.log.20260101_000000", age=4 * DAY)
    write(home, "Kimi-K2.log.20260102_000000", age=3 * DAY + 60)
    write(home, "Kimi-K2.log.20260103_000000", age=3 * DAY - 60)
    write(home, "notes.txt", age=99 * DAY)
    write(home, "cleanup-cron.log", age=99 * DAY)
    return home / "logs"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_only_archives_older_than_three_days_are_deleted(logs, ccproxy):
    result = ccproxy("cleanup")
    assert result.exit_code == 0
    assert result.stdout == (
        "  logs/Kimi-K2.log.20260101_000000   2 kB\n"
        "  logs/Kimi-K2.log.20260102_000000   2 kB\n"
        "Removed 2 archives (3 kB) older than 3d from logs.\n"
    )
    remaining = ["Kimi-K2.log", "Kimi-K2.log.20260103_000000", "cleanup-cron.log", "notes.txt"]
    assert names(logs) == remaining


def test_a_dry_run_removes_nothing(logs, ccproxy):
    before = names(logs)
    assert "Would remove 2 archives (3 kB)" in ccproxy("cleanup", "--dry-run").stdout
    assert names(logs) == before


@pytest.fixture
def history(home):
    """A history with a turn of four days ago and a turn of now."""
    add_new_turns(home / "state", "Kimi-K2", [Turn(1e9, "user", text, "k") for text in "ab"])
    with closing(sqlite3.connect(home / "state" / FILE_NAME)) as connection, connection:
        age = time.time() - 4 * DAY
        connection.execute("UPDATE turns SET stored = ? WHERE content = 'a'", (age,))
    return home / "state"


def stored(state):
    with closing(sqlite3.connect(state / FILE_NAME)) as connection:
        return [text for (text,) in connection.execute("SELECT content FROM turns")]


@pytest.mark.parametrize(
    ("words", "expected", "remaining"),
    [
        pytest.param([], "Deleted 1 turn of history older than 3d.", ["b"], id="old turns go"),
        pytest.param(
            ["--dry-run"], "Would delete 1 turn of history", ["a", "b"], id="a dry run keeps them"
        ),
        pytest.param(["--older-than", "9d"], "Removed 0 arch", ["a", "b"], id="none is so old"),
    ],
)
def test_old_history_is_deleted_too(history, ccproxy, words, expected, remaining):
    done = ccproxy("cleanup", *words)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].startswith(expected)
    assert stored(history) == remaining


def test_a_clock_jump_deletes_no_history(history, ccproxy):
    WallClock(history, wall=lambda: time.time() - 10 * DAY).jump()
    ccproxy("cleanup")
    assert stored(history) == ["a", "b"]


def test_another_age(logs, ccproxy):
    assert "Removed 3 archives" in ccproxy("cleanup", "--older-than", "1h").stdout


@pytest.mark.parametrize(
    ("moved", "expected"), [(10 * DAY, "clock moved by 10 d"), (2 * 3600.0, "clock moved by 2 h")]
)
def test_a_clock_jump_deletes_nothing_in_that_run(home, logs, ccproxy, moved, expected):
    """The last check is as far in the past as the clock has jumped ahead."""
    state = home / "state"
    state.mkdir()
    WallClock(state, wall=lambda: time.time() - moved).jump()
    before = names(logs)
    result = ccproxy("cleanup", "--dry-run")
    assert expected in result.stderr
    result = ccproxy("cleanup")
    assert result.stderr.startswith(f"{expected}; nothing was removed\n  fix: correct the clock")
    assert (result.exit_code, names(logs)) == (0, before)
    assert ccproxy("cleanup").stderr == result.stderr
    assert "Removed 2 archives" in ccproxy("cleanup", "--force").stdout


def test_force_trusts_the_clock(home, logs, ccproxy):
    (home / "state").mkdir()
    WallClock(home / "state", wall=lambda: time.time() - 10 * DAY).jump()
    assert "Removed 2 archives" in ccproxy("cleanup", "--force").stdout


def test_a_second_run_reports_nothing(logs, ccproxy):
    ccproxy("cleanup")
    assert ccproxy("cleanup").stdout == "Removed 0 archives older than 3d from logs.\n"


def test_a_fleet_that_never_ran(home, ccproxy):
    result = ccproxy("cleanup")
    assert (result.exit_code, result.stdout) == (0, "Removed 0 archives older than 3d from logs.\n")


# cron.


@pytest.fixture
def crontab(tmp_path_factory, monkeypatch):
    """The file of the crontab; a small program replaces cron's `crontab`."""
    folder = tmp_path_factory.mktemp("cron")
    program = folder / "crontab"
    program.write_text(CRONTAB)
    program.chmod(0o755)
    file = folder / "table"
    monkeypatch.setenv("CRONTAB_FILE", str(file))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return file


def test_install_writes_one_line_with_absolute_paths(home, crontab, ccproxy):
    result = ccproxy("cleanup", "--install-cron")
    assert result.exit_code == 0, result.stderr
    table = home / "ccproxy.toml"
    log = home / "logs" / "cleanup-cron.log"
    assert crontab.read_text() == (
        f"0 2 * * * {sys.executable} -m ccproxy --config {table} cleanup >> {log} 2>&1"
        f" # ccproxy cleanup of {table}\n"
    )
    assert crontab.read_text() in result.stdout.replace("  0 2", "0 2")


def test_no_line_is_written_for_a_proxy_without_a_table(single_proxy, crontab, ccproxy):
    result = ccproxy("cleanup", "--install-cron")
    assert (result.exit_code, "has no ccproxy.toml" in result.stderr) == (2, True)
    assert not crontab.exists()


def test_the_installed_line_deletes_old_logs(home, crontab, ccproxy, tmp_path):
    write(home, "Kimi-K2.log.20260101_000000", age=4 * DAY)
    ccproxy("cleanup", "--install-cron")
    shell_command = crontab.read_text().removeprefix("0 2 * * * ")
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C"}
    subprocess.run(["/bin/sh", "-c", shell_command], cwd="/", env=clean, check=True)
    assert "Removed 1 archive " in (home / "logs" / "cleanup-cron.log").read_text()
    assert not (home / "logs" / "Kimi-K2.log.20260101_000000").exists()


OTHERS = (
    b"MAILTO=me\n# mine\n*/5 * * * *\tdate +\\%H\xff\n\n@reboot x # ccproxy cleanup of /other\n"
)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(b"", id="an empty crontab"),
        pytest.param(OTHERS, id="lines of others"),
        pytest.param(b"0 1 * * * x\r\n\x0c# odd\r\n", id="unusual line ends"),
    ],
)
def test_other_lines_are_unchanged(before, home, crontab, ccproxy):
    crontab.write_bytes(before)
    ccproxy("cleanup", "--install-cron")
    once = crontab.read_bytes()
    assert once.startswith(before)
    assert once.count(b"\n") == before.count(b"\n") + 1
    assert "already" in ccproxy("cleanup", "--install-cron").stdout
    assert crontab.read_bytes() == once
    assert (
        'Removed the line "ccproxy cleanup" for ccproxy.toml'
        in ccproxy("cleanup", "--remove-cron").stdout
    )
    assert crontab.read_bytes() == before
    assert "has no line for this fleet" in ccproxy("cleanup", "--remove-cron").stdout


def test_an_old_line_of_ccproxy_is_replaced(home, crontab, ccproxy):
    table = home / "ccproxy.toml"
    crontab.write_text(f"5 5 * * * old # ccproxy cleanup of {table}\n0 0 * * * x\n")
    ccproxy("cleanup", "--install-cron")
    assert [text[:9] for text in crontab.read_text().splitlines()] == ["0 0 * * *", "0 2 * * *"]


def test_a_missing_line_end_is_added(home, crontab, ccproxy):
    crontab.write_bytes(b"0 0 * * * x")
    ccproxy("cleanup", "--install-cron")
    assert crontab.read_bytes().startswith(b"0 0 * * * x\n0 2 * * * ")


@pytest.mark.parametrize("option", ["--install-cron", "--remove-cron"])
def test_a_dry_run_writes_no_crontab(option, home, crontab, ccproxy):
    if option == "--remove-cron":
        ccproxy("cleanup", "--install-cron")
    before = crontab.read_bytes() if crontab.exists() else None
    assert "Would " in ccproxy("cleanup", option, "--dry-run").stdout
    assert (crontab.read_bytes() if crontab.exists() else None) == before


def test_without_a_crontab_program(home, ccproxy, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = ccproxy("cleanup", "--install-cron")
    assert result.exit_code == 1
    assert "crontab is not installed" in result.stderr
    assert "fix: install cron" in result.stderr


def test_a_failing_crontab_is_not_treated_as_empty(home, crontab, ccproxy):
    (crontab.parent / "crontab").write_text(BROKEN)
    result = ccproxy("cleanup", "--install-cron")
    assert result.exit_code == 1
    assert "you are not allowed to use this program" in result.stderr


def test_install_and_remove_exclude_each_other(home, ccproxy):
    assert ccproxy("cleanup", "--install-cron", "--remove-cron").exit_code == 2


@pytest.mark.parametrize(
    "folder",
    ["/a b", "/100%", "/it's", '/"quoted"', "/$HOME;`x`", "/ünï", "/# hash", "/back\\slash"],
)
def test_any_folder_survives_the_quoting_of_cron_and_shell(folder, tmp_path):
    home = tmp_path / folder[1:]
    home.mkdir()
    fleet = Fleet(home=home, file=home / "ccproxy.toml", entries=())
    line = cron.line_for(fleet, python="/usr/bin/python3").decode()
    # cron ends the command at a bare % and removes the backslash of an escaped one.
    text = line.removeprefix("0 2 * * * ").rstrip("\n")
    assert "%" not in text.replace("\\%", "")
    words = shlex.split(text.replace("\\%", "%"), comments=True)
    assert words[:6] == [
        "/usr/bin/python3",
        "-m",
        "ccproxy",
        "--config",
        str(fleet.file),
        "cleanup",
    ]
    assert words[6:] == [">>", str(home / "logs" / "cleanup-cron.log"), "2>&1"]
    assert cron.without_line(b"x\n" + line.encode(), fleet) == b"x\n"


def test_a_path_with_a_line_end_is_refused(tmp_path):
    fleet = Fleet(home=tmp_path, file=tmp_path / "a\nb" / "ccproxy.toml", entries=())
    with pytest.raises(Exception, match="line break"):
        cron.line_for(fleet, python="python3")
