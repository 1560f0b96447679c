"""`ccproxy up`: a fleet or a single proxy without files, in the foreground."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ccproxy.config.settings import SETTINGS
from tests.cli.conftest import command, health, port_of, write_env
from tests.ports import free_port


@contextmanager
def running(*args, until, **environ):
    """Run `up`, and wait until its stderr contains *until*; stop it at the end of the block."""
    child = subprocess.Popen(
        command("up", *args),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )
    with child:
        try:
            received = ""
            for line in child.stderr:
                received += line
                if until in line:
                    break
            else:
                raise AssertionError(received)
            yield child, received
        finally:
            child.send_signal(signal.SIGTERM)


# A single proxy.


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "ccproxy"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_settings_from_the_environment_alone(number, state):
    port = free_port()
    with running("--port", port, until="worker.started", PROVIDER="demo") as (child, _):
        answer = health(port)
        assert (answer["label"], answer["server"]["host"]) == ("demo", "127.0.0.1")
        child.send_signal(number)
        rest = child.stderr.read()
    assert child.returncode == 0, rest
    assert (state / "logs" / "demo.log").read_text().count("worker.started") == 1
    assert (state / "logs").stat().st_mode & 0o777 == 0o700


def test_settings_from_a_file_with_name_and_home(state, tmp_path):
    port = free_port()
    file = write_env(tmp_path, "mine", "PROVIDER=demo\n")
    args = ["--env", file, "--port", port, "--label", "Mine", "--home", tmp_path / "here"]
    with running(*args, until="worker.started") as (child, _):
        assert health(port)["label"] == "Mine"
        child.send_signal(signal.SIGTERM)
        assert child.wait() == 0
    assert (tmp_path / "here" / "logs" / "Mine.log").exists()
    assert not state.exists()


def test_without_a_writable_home_the_temporary_folder_is_used(state, tmp_path):
    (tmp_path / "file").touch()
    port = free_port()
    environ = {"XDG_STATE_HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}
    with running("--port", port, until="is ready", PROVIDER="demo", **environ):
        assert health(port)["label"] == "demo"
    assert (tmp_path / f"ccproxy-{os.getuid()}" / "logs" / "demo.log").exists()


def test_without_any_writable_folder_it_runs_with_its_log_on_stderr(state):
    port = free_port()
    args = ("--port", port, "--home", "/proc/nowhere")
    with running(*args, until="is ready", PROVIDER="demo") as (child, received):
        assert health(port)["label"] == "demo"
        assert "logs go to stderr only" in received
        assert "signing_key.not_saved" in received
        assert "; logs in" not in received
        child.send_signal(signal.SIGTERM)
        assert "worker.stopped" in child.stderr.read()
    assert child.returncode == 0


def test_the_port_can_be_set_in_the_file(state, tmp_path):
    port = free_port()
    file = write_env(tmp_path, "mine", f"PROVIDER=demo\nPORT={port}\n")
    with running("--env", file, until="worker.started"):
        assert health(port)["label"] == "mine"


def test_logs_can_be_shown_unformatted(state):
    with running("--port", free_port(), "--json", until='"worker.started"', PROVIDER="demo") as (
        _,
        received,
    ):
        (line,) = (line for line in received.splitlines() if "worker.started" in line)
        assert json.loads(line)["label"] == "demo"


def test_the_worker_replaces_the_command(state):
    with running("--port", free_port(), until="is ready on port", PROVIDER="demo") as (child, _):
        process = psutil.Process(child.pid)
        assert "ccproxy.worker" in process.cmdline()
        assert process.children() == []


def test_with_an_env_file_the_keys_of_the_environment_are_removed(state, tmp_path):
    file = write_env(tmp_path, "mine", "PROVIDER=demo\n")
    with running(
        *("--env", file, "--port", free_port()), until="is ready", PROVIDER_API_KEY="sk-other"
    ) as (child, _):
        assert "PROVIDER_API_KEY" not in psutil.Process(child.pid).environ()


def test_quiet_omits_the_message_and_keeps_the_log(state):
    with running("--quiet", "--port", free_port(), until="worker.started", PROVIDER="demo") as (
        child,
        begun,
    ):
        child.send_signal(signal.SIGTERM)
        received = begun + child.stderr.read()
    assert "worker.stopped" in received
    assert "is ready" not in received


@pytest.mark.parametrize(
    ("args", "environ", "code", "words"),
    [
        pytest.param(["--env", "no.env", "--port", 1], {}, 78, "no.env", id="a missing file"),
        pytest.param(["--port", 8081], {"PROVIDER": "kimi"}, 78, "PROVIDER_API_KEY", id="no key"),
        pytest.param(["--port", 8081], {"PROVIDER": "kimmi"}, 78, 'did you mean "kimi"', id="typo"),
        pytest.param(["--port", 0], {}, 2, "0 is not in the range", id="port"),
        pytest.param(["--env", "demo.env"], {}, 2, "the port is missing", id="no port"),
        pytest.param(["--label", "x"], {}, 2, "add --port", id="a label without a port"),
        pytest.param(
            ["kimi", "--port", 8081],
            {},
            2,
            "which --env and --port do not use",
            id="two ways at once",
        ),
        pytest.param(
            ["--port", 8081, "--label", "../x"],
            {"PROVIDER": "demo"},
            2,
            "is not a valid label",
            id="label",
        ),
        pytest.param(
            ["--env", "demo.env", "--port", 1, "--host", "::1"], {}, 2, "set HOST=::1", id="host"
        ),
        pytest.param(
            ["--port", 8081, "--host", "0.0.0.0"], {"PROVIDER": "demo"}, 78, "HOST", id="public"
        ),
    ],
)
def test_mistakes(args, environ, code, words, state, ccproxy, monkeypatch):
    demo = Path("demo.env")
    demo.write_text("PROVIDER=demo\n")
    demo.chmod(0o600)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    result = ccproxy("up", *args)
    assert result.exit_code == code, result.stderr
    assert words in result.stderr
    assert not state.exists()


def test_a_used_port_is_an_error(state, process, monkeypatch):
    monkeypatch.setenv("PROVIDER", "demo")
    port = free_port()
    with running("--port", port, until="worker.started", PROVIDER="demo"):
        done = process("up", "--port", port, "--label", "second")
    assert done.returncode == 5
    assert f"Error: port {port} in use by " in done.stderr
    assert "another --port" in done.stderr


def test_help_lists_every_setting_with_its_default(ccproxy):
    output = " ".join(ccproxy("up", "--help").stdout.split())
    for setting in SETTINGS:
        assert setting.name in output
        assert f"[{setting.default_text}]" in output or not setting.default_text


def test_keys_and_status_find_a_proxy_without_a_table(state, process):
    port = free_port()
    settings = {"PROVIDER": "kimi", "PROVIDER_API_KEY": "sk-kimi-1111,sk-kimi-2222"}
    with running("--port", port, until="is ready", **settings) as (child, _):
        output = process("keys")
        assert (output.returncode, output.stderr) == (0, "")
        assert [line.split()[:3] for line in output.stdout.splitlines()[2:]] == [
            ["k1", "…1111", "ready"],
            ["k2", "…2222", "ready"],
        ]
        assert process("keys", "kimi", "disable", "k2").returncode == 0
        assert json.loads(process("keys", "--json").stdout)["proxies"][0]["keys"][1]["state"] == (
            "disabled"
        )
        own_files = sorted(state.rglob("*"))
        for words, text in {
            "stop": f"fix: kill {child.pid}\n",
            "env kimi": f"fix: ccproxy up --env FILE --port {port}\n",
            "run kimi -- true": f"fix: ccproxy up --env FILE --port {port}\n",
            "keys kimi add": f"fix: ccproxy up --env FILE --port {port}\n",
            "models": "has no ccproxy.toml",
            "route kimi": "has no ccproxy.toml",
            "switch kimi": "has no ccproxy.toml",
            "remove kimi --yes": "has no ccproxy.toml",
            "export compose": "has no ccproxy.toml",
        }.items():
            refused = process(*words.split())
            assert (refused.returncode, text in refused.stderr) == (2, True), refused.stderr
        assert sorted(state.rglob("*")) == own_files, "no supervisor was started"
        status = process("status")
        assert f"127.0.0.1:{port}" in status.stdout
        assert "supervisor down" not in status.stdout
    stopped = process("keys")
    assert (stopped.returncode, stopped.stderr) == (78, "No providers yet. Run: ccproxy init\n")


def test_a_fleet_without_a_table_does_not_replace_a_single_proxy(state, process):
    port = free_port()
    with running("--port", port, until="is ready", PROVIDER="demo"):
        done = process("up")
        assert (done.returncode, "has no ccproxy.toml" in done.stderr) == (2, True)
        assert health(port)["label"] == "demo"


# The fleet.


def test_the_fleet_with_its_logs(demo, process):
    with running(until="worker.started") as (child, _):
        assert health(port_of(demo, "Demo"))["label"] == "Demo"
        busy = process("up")
        assert busy.returncode == 6
        assert f"the fleet is already running (supervisor pid {child.pid})" in busy.stderr
        assert "ccproxy logs -f" in busy.stderr
        child.send_signal(signal.SIGINT)
        output, message = child.communicate()
    assert child.returncode == 0, message
    assert output.count("✓") == 2
    assert "Demo  worker.draining" in message
    assert process("status").returncode == 3


def test_a_broken_fleet_does_not_start(home, process):
    write_env(home, "kimi", "PROVIDER=kimmi\n")
    done = process("up")
    assert done.returncode == 78
    assert "envs/kimi.env:1" in done.stderr
