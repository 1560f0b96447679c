"""`ccproxy doctor`: each problem is created, reported with a fix, and repaired by --fix."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from ccproxy.cli.command import commands
from ccproxy.cli.doctor import file_checks, machine_checks
from ccproxy.cli.doctor.examination import CHECKS, results_of
from ccproxy.cli.doctor.examination import examine as collect_facts
from ccproxy.cli.service import install
from ccproxy.cli.session.claude_environment import MANAGED
from ccproxy.supervisor.processes.identity import identify
from tests.cli.conftest import command, write_env
from tests.ports import free_port

KEY = "sk-kimi-secret-number-one-1111"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path_factory):
    """Set a PATH without crontab, systemctl and claude, but with git."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("git", "sh", "env", "cat"):
        program = next(p for p in ("/usr/bin", "/bin") if Path(p, name).exists())
        (folder / name).symlink_to(Path(program, name))
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def examine(ccproxy):
    def run(*args):
        result = ccproxy("doctor", "--json", *(args or ("--offline",)))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        report = json.loads(result.stdout)
        worst = "fail" in {one["level"] for one in report["checks"]}
        assert result.exit_code == int(worst)
        return report["checks"]

    return run


def of(checks, name, level=None):
    """Return the findings of one check with one level."""
    return [c for c in checks if c["name"] == name and level in (None, c["level"])]


# A healthy fleet.


def test_every_check_reports_and_none_fails_on_a_healthy_fleet(home, examine):
    checks = examine()
    assert {one["name"] for one in checks} == set(CHECKS)
    assert len(CHECKS) >= 25
    assert [one for one in checks if one["level"] == "fail"] == []


def test_only_problems_are_shown_without_verbose(home, ccproxy):
    output_text = ccproxy("doctor", "--offline").stdout
    assert "✓" not in output_text
    assert "Claude Code is not on PATH" in output_text
    verbose = ccproxy("doctor", "--offline", "-v").stdout
    assert "✓ ok" in verbose
    forwarded, warnings = verbose.count("✓ ok"), verbose.count("! warn")
    assert f"\n{forwarded} passed, {warnings} warning" in output_text
    assert re.search(r"^\d+ passed, \d+ warnings?, 0 failed$", output_text, re.MULTILINE)


# Problems: a function that creates one, the check that reports it, its level and text.


def break_env(home):
    write_env(home, "kimi", "PROVIDER=kimi\nBIG_MODLE=x\nPROVIDER_API_KEY=" + KEY)


def open_env(home):
    (home / "envs/kimi.env").chmod(0o644)


def open_keyless_env(home):
    write_env(home, "kimi", "PROVIDER=kimi\nPROVIDER_API_KEY=\n").chmod(0o644)


def open_env_folder(home):
    (home / "envs").chmod(0o777)


def open_logs(home):
    (home / "logs").mkdir()
    (home / "logs").chmod(0o777)


def log_is_a_file(home):
    (home / "logs").write_text("")


def open_log_file(home):
    (home / "logs").mkdir(mode=0o700)
    (home / "logs/Kimi-K2.log").write_text("x")
    (home / "logs/Kimi-K2.log").chmod(0o644)


def old_archive(home):
    (home / "logs").mkdir(mode=0o700)
    file = home / "logs/Kimi-K2.log.20200101_000000"
    file.write_text("x")
    os.utime(file, (1, 1))


def future_log(home):
    (home / "logs").mkdir(mode=0o700)
    (home / "logs/Kimi-K2.log").write_text("x")
    os.utime(home / "logs/Kimi-K2.log", (time.time() + 10**6,) * 2)


def stale_record(home):
    (home / "pids").mkdir(mode=0o700)
    (home / "pids/Kimi-K2.pid").write_text("{}")


def stale_supervisor(home):
    (home / "pids").mkdir(mode=0o700)
    record = {"pid": os.getpid(), "start_time": 1, "boot_id": "another"}
    (home / "pids/supervisor.pid").write_text(json.dumps(record))


