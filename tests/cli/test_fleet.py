"""start, status, restart, reload and stop, in real processes on a real fleet."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import command, health, port_of, write_env
from tests.fleet import pause
from tests.ports import free_port
from tests.supervisor.conftest import eventually, is_alive


def rows(process, *labels):
    """Return the rows of `status --json` by label."""
    done = process("status", "--json", *labels)
    return {row["label"]: row for row in json.loads(done.stdout)["proxies"]}


def test_a_day_of_a_fleet(demo, process):
    status = process("status")
    assert status.returncode == 3
    assert "ccproxy start" in status.stderr

    start = process("start")
    assert start.returncode == 0, start.stderr
    assert "2 of 2 running after " in start.stderr
    assert "Next:  ccproxy run Other -- claude" in start.stderr
    assert start.stdout.count("✓") == 2
    assert "1 key" in start.stdout
    assert health(port_of(demo, "Demo"))["label"] == "Demo"

    first = rows(process)
    again = process("start", "demo")
    assert again.returncode == 0
    assert rows(process)["Demo"]["pids"] == first["Demo"]["pids"]

    status = process("status")
    assert status.returncode == 0
    assert "all 2 ready" in status.stdout
    assert "\x1b" not in status.stdout

    assert process("restart", "DEMO").returncode == 0
    second = rows(process)
    assert second["Demo"]["pids"] != first["Demo"]["pids"]
    assert second["Other"]["pids"] == first["Other"]["pids"]
    assert health(port_of(demo, "Demo"))["label"] == "Demo"

    stop = process("stop", "oth*")
    assert (stop.returncode, stop.stderr) == (0, "Stopped 1 worker: Other\n")
    assert rows(process)["Other"]["state"] == "stopped"
    assert process("status").returncode == 1
    assert process("status", "demo").returncode == 0
    assert process("status", "other").returncode == 3

    assert process("stop").returncode == 0
    assert process("status").returncode == 3
    again = process("stop")
    assert (again.returncode, again.stderr) == (0, "Nothing to stop.\n")
    assert process("reload").returncode == 3


def test_restart_starts_stopped_proxies(demo, process):
    done = process("restart")
    assert done.returncode == 0, done.stderr
    assert {row["state"] for row in rows(process).values()} == {"ready"}


def test_the_json_has_the_schema(demo, process):
    process("start")
    done = process("status", "--json")
    answer = json.loads(done.stdout)
    assert answer["schema"] == 1
    assert answer["config"] == str(demo / "ccproxy.toml")
    assert answer["supervisor"].keys() >= {"pid", "uptime_s"}
    row = answer["proxies"][0]
    assert row.keys() >= {
        *("label", "port", "host", "state", "pids", "uptime_s", "keys", "models", "switched"),
        *("base_url", "log", "reason"),
    }
    assert (row["label"], row["state"], row["reason"]) == ("Demo", "ready", None)
    assert row["keys"] == {"ready": 1, "total": 1}
    assert set(row["models"]) == {"big", "middle", "small"}
    assert row["log"] == str(demo / "logs" / "Demo.log")


def test_changes_since_the_start_are_shown_until_they_are_reloaded(demo, process):
    process("start")
    assert "changed since start" not in process("status").stdout
    write_env(demo, "demo", "PROVIDER=demo\nLOG_LEVEL=DEBUG\n")
    status = process("status")
    assert "! changed since start: Demo, Other   (ccproxy reload)" in status.stdout
    assert status.returncode == 0
    warning = (
        "Demo is still running with its old files; they have changed since it started\n"
        "  fix: ccproxy reload"
    )
    for words in (("run", "demo", "--", "true"), ("env", "demo")):
        assert warning in process(*words).stderr
    assert process("reload").returncode == 0
    assert "changed since start" not in process("status").stdout
    assert warning not in process("run", "demo", "--", "true").stderr

    # A newer file with the same content is not a change.
    os.utime(demo / "envs" / "demo.env", (time.time() + 60, time.time() + 60))
    assert "changed since start" not in process("status").stdout


def send_request(port):
    """Send a request and return its connection, without waiting for the response."""
    messages = [{"role": "user", "content": "Hi"}]
    body = json.dumps({"model": "claude-x", "max_tokens": 9, "messages": messages}).encode()
    connection = socket.create_connection(("127.0.0.1", port))
    head = f"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
    return connection


def test_stop_reports_running_requests_and_ctrl_c_aborts_them(demo, process):
    with socket.create_server(("127.0.0.1", 0)) as silent_provider:
        url = f"http://127.0.0.1:{silent_provider.getsockname()[1]}/v1"
        write_env(demo, "demo", f"PROVIDER_BASE_URL={url}\nPROVIDER_API_KEY=sk-silent-1234567\n")
        start = process("start", "demo")
        assert start.returncode == 0, start.stderr
        with send_request(port_of(demo, "Demo")), silent_provider.accept()[0]:
            child = subprocess.Popen(command("stop"), stderr=subprocess.PIPE, text=True)
            with child, child.stderr as errors:
                first = errors.readline()
                child.send_signal(signal.SIGINT)
                rest = errors.read()
    assert first == "Waiting for 1 request to finish (Ctrl-C aborts them) …\n"
    assert rest == "Stopped 1 worker: Demo\n"
    assert child.returncode == 0


def test_reload_prints_its_plan_and_executes_it(demo, process):
    process("start")
    before = rows(process)
    assert "Nothing has changed." in process("reload").stdout

    table = (demo / "ccproxy.toml").read_text().replace(":Other", ":New")
    (demo / "ccproxy.toml").write_text(table.replace(str(port_of(demo, "Other")), str(free_port())))
    write_env(demo, "changed", "PROVIDER=demo\nLOG_LEVEL=DEBUG\n")
    table = (demo / "ccproxy.toml").read_text()
    (demo / "ccproxy.toml").write_text(table.replace("demo.env:Demo", "changed.env:Demo"))
    plan = process("reload", "--dry-run")
    assert plan.stdout.split() == ["~", "Demo", "+", "New", "-", "Other"]
    assert rows(process)["Demo"]["pids"] == before["Demo"]["pids"]

    done = process("reload")
    assert done.returncode == 0, done.stdout + done.stderr
    after = rows(process)
    assert after["New"]["state"] == "ready"
    assert after["Demo"]["pids"] != before["Demo"]["pids"]


@pytest.mark.parametrize("verb", ["start", "restart", "reload"])
def test_a_mistake_in_any_file_changes_nothing(verb, demo, process):
    process("start", "demo")
    before = rows(process)["Demo"]["pids"]
    write_env(demo, "broken", "PROVIDER=dmeo\nMAX_RETRIES=many\n")
    table = (demo / "ccproxy.toml").read_text()
    (demo / "ccproxy.toml").write_text(table.replace("demo.env:Other", "broken.env:Other"))
    done = process(verb)
    assert done.returncode == 78
    assert "envs/broken.env:1" in done.stderr
    assert "envs/broken.env:2" in done.stderr
    assert "Traceback" not in done.stderr
    assert rows(process)["Demo"]["pids"] == before


@pytest.mark.parametrize(
    ("durations", "code"),
    [pytest.param(["Demo"], 1, id="one of two"), pytest.param(["Demo", "Other"], 5, id="all")],
)
def test_a_port_in_use_is_reported_and_the_other_proxies_start(durations, code, demo, process):
    strangers = [socket.create_server(("127.0.0.1", port_of(demo, label))) for label in durations]
    try:
        done = process("start")
        assert done.returncode == code, done.stdout + done.stderr
        assert done.stdout.count("✗") == len(durations)
        assert f"port {port_of(demo, 'Demo')} in use by" in done.stdout
        assert f"(pid {os.getpid()}, " in done.stdout
        assert "fix: stop the other program, or give Demo another port" in done.stdout
        if code == 1:
            status = process("status")
            assert status.returncode == 1
            assert "✗ Demo" in status.stdout
    finally:
        for stranger in strangers:
            stranger.close()


def test_a_fleet_can_be_stopped_in_spite_of_a_broken_table(demo, process):
    assert process("start").returncode == 0
    table = demo / "ccproxy.toml"
    table.write_text(f"{table.read_text()}\nthis is not TOML\n")
    assert process("restart").returncode == 78
    stop = process("stop")
    assert (stop.returncode, stop.stderr) == (0, "Stopped 2 workers: Demo, Other\n")


def test_status_of_a_broken_table_shows_running_proxies_and_the_mistake(demo, process):
    assert process("start", "demo").returncode == 0
    table = demo / "ccproxy.toml"
    table.write_text(f"{table.read_text()}\nthis is not TOML\n")
    status = process("status", "demo")
    assert status.returncode == 78
    assert "● Demo" in status.stdout
    assert "ccproxy.toml:3" in status.stderr


def test_status_without_a_supervisor_is_correct_and_starts_nothing(demo, process):
    process("start")
    supervisor = json.loads(process("status", "--json").stdout)["supervisor"]["pid"]
    os.kill(supervisor, signal.SIGKILL)
    done = process("status")
    assert done.returncode == 1
    assert "supervisor down, 2 workers serving" in done.stdout
    answer = json.loads(process("status", "--json").stdout)
    assert answer["supervisor"] is None
    assert {row["state"] for row in answer["proxies"]} == {"ready"}
    pids = {row["label"]: row["pids"] for row in answer["proxies"]}
    assert process("start").returncode == 0
    assert {label: row["pids"] for label, row in rows(process).items()} == pids


def test_no_wait_returns_at_once(demo, process):
    done = process("start", "--no-wait")
    assert done.returncode == 0, done.stdout + done.stderr


def test_watch_repeats_until_it_is_interrupted(demo):
    child = subprocess.Popen(
        command("status", "--watch"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with child, child.stdout as output:
        assert output.readline().startswith("ccproxy ")
        while not output.readline().startswith("ccproxy "):
            pass
        child.send_signal(signal.SIGINT)
    assert child.returncode == 130


def test_a_symbolic_link_as_a_log_is_reported(demo, process):
    (demo / "logs").mkdir(mode=0o700)
    (demo / "logs/Demo.log").symlink_to(demo / "elsewhere")
    (demo / "logs/Other.out").symlink_to(demo / "elsewhere")
    process("start", "--timeout", "3s")
    reasons = {label: row["reason"] for label, row in rows(process).items()}
    for label, file in (("Demo", "Demo.log"), ("Other", "Other.out")):
        assert f"/logs/{file} is a symbolic link" in reasons[label]
        assert reasons[label].endswith("remove the link")
    assert not (demo / "elsewhere").exists()


def test_workers_without_records_are_shown_and_can_be_stopped(demo, process):
    process("start")
    status = json.loads(process("status", "--json").stdout)
    workers = [pid for row in status["proxies"] for pid in row["pids"]]
    os.kill(status["supervisor"]["pid"], signal.SIGKILL)
    for folder in ("state", "pids"):
        shutil.rmtree(demo / folder)
    done = process("status")
    assert done.returncode == 1
    assert "supervisor down, 2 workers serving" in done.stdout
    assert "its record was removed; ccproxy start finds it again" in done.stdout
    assert process("stop", "--now").returncode == 0
    eventually(lambda: not any(map(is_alive, workers)))


@pytest.mark.parametrize("name", ["supervisor.out", "supervisor.log"])
def test_a_symbolic_link_as_a_file_of_the_supervisor_is_reported(name, demo, process):
    (demo / "logs").mkdir(mode=0o700)
    (demo / "logs" / name).symlink_to(demo / "elsewhere")
    done = process("start")
    assert done.returncode == 1
    assert f"/logs/{name} is a symbolic link; ccproxy does not write through links" in done.stderr
    assert not (demo / "elsewhere").exists()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["slow", "dead"])
def test_a_fleet_is_found_even_if_all_its_files_were_removed(number, demo, process):
    """For example by `git clean -fdx`, before supervisor and workers can restore their files."""
    assert process("start").returncode == 0
    before = {label: row["pids"] for label, row in rows(process).items()}
    old = json.loads(process("status", "--json").stdout)["supervisor"]["pid"]
    workers = [pid for pids in before.values() for pid in pids]
    os.kill(old, number)
    for pid in workers:
        pause(pid)
    for folder in ("state", "pids", "logs"):
        shutil.rmtree(demo / folder)
    with subprocess.Popen(command("start"), stdout=subprocess.DEVNULL) as start:
        eventually((demo / "logs/supervisor.log").exists)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        code = start.wait(60)
    with contextlib.suppress(ProcessLookupError):
        os.kill(old, signal.SIGCONT)
    assert code == 0
    eventually(lambda: not is_alive(old))
    after = rows(process)
    assert {label: row["pids"] for label, row in after.items()} == before
    assert {row["state"] for row in after.values()} == {"ready"}
    assert process("restart").returncode == 0
    eventually(lambda: not any(map(is_alive, workers)))


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "status"])
def test_an_unknown_label_is_a_mistake_in_the_command(verb, home, ccproxy):
    result = ccproxy(verb, "kimi-k3")
    assert result.exit_code == 2
    assert result.stderr == (
        'Error: "kimi-k3" is not in the table (did you mean "Kimi-K2"?)\n'
        "  fix: use one of: Kimi-K2, GLM-4.6\n"
    )


@pytest.mark.parametrize(
    "words", [("start",), ("up",), ("run", "demo", "--", "true")], ids=" ".join
)
def test_a_folder_that_is_not_writable_is_reported_with_a_fix(words, demo, read_only):
    done = read_only(demo, *words)
    assert done.returncode == 1
    assert f"Error: {demo}/state: Read-only file system\n  fix: move ccproxy.toml" in done.stderr


def test_a_folder_of_another_user_is_reported_with_its_owner(demo, process):
    kernel = Path("/sys/kernel")
    if not kernel.is_dir():
        pytest.skip("root can write to every folder")
    (demo / "state").symlink_to(kernel)
    done = process("start")
    (demo / "state").unlink()
    assert done.returncode == 1
    assert f"Error: {demo}/state/supervisor.lock: Permission denied\n  fix: " in done.stderr
    assert f"ls -ld {demo}/state\n" in done.stderr
