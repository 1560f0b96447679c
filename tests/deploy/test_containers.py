"""
The container's parts, as far as they can be tested without a container engine.

The entry point runs in an empty environment; the Dockerfile is checked against rules of hadolint
and the CIS benchmark; the compose file is validated against the specification.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ccproxy.config.settings import NAMES
from tests.fleet import ROOT, eventually
from tests.ports import free_port

DEPLOY = ROOT / "deploy"
KEY = "0123456789abcdef0123456789abcdef"


# The Dockerfile.


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text()
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [tuple(line.split(" ", 1)) for line in joined.splitlines() if line.strip()]


def default_values(name: str) -> list[str]:
    return [value for term, value in instructions() if term == name]


def test_base_images_are_slim_and_pin_a_release():
    assert default_values("FROM") == ["${BASE} AS build", "${BASE}"], (
        "the build stage is not the final stage"
    )
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-\w+", default_values("ARG")[0])


def test_the_image_runs_as_an_unprivileged_user():
    assert default_values("USER") == ["10001:10001"], (
        "a number, so that Kubernetes can see it is not root"
    )
    last = [term for term, _ in instructions()]
    assert last.index("USER") > max(i for i, term in enumerate(last) if term in ("RUN", "COPY"))


def test_the_stop_signal_starts_a_drain():
    assert default_values("STOPSIGNAL") == ["SIGTERM"]
    (entry,) = default_values("ENTRYPOINT")
    assert entry.startswith("["), "the exec form: a shell would not pass the signal on"
    assert "exec ccproxy up" in (DEPLOY / "entry.sh").read_text()


def test_the_image_has_a_health_check():
    (check,) = default_values("HEALTHCHECK")
    assert "healthcheck.py" in check
    assert "/readyz" in (DEPLOY / "healthcheck.py").read_text()


def test_the_dockerfile_has_no_secret_and_downloads_no_script():
    text = (DEPLOY / "Dockerfile").read_text()
    for name in ("PROVIDER_API_KEY", "ANTHROPIC_API_KEY"):
        assert not any(name in value for value in [*default_values("ENV"), *default_values("ARG")])
    assert not re.search(r"^\s*(ADD|MAINTAINER)\b|curl|wget|sudo|:latest", text, re.MULTILINE)
    assert default_values("ADD") == []


def test_copied_files_exist_and_are_not_ignored():
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in allowed, "everything else is excluded, above all keys"
    for value in default_values("COPY"):
        if value.startswith("--from"):
            continue
        *sources, _ = [term for term in value.split() if not term.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source.removeprefix('./')}" in allowed, source


@pytest.mark.parametrize("name", ["entry.sh", "healthcheck.py"])
def test_scripts_are_executable(name):
    assert (DEPLOY / name).stat().st_mode & stat.S_IXUSR or name.endswith(".py")


HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_hadolint_reports_nothing():
    done = subprocess.run(
        [HADOLINT, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


# The compose file.


@pytest.fixture
def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_the_compose_file_follows_the_specification(compose):
    spec = pytest.importorskip("compose_spec")
    yaml = pytest.importorskip("yaml")
    spec.PyCompose.from_yaml(yaml.safe_dump(compose)).validate()
    compose["services"]["kimi"]["pids_limitt"] = 1
    with pytest.raises(ValueError, match="pids_limitt"):
        spec.PyCompose.from_yaml(yaml.safe_dump(compose)).validate()


def test_each_provider_has_its_own_container(compose):
    services = compose["services"]
    assert len(services) >= 2
    providers = [service["environment"]["PROVIDER"] for service in services.values()]
    ports = [port for service in services.values() for port in service["ports"]]
    volumes = [volume for service in services.values() for volume in service["volumes"]]
    for each in (providers, ports, volumes):
        assert len(set(each)) == len(services)
    assert {volume.split(":")[0] for volume in volumes} == set(compose["volumes"])


def test_containers_have_minimal_privileges(compose):
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["ulimits"]["core"] == 0
        assert int(service["stop_grace_period"].removesuffix("s")) > 30, "longer than a drain"
        assert not {"privileged", "network_mode", "pid", "user", "cap_add"} & set(service)
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_settings_exist_and_keys_come_from_the_environment(compose):
    for service in compose["services"].values():
        assert set(service["environment"]) <= NAMES
        for name, value in service["environment"].items():
            if name.endswith("_API_KEY"):
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value), "a missing key is an error"


# The entry point, without a container.


@pytest.fixture
def container(tmp_path) -> Iterator[dict[str, str]]:
    """The environment of a container: few variables, and `ccproxy` on PATH."""
    script = tmp_path / "bin/ccproxy"
    script.parent.mkdir()
    path = os.pathsep.join(sys.path)
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec {sys.executable} -m ccproxy "$@"\n')
    script.chmod(0o755)
    yield {
        "PATH": f"{script.parent}:/usr/bin:/bin",
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "HOME": "/nonexistent",
        "CCPROXY_PORT": str(free_port()),
    }
    for process in psutil.process_iter():
        with_it = [str(tmp_path) in term for term in _words(process)]
        if any(with_it):
            process.kill()
            raise AssertionError(f"left behind: {process}")


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def healthy(environ: dict[str, str]) -> int:
    done = subprocess.run(
        [sys.executable, DEPLOY / "healthcheck.py"], env=environ, capture_output=True, check=False
    )
    return done.returncode


@pytest.mark.timed
@pytest.mark.xdist_group("processes")
async def test_it_runs_from_environment_variables_alone_and_stops_in_time(container, tmp_path):
    assert healthy(container) == 1, "it is not healthy without a server"
    environ = {**container, "PROVIDER": "demo", "ANTHROPIC_API_KEY": KEY}
    process = subprocess.Popen(
        [DEPLOY / "entry.sh"], env=environ, cwd="/", stderr=subprocess.PIPE, text=True
    )
    try:
        await eventually(lambda: healthy(container) == 0)
        assert process.args
        assert psutil.Process(process.pid).cmdline()[0] == sys.executable, "the shell has gone"
        port = container["CCPROXY_PORT"]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/messages",
            data=b'{"model":"claude-haiku","max_tokens":9,'
            b'"messages":[{"role":"user","content":"hi"}]}',
            headers={"x-api-key": KEY, "Host": "kimi:8080"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - begun < 10
        written = process.stderr.read()
        assert '"event":"worker.started"' in written, "docker logs shows what happens"
        assert KEY not in written
    finally:
        process.kill()
        process.stderr.close()
    made = [path for path in (tmp_path / "state").rglob("*") if path.lstat().st_mode & 0o077]
    assert made == []


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, "PROVIDER_API_KEY is missing", id="nothing is set"),
        pytest.param({"PROVIDER": "demo"}, "no client key is required", id="open to everybody"),
        pytest.param(
            {"PROVIDER": "demo", "ANTHROPIC_API_KEY": "short"}, "too short", id="a weak key"
        ),
        pytest.param({"PROVIDER": "dmeo", "ANTHROPIC_API_KEY": KEY}, "did you mean", id="a typo"),
    ],
)
def test_invalid_settings_are_reported_immediately(environ, expected, container):
    done = subprocess.run(
        [DEPLOY / "entry.sh"],
        env={**container, **environ},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 78, done
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_paths_match_the_dockerfile():
    (env,) = default_values("ENV")[1:]
    assert "XDG_STATE_HOME=/var/lib/ccproxy" in env
    assert Path("/var/lib/ccproxy").as_posix() in default_values("VOLUME")[0]