def public_without_key(home):
    write_env(home, "kimi", f"PROVIDER=kimi\nPROVIDER_API_KEY={KEY}\nHOST=0.0.0.0\nALLOW_PUBLIC=on")


def ephemeral_port(home):
    table = home / "ccproxy.toml"
    table.write_text(table.read_text().replace("18081", "45000"))


def retired_model(home):
    write_env(home, "kimi", f"PROVIDER=mimo\nPROVIDER_API_KEY={KEY}\nSMALL_MODEL=mimo-v2-pro")


def in_git(home):
    for words in (["init", "-q"], ["add", "-f", "envs/kimi.env"]):
        subprocess.run(["git", *words], cwd=home, check=True)


PROBLEMS = [
    (break_env, "configuration", "fail", "BIG_MODLE is not a setting"),
    (open_env, "configuration", "fail", "contains a key and is readable by other users"),
    (open_keyless_env, "env files", "warn", "readable by other users (it contains no key yet)"),
    (open_env_folder, "env files", "fail", "can be replaced by other users"),
    (open_logs, "folders", "fail", "logs is writable by other users"),
    (log_is_a_file, "folders", "fail", "logs is not a folder"),
    (open_log_file, "file modes", "warn", "logs/Kimi-K2.log is readable by other users"),
    (old_archive, "logs", "warn", "1 archive older than 3 days"),
    (future_log, "log times", "warn", "in the future"),
    (
        stale_record,
        "records",
        "warn",
        "pids/Kimi-K2.pid is the record of a process that no longer exists",
    ),
    (stale_supervisor, "records", "warn", "pids/supervisor.pid"),
    (public_without_key, "reach", "warn", "anyone who can reach 0.0.0.0 can use the keys"),
    (ephemeral_port, "ports", "warn", "port 45000"),
    (retired_model, "models", "fail", "the provider has retired mimo-v2-pro; its successor is "),
    (in_git, "git", "fail", "git tracks envs/kimi.env"),
]


@pytest.mark.parametrize(("make", "check", "level", "text"), PROBLEMS)
def test_a_problem_is_reported_with_a_fix(make, check, level, text, home, examine):
    before = of(examine(), check, level)
    make(home)
    report = [one for one in of(examine(), check, level) if one not in before]
    assert [one for one in report if text in one["text"] and one["fix"]], report


def test_missing_folders_are_not_a_problem(home, examine):
    assert not any((home / name).exists() for name in ("logs", "pids", "state"))
    assert [one["level"] for one in of(examine(), "folders")] == ["ok"]


def test_a_readable_file_with_a_key_is_reported_once(home, examine):
    open_env(home)
    checks = examine()
    assert len(of(checks, "configuration", "fail")) == 1
    assert of(checks, "env files", "warn") == []


def test_a_readable_file_that_needs_no_key_is_not_a_problem(home, examine):
    write_env(home, "kimi", "PROVIDER=demo\n").chmod(0o644)
    assert [one["level"] for one in of(examine(), "env files")] == ["ok"]


def test_folders_that_are_not_writable_are_reported(home, read_only):
    report = json.loads(read_only(home, "doctor", "--json", "--offline").stdout)["checks"]
    folders = [(one["text"], one["fix"]) for one in of(report, "folders", "fail")]
    assert [text for text, _ in folders] == [
        "logs is not writable",
        "pids is not writable",
        "state is not writable",
    ]
    assert all("move ccproxy.toml" in fix for _, fix in folders)


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/usr/bin/setpriv").exists(),
    reason="only root can run a command as another user",
)
def test_files_of_root_are_reported_and_the_other_checks_run():
    """As after `sudo ccproxy start`."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "ccproxy.toml").write_text('proxies = ["18081:envs/demo.env:Demo"]\n')
        write_env(home, "demo", "PROVIDER=demo\n")
        for path in (home, *home.rglob("*")):
            os.chown(path, 65534, 65534)
        for folder in ("logs", "state"):
            (home / folder).mkdir(mode=0o700)
        words = ("-c", home / "ccproxy.toml", "doctor", "--json", "--offline")
        done = subprocess.run(
            ["/usr/bin/setpriv", "--reuid=65534", *command(*words)],
            cwd=home, env={"HOME": name}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)["checks"]
    assert [(one["text"], one["fix"]) for one in of(report, "folders", "fail")] == [
        ("logs belongs to another user", "sudo chown -R $USER logs"),
        ("state belongs to another user", "sudo chown -R $USER state"),
    ]
    assert of(report, "supervisor", "fail")[0]["text"].endswith("Permission denied")
    assert of(report, "file modes", "fail")[0]["text"] == "logs: Permission denied"
    unknown = {"workers", "changes", "keys"}
    assert {one["name"] for one in report} == set(CHECKS) - unknown


def test_a_check_that_fails_does_not_stop_the_others(home, examine):
    (home / "ccproxy.toml").write_text(f'proxies = ["18081:envs/{"x" * 300}.env:Demo"]\n')
    report = examine()
    (finding,) = of(report, "env files")
    assert finding["text"].endswith(": File name too long")
    assert finding["fix"] == "run ccproxy doctor as the owner of the files"
    assert {one["name"] for one in report} == set(CHECKS)


@pytest.mark.parametrize(
    ("make", "check", "level"),
    [
        (make, check, level)
        for make, check, level, _ in PROBLEMS
        if make in (open_env, open_keyless_env, open_logs, open_log_file, old_archive)
        or make in (stale_record, stale_supervisor)
    ],
)
def test_fix_applies_harmless_repairs(make, check, level, home, examine, ccproxy):
    make(home)
    assert of(examine(), check, level)
    result = ccproxy("doctor", "--fix", "--offline")
    assert "fixed: " in result.stderr
    assert of(examine(), check, level) == []
    assert (home / "envs/glm.env").read_text(), "and nothing else is touched"


def test_a_record_that_a_new_process_has_replaced_is_not_removed(home):
    stale_record(home)
    (finding,) = file_checks.records(collect_facts(None, online=False, offline=True))
    assert finding.repair is not None
    identity = identify(os.getpid())
    assert identity is not None
    record = home / "pids/Kimi-K2.pid"
    fields = {"pid": identity.pid, "start_time": identity.start, "boot_id": identity.boot}
    record.write_text(json.dumps(fields))
    finding.repair()
    assert record.exists()


def test_a_record_of_another_user_is_not_said_to_be_stale(home, monkeypatch):
    """After `sudo ccproxy start`, the process exists; removing the record would lose it."""
    stale_record(home)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(file_checks, "read_json", refuse)
    scene = collect_facts(None, online=False, offline=True)
    (finding,) = (one for check, one in results_of(scene) if check == "records")
    assert finding.text == "pids/Kimi-K2.pid: Permission denied"
    assert finding.repair is None


@pytest.mark.parametrize("make", [break_env, log_is_a_file, public_without_key, in_git])
def test_fix_leaves_everything_else_to_the_user(make, home, ccproxy):
    make(home)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    ccproxy("doctor", "--fix", "--offline")
    assert {path: path.read_bytes() for path in before} == before


def test_fix_does_not_follow_a_symbolic_link(home, ccproxy, tmp_path_factory):
    victim = tmp_path_factory.mktemp("theirs") / "victim"
    victim.write_text(f"PROVIDER=kimi\nPROVIDER_API_KEY={KEY}\n")
    victim.chmod(0o644)
    (home / "envs/kimi.env").unlink()
    (home / "envs/kimi.env").symlink_to(victim)
    result = ccproxy("doctor", "--fix", "--offline")
    assert "not fixed" in result.stderr
    assert victim.stat().st_mode & 0o777 == 0o644


# Services.


@pytest.mark.parametrize("folder", ["plain", "100%", "a b"])
@pytest.mark.parametrize(
    ("words", "verb"),
    [(["cleanup", "--install-cron"], "cleanup"), (["install-service", "--cron"], "start")],
    ids=["cleanup", "start"],
)
def test_lines_of_the_crontab_are_checked(
    words, verb, folder, tmp_path, machine, ccproxy, examine, monkeypatch
):
    python = tmp_path / folder / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    (python.parent / "ccproxy.toml").write_text('proxies = ["18081:envs/demo.env:Demo"]\n')
    write_env(python.parent, "demo", "PROVIDER=demo\n")
    monkeypatch.chdir(python.parent)
    monkeypatch.setattr(sys, "executable", str(python))
    assert ccproxy(*words).exit_code == 0
    (line,) = of(examine(), "crontab")
    assert (line["level"], line["text"]) == ("ok", f"ccproxy {verb}")
    python.unlink()
    (line,) = of(examine(), "crontab")
    assert (line["level"], line["fix"]) == ("fail", " ".join(["ccproxy", *words]))
    assert line["text"] == "the crontab calls python, which does not exist"
    tab = machine / "tab"
    tab.write_bytes(b"* * * * * mine" + tab.read_bytes()[tab.read_bytes().index(b" # ccproxy") :])
    assert of(examine(), "crontab")[0]["level"] == "ok", "the user has replaced the command"


@pytest.mark.parametrize(
    "option",
    [[], ["--system"], ["--name", "mine"]],
    ids=["user", "system", "name"],
)
def test_an_outdated_unit_is_reported_with_the_command_that_renews_it(
    option, home, machine, ccproxy, examine
):
    command = ["install-service", *option]
    assert ccproxy(*command, "--systemd").exit_code == 0
    users = Path(os.environ["HOME"], ".config/systemd/user")
    folder = install.SYSTEM_UNITS if "--system" in option else users
    (unit,) = folder.iterdir()
    assert of(examine(), "service")[0]["level"] == "ok"
    unit.write_text(unit.read_text() + "# changed\n")
    outdated = of(examine(), "service", "warn")[0]
    assert "was written by another version or Python" in outdated["text"]
    assert outdated["fix"] == f"ccproxy {' '.join(command)}"


# The shell.


@pytest.mark.parametrize(
    ("environ", "check", "level", "text"),
    [
        ({"HTTPS_PROXY": "http://u:p@x:1"}, "http proxy", "fail", "NO_PROXY lacks localhost"),
        (
            {"HTTPS_PROXY": "http://x:1", "NO_PROXY": "localhost,127.0.0.1"},
            "http proxy",
            "ok",
            "not for this machine",
        ),
        (
            {"ANTHROPIC_API_KEY": "sk-ant-1", "ANTHROPIC_AUTH_TOKEN": "x"},
            "credentials",
            "warn",
            "both set",
        ),
        ({"ANTHROPIC_API_KEY": "sk-ant-1"}, "credentials", "warn", "a plain `claude` uses"),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}, "base url", "fail", "has port 9"),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1"}, "base url", "fail", "has port 80"),
        ({"ANTHROPIC_BASE_URL": "http://localhost:18081/v1"}, "base url", "warn", "has a path"),
        ({"ANTHROPIC_BASE_URL": "http://localhost:18081"}, "base url", "ok", "Kimi-K2"),
        (
            {"ANTHROPIC_BASE_URL": "https://x.example"},
            "base url",
            "warn",
            "not point to this machine",
        ),
        ({"ANTHROPIC_BASE_URL": "http://[bad"}, "base url", "warn", "not point to this machine"),
        (
            {"CLAUDE_CODE_USE_BEDROCK": "1"},
            "session",
            "fail",
            "so Claude Code ignores ANTHROPIC_BASE_URL",
        ),
        ({"CLAUDE_CODE_USE_MANTLE": "1"}, "session", "fail", "CLAUDE_CODE_USE_MANTLE is set"),
        ({"ANTHROPIC_UNIX_SOCKET": "/x"}, "session", "fail", "ANTHROPIC_UNIX_SOCKET is set"),
        ({"CCPROXY_ACTIVE": "gone"}, "session", "warn", "is not in the table"),
    ],
)
def test_variables_of_the_shell(environ, check, level, text, home, examine, monkeypatch):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    (report,) = of(examine(), check)
    assert (report["level"], text in report["text"]) == (level, True), report


@pytest.mark.parametrize("name", ["settings.json", "settings.local.json"])
@pytest.mark.parametrize("key", [key for key in MANAGED if key != "CCPROXY_ACTIVE"])
def test_every_overriding_setting_is_named(key, name, home, examine):
    folder = home / ".claude"
    folder.mkdir()
    (folder / name).write_text(json.dumps({"env": {key: "something else"}}))
    (report,) = of(examine(), "settings", "fail")
    assert f"{name} sets {key}," in report["text"]


def test_settings_of_the_user_and_of_the_project(home, examine):
    for folder in (home, Path(os.environ["HOME"])):
        (folder / ".claude").mkdir()
        text = json.dumps({"env": {"ANTHROPIC_BASE_URL": "http://elsewhere"}})
        (folder / ".claude/settings.json").write_text(text)
    files = [one["text"].partition(" sets ")[0] for one in of(examine(), "settings", "fail")]
    assert files == ["~/.claude/settings.json", str(home / ".claude/settings.json")]


def test_another_program_named_ccproxy_before_and_after_ours_on_path(
    home, examine, alone, monkeypatch, tmp_path
):
    foreign = alone / "ccproxy"
    foreign.write_text("#!/bin/sh\necho another\n")
    foreign.chmod(0o755)
    (report,) = of(examine(), "path")
    assert (report["level"], "is another program" in report["text"]) == ("fail", True)
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "ccproxy").write_text(f"#!{sys.executable}\nfrom ccproxy.__main__ import main\n")
    (ours / "ccproxy").chmod(0o755)
    monkeypatch.setenv("PATH", f"{ours}:{alone}")
    (report,) = of(examine(), "path")
    assert (report["level"], "another program named ccproxy" in report["text"]) == ("warn", True)


@pytest.mark.parametrize(
    ("output", "version"),
    [
        (b"2.1.329 (Claude Code)", "2.1.329 (Claude Code)"),
        (b"2.1.329 \xff", "2.1.329 \N{REPLACEMENT CHARACTER}"),
    ],
    ids=["Claude Code", "not UTF-8"],
)
def test_the_version_of_claude(output, version, home, examine, alone):
    program = alone / "claude"
    program.write_bytes(b"#!/bin/sh\necho '" + output + b"'\n")
    program.chmod(0o755)
    (report,) = of(examine(), "claude")
    assert (report["level"], report["text"]) == ("ok", version)


# The machine.


def test_a_port_used_by_another_program(home, examine):
    with socket.create_server(("127.0.0.1", free_port())) as other:
        port = other.getsockname()[1]
        table = home / "ccproxy.toml"
        table.write_text(table.read_text().replace("18081", str(port)))
        report = of(examine(), "workers", "fail")
    assert len(report) == 1
    assert "the port of Kimi-K2 is used by another program" in report[0]["text"]
    assert f"pid {os.getpid()}" in report[0]["text"]


def test_another_program_on_the_ipv6_localhost(home, examine, monkeypatch):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        table = home / "ccproxy.toml"
        table.write_text(table.read_text().replace("18081", str(port)))
        real = socket.getaddrinfo
        six = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))]
        # The system's name resolution cannot be changed by a test.
        monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: six + real(*a, **k))
        (report,) = of(examine(), "localhost", "fail")
    assert f"port {port}" in report["text"]


def test_a_full_disk(home, examine, monkeypatch):
    usage = shutil.disk_usage(home)
    for free, level in ((10**6, "fail"), (10**8, "warn"), (10**11, "ok")):
        now = usage._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, now=now: now)
        assert of(examine(), "disk")[0]["level"] == level


def test_a_clock_before_the_installation(home, examine, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert of(examine(), "clock")[0]["level"] == "fail"


def test_online_and_offline_exclude_each_other(home, ccproxy):
    done = ccproxy("doctor", "--online", "--offline")
    assert done.exit_code == 2
    assert "cannot be combined" in done.stderr


def test_without_a_table(ccproxy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = ccproxy("doctor", "--offline", "--json")
    checks = json.loads(result.stdout)["checks"]
    assert result.exit_code == 1
    assert "there is no ccproxy.toml" in of(checks, "configuration", "fail")[0]["text"]


# Providers.


def at(home, url, **more):
    """Write a fleet of one proxy for the provider at *url*."""
    text = "".join(f"{name}={value}\n" for name, value in more.items())
    write_env(home, "kimi", f"PROVIDER_BASE_URL={url}\nPROVIDER_API_KEY={KEY}\n{text}")
    (home / "ccproxy.toml").write_text('proxies = ["18081:envs/kimi.env:Kimi"]\n')


def test_a_name_that_cannot_be_resolved(home, examine):
    at(home, "https://no-such-host.invalid/v1")
    (report,) = of(examine("-q"), "providers")
    assert (report["level"], "(DNS)" in report["text"]) == ("fail", True)


@pytest.mark.parametrize("host", ["a..b", f"{'x' * 64}.example"])
def test_a_name_that_is_not_valid(host, home, examine):
    at(home, f"https://{host}/v1")
    (report,) = of(examine("-q"), "providers")
    assert (report["level"], "(DNS)" in report["text"]) == ("fail", True)
    at(home, "https://x.example/v1", UPSTREAM_PROXY=f"http://{host}:80")
    (report,) = of(examine("-q"), "providers")
    assert (report["level"], "(not a valid host name)" in report["text"]) == ("fail", True)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "Remote end closed connection without response"),
        (b"\x1b[2Jgarbage\r\n", "\\x1b[2Jgarbage"),
    ],
)
def test_a_server_that_does_not_speak_http(answer, reason, home, examine):
    def serve(server):
        server.accept()[0].close()  # the connection test
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        at(home, f"http://127.0.0.1:{server.getsockname()[1]}/v1")
        server.settimeout(30)
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        (report,) = of(examine("-q"), "providers")
        thread.join()
    assert report["level"] == "warn"
    assert f"no HTTP response from 127.0.0.1 ({reason}" in report["text"]


def test_a_provider_that_refuses_connections(home, examine):
    at(home, f"http://127.0.0.1:{free_port()}/v1")
    (report,) = of(examine("-q"), "providers")
    assert (report["level"], "cannot be reached" in report["text"]) == ("fail", True)
    assert report["fix"] == "start the server there, or fix PROVIDER_BASE_URL"


def answer_once(server, date):
    date = formatdate(usegmt=True) if date == "now" else date
    connection, _ = server.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(f"HTTP/1.1 200 OK\r\nDate: {date}\r\n\r\n".encode())


@pytest.mark.parametrize(
    ("date", "levels"),
    [
        ("now", ["ok"]),
        ("Sat, 01 Jan 2000 00:00:00 GMT", ["ok", "warn"]),
        ("nonsense", ["ok"]),
    ],
)
def test_the_clock_is_compared_with_the_provider(date, levels, home, examine):
    with socket.create_server(("127.0.0.1", 0)) as server:
        at(home, f"http://127.0.0.1:{server.getsockname()[1]}/v1")
        server.settimeout(30)
        # First the connection test, then the HEAD request.
        thread = threading.Thread(
            target=lambda: (server.accept()[0].close(), answer_once(server, date))
        )
        thread.start()
        report = of(examine("-q"), "providers")
        thread.join()
    assert [one["level"] for one in report] == levels


def test_a_certificate_that_is_not_trusted(home, examine, tmp_path):
    cert, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    def serve(server):
        server.accept()[0].close()
        with contextlib.suppress(OSError):
            context.wrap_socket(server.accept()[0], server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        at(home, f"https://localhost:{server.getsockname()[1]}/v1")
        server.settimeout(30)
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        (report,) = of(examine("-q"), "providers")
        thread.join()
    assert (report["level"], "is refused" in report["text"]) == ("fail", True), report
    assert "CA_BUNDLE" in report["fix"]


def self_signed(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    words += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        ["/usr/bin/openssl", *words, "-keyout", key, "-out", cert], check=True, capture_output=True
    )
    return cert, key


def forward_proxy(server, status, received):
    """Accept one CONNECT request, answer with *status*, and close the connection."""
    connection, _ = server.accept()
    with connection:
        received.append(connection.recv(65536).decode())
        connection.sendall(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.mark.parametrize("source", ["environment", "env file"])
def test_a_provider_is_checked_through_the_http_proxy_of_its_requests(
    source, home, examine, monkeypatch
):
    """With a company's proxy, a name that only the proxy can resolve is not a problem."""
    received: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = f"http://user:canarypassword@127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        if source == "environment":
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            at(home, "https://no-such-host.invalid/v1")
        else:
            at(home, "https://no-such-host.invalid/v1", UPSTREAM_PROXY=proxy)
        server.settimeout(30)
        thread = threading.Thread(target=forward_proxy, args=(server, 403, received))
        thread.start()
        (report,) = of(examine("-q"), "providers")
        thread.join()
    assert received[0].startswith("CONNECT no-such-host.invalid:443 ")
    assert "Proxy-Authorization: Basic dXNlcjpjYW5hcnlwYXNzd29yZA==" in received[0]
    assert "DNS" not in report["text"]
    assert (report["level"], "403" in report["text"]) == ("fail", True), report
    assert "check UPSTREAM_PROXY or HTTPS_PROXY" in report["fix"]
    assert "canarypassword" not in json.dumps(report)


def test_an_http_provider_is_checked_through_a_proxy(home, examine, monkeypatch):
    monkeypatch.setattr("ccproxy.config.forward_proxy.is_loopback", lambda _host: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.getsockname()[1]}")
        at(home, "http://127.0.0.1:9/v1")
        server.settimeout(30)
        thread = threading.Thread(target=answer_once, args=(server, "now"))
        thread.start()
        (report,) = of(examine("-q"), "providers")
        thread.join()
    assert (report["level"], " through 127.0.0.1:" in report["text"]) == ("ok", True), report


@pytest.mark.xdist_group("processes")
def test_a_bypassed_proxy_and_changed_files_are_warned_about(demo, process, examine):
    assert process("start").returncode == 0
    assert process("toggle", "demo", "off").returncode == 0
    write_env(demo, "demo", "PROVIDER=demo\nLOG_LEVEL=DEBUG\n")
    checks = examine()
    (bypassed,) = of(checks, "workers", "warn")
    assert bypassed["text"].startswith("Demo is bypassed: requests go to https://api.anthropic.com")
    assert bypassed["fix"] == "ccproxy toggle Demo on"
    assert "Demo   (bypassed: requests do not use these keys)" in process("keys", "demo").stdout
    assert "note: Demo is bypassed: its rules do not apply" in process("route", "demo").stderr
    assert [(one["text"], one["fix"]) for one in of(checks, "changes", "warn")] == [
        ("the files of Demo have changed since it started", "ccproxy reload"),
        ("the files of Other have changed since it started", "ccproxy reload"),
    ]
    assert "bypassed → api.anthropic.com" in process("reload").stdout


def test_a_proxy_in_the_settings_file_of_claude_code_is_found(home, examine):
    (home / ".claude").mkdir()
    settings = {"env": {"HTTPS_PROXY": "http://x:1", "NO_PROXY": "intranet.example"}}
    (home / ".claude/settings.json").write_text(json.dumps(settings))
    (report,) = of(examine(), "http proxy", "fail")
    assert "HTTPS_PROXY is set in" in report["text"]
    assert ".claude/settings.json" in report["text"]


def test_a_model_that_claude_code_saved_is_warned_about(home, examine):
    (home / ".claude").mkdir()
    (home / ".claude/settings.json").write_text(json.dumps({"model": "GLM-5:big"}))
    (report,) = of(examine(), "settings", "warn")
    assert 'saves the model "GLM-5:big"' in report["text"]


@pytest.mark.xdist_group("processes")
def test_a_running_fleet_and_its_keys(demo, process, examine):
    assert process("start").returncode == 0
    checks = examine("--online")
    assert [one["text"] for one in of(checks, "workers", "ok")] != []
    assert [one["text"] for one in of(checks, "provider keys")] == [
        "Demo: demo-small responds",
        "Other: demo-small responds",
    ]
    assert of(checks, "supervisor")[0]["text"].startswith("pid ")


@pytest.mark.xdist_group("processes")
def test_a_rejected_key(demo, process, examine, monkeypatch):
    """The provider answers every request with 401."""

    def serve(server):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                if connection.recv(65536):
                    body = b'{"error":{"message":"no such key: %s"}}' % KEY.encode()
                    head = b"HTTP/1.1 401 x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                    connection.sendall(head % len(body) + body)

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        write_env(demo, "demo", f"PROVIDER_BASE_URL={url}\nPROVIDER_API_KEY={KEY}\n")
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        assert process("start").returncode == 0
        report = of(examine("--online"), "provider keys", "fail")
        server.shutdown(socket.SHUT_RDWR)
    assert [one["text"] for one in report] == [
        "Demo: authentication_error",
        "Other: authentication_error",
    ]
    assert "PROVIDER_API_KEY" in report[0]["fix"]


# Reports.


def test_no_form_of_output_contains_a_secret(home, ccproxy, monkeypatch):
    secrets = {
        "api key": "sk-canary-000000001111",
        "client key": "canary-client-key-2222222",
        "header": "canaryheadervalue33333333",
        "proxy": "canarypassword4444",
        "misplaced": "canary-key-as-a-model-555",
        "token": "canary-token-of-shell-666",
    }
    write_env(
        home,
        "kimi",
        f"PROVIDER=kimi\nPROVIDER_API_KEY={secrets['api key']}\n"
        f"ANTHROPIC_API_KEY={secrets['client key']}\nCUSTOM_HEADER_X_TOKEN={secrets['header']}\n"
        f"UPSTREAM_PROXY=http://user:{secrets['proxy']}@127.0.0.1:9\n",
    )
    write_env(home, "glm", f"PROVIDER={secrets['misplaced']}\nPROVIDER_API_KEY=x y\n")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", secrets["token"])
    monkeypatch.setenv("ANTHROPIC_API_KEY", secrets["token"])
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"https://{secrets['token']}@x.example")
    for form in ("--report", "--json", "-v"):
        result = ccproxy("doctor", "--offline", form)
        for secret in secrets.values():
            for start in range(len(secret) - 7):
                assert secret[start : start + 8] not in result.output, (form, secret)


def test_the_users_name_is_not_in_the_report(home, ccproxy):
    assert os.environ["HOME"] not in ccproxy("doctor", "--offline", "--report").stdout


def test_fixes_name_only_existing_commands():
    folder = Path(machine_checks.__file__).parent
    fixes = [
        line
        for path in folder.glob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"fix ?=", line)
    ]
    named = {verb for line in fixes for verb in re.findall(r"\bccproxy ([a-z-]+)", line)}
    assert len(named) >= 7, "the pattern finds what it looks for"
    assert named - {"as", "with", "was"} <= set(commands())
