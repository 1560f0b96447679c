"""
The image in real containers, run by podman: `make test-containers` builds it.

Every container shares this machine's network, so that neither a registry nor a bridge is needed.
Redis and the scripted provider are processes of the test.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ccproxy import __version__
from tests.cli.conftest import command, write_env
from tests.fleet import eventually
from tests.messages import Answer, ask, prompt
from tests.ports import free_port
from tests.provider import chunk, stream
from tests.redis_server import RedisServer

pytestmark = [
    pytest.mark.containers,
    pytest.mark.xdist_group("containers"),
    pytest.mark.timeout(600),
]

IMAGE = "localhost/ccproxy-test"
KEY = "0123456789abcdef0123456789abcdef"
CONFINED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
STARTED = 180.0
"""Seconds that a container may take to start."""


def podman(*words: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run podman and wait for it."""
    done = subprocess.run(["podman", *words], input=stdin, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="session", autouse=True)
def image() -> None:
    """Skip these tests if podman or the image is missing."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    if podman("image", "exists", IMAGE, check=False).returncode:
        pytest.skip(f"there is no image {IMAGE}: make test-containers")


class Container:
    """A container of the image."""

    def __init__(self, name: str, *options: str, **settings: str) -> None:
        """Start it with *options* for `podman run` and *settings* as environment variables."""
        self.name = name
        self.port = int(settings["CCPROXY_PORT"])
        self.url = f"http://127.0.0.1:{self.port}"
        variables = [f"--env={key}={value}" for key, value in settings.items()]
        podman("run", "--detach", "--network=host", f"--name={name}", *options, *variables, IMAGE)

    async def is_ready(self) -> None:
        """Wait until it accepts requests."""
        await eventually(lambda: is_status(self.url, 200), within=STARTED)

    async def is_draining(self) -> None:
        """Wait until /readyz answers 503."""
        await eventually(lambda: is_status(self.url, 503), within=STARTED)

    async def is_closed(self) -> None:
        """Wait until it refuses connections."""
        await eventually(lambda: is_status(self.url, None), within=STARTED)

    def wait(self) -> int:
        """Wait until it exits, and return its exit code."""
        return int(podman("wait", self.name).stdout)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return podman("exec", self.name, *words, check=False)

    @property
    def logs(self) -> str:
        """Its output."""
        done = podman("logs", self.name)
        return done.stdout + done.stderr


async def is_status(url: str, status: int | None) -> bool:
    """Return True if /readyz has this *status*, or refuses connections if it is None."""
    got = None
    with suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as response:
            got = response.status
    return got == status


@pytest.fixture
def run(tmp_path) -> Iterator[Any]:
    """Start containers, which are removed after the test."""
    names: list[str] = []

    def start(*options: str, **settings: str) -> Container:
        name = f"ccproxy-test-{tmp_path.name[-20:].replace('[', '-').strip('-')}-{len(names)}"
        names.append(name)
        port = free_port()
        common = {"HOST": "127.0.0.1", "CCPROXY_PORT": str(port), "ANTHROPIC_API_KEY": KEY}
        return Container(name, *options, **{**common, **settings})

    yield start
    for name in names:
        podman("rm", "--force", "--volumes", "--time=1", name, check=False)


async def send(url: str, text: str = "hello") -> Answer:
    """Send a streaming request."""
    async with aiohttp.ClientSession() as session:
        return await ask(session, url, prompt(text, stream=True), headers={"x-api-key": KEY})


@pytest.mark.parametrize(
    "user",
    [
        pytest.param((), id="the image's user"),
        pytest.param(("--user=54321:0",), id="any user of group 0"),
        pytest.param(("--user=54321:54321", "--unsetenv=HOME"), id="any user without HOME"),
    ],
)
async def test_a_confined_container_serves_and_stops(run, user):
    container = run(*CONFINED, *user, "--memory=256m", "--pids-limit=128", PROVIDER="demo")
    await container.is_ready()
    assert (await send(container.url)).status == 200
    assert container.run("sh", "-c", "id -u").stdout.strip() == ("54321" if user else "10001")
    assert container.run("touch", "/opt/ccproxy/x").returncode != 0
    assert container.run("python", "/opt/ccproxy/healthcheck.py").returncode == 0
    await asyncio.to_thread(podman, "stop", "--time=30", container.name)
    assert container.wait() == 0
    assert KEY not in container.logs


def test_a_container_with_a_missing_setting_exits_immediately(run):
    container = run(*CONFINED, PROVIDER="kimi")
    assert container.wait() == 78
    assert "PROVIDER_API_KEY is missing" in container.logs


@pytest.fixture
def redis(tmp_path) -> Iterator[str]:
    """The address of a Redis server."""
    port = free_port()
    server = RedisServer(tmp_path, port=port).start()
    yield f"redis://127.0.0.1:{port}/0"
    server.stop()


class Balancer:
    """Sends requests to the replicas in turn, like a real load balancer, until it is stopped."""

    def __init__(self, replicas: list[Container]) -> None:
        self.replicas = replicas
        self.answers: list[Answer] = []
        self._is_ending = False

    async def run(self) -> None:
        """Send one request after the other until `stop`."""
        while not self._is_ending:
            self.replicas.append(self.replicas.pop(0))
            self.answers.append(await send(self.replicas[0].url))

    def stop(self) -> None:
        """Send no more requests."""
        self._is_ending = True

    async def goes_on(self) -> None:
        """Wait until each replica has completed a request that began after this call."""
        count = len(self.answers) + 2 * CLIENTS * len(self.replicas)
        await eventually(lambda: len(self.answers) >= count, within=STARTED)


CLIENTS = 2


async def test_a_rolling_restart_under_load_loses_no_request(run, redis, provider):
    gate = asyncio.Event()

    def answer(call):
        if "held" in json.dumps(call.json):
            return stream(chunk(content="Hel"), gate, chunk(content="lo", finish="stop"))
        return stream(chunk(content="ok", finish="stop"))

    provider.script(answer)
    settings = {
        "PROVIDER_BASE_URL": provider.url,
        "PROVIDER_API_KEY": "sk-first-0123456789,sk-other-0123456789",
        "MAX_RETRIES": "0",
        "REDIS_URL": redis,
        "SIGNING_KEY": KEY,
        "DRAIN_DELAY": "5",
        "DRAIN_TIMEOUT": "60",
    }

    async def replica() -> Container:
        new: Container = await asyncio.to_thread(run, *CONFINED, **settings)
        await new.is_ready()
        return new

    async def end(old: Container) -> None:
        """Stop a replica that is answering a request."""
        gate.clear()
        held = asyncio.create_task(send(old.url, "held"))
        await eventually(lambda: any("held" in str(call.json) for call in provider.calls))
        await asyncio.to_thread(podman, "kill", "--signal=TERM", old.name)
        await old.is_draining()
        balancer.replicas.remove(old)
        await old.is_closed()
        gate.set()
        assert (await held).text == "Hello"
        assert await asyncio.to_thread(old.wait) == 0
        provider.calls.clear()

    replicas = [await replica() for _ in range(3)]
    balancer = Balancer(list(replicas))
    load = [asyncio.create_task(balancer.run()) for _ in range(CLIENTS)]
    for old in replicas:
        balancer.replicas.append(await replica())
        await end(old)
        await balancer.goes_on()
    pools = [await pool_of(one) for one in balancer.replicas]
    balancer.stop()
    await asyncio.gather(*load)
    assert {answer.status for answer in balancer.answers} == {200}
    assert {answer.text for answer in balancer.answers} == {"ok"}
    assert [one["mode"] for one in pools] == ["shared"] * 3


async def pool_of(container: Container) -> dict[str, Any]:
    """Return the container's report about its key pool."""
    async with aiohttp.ClientSession() as session, session.get(f"{container.url}/health") as got:
        pool: dict[str, Any] = (await got.json())["pool"]
        return pool


@pytest.fixture
async def pod(tmp_path) -> AsyncIterator[tuple[Path, int]]:
    """The manifest of an entry from `ccproxy export kubernetes`, and its port."""
    port = free_port()
    (tmp_path / "ccproxy.toml").write_text('proxies = ["18081:envs/demo.env:Pod-Test"]\n')
    write_env(tmp_path, "demo", "PROVIDER=demo\n")
    done = subprocess.run(
        command("export", "kubernetes"), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    text = done.stdout.replace('"ccproxy-fleet:', '"localhost/ccproxy-fleet:')
    text = text.replace('"containerPort": 8080', f'"containerPort": 8080, "hostPort": {port}')
    file = tmp_path / "pod.yaml"
    file.write_text(text)
    podman("tag", IMAGE, f"localhost/ccproxy-fleet:{__version__}")
    secret = {"ANTHROPIC_API_KEY": base64.b64encode(KEY.encode()).decode()}
    podman("secret", "create", "ccproxy-pod-test", "-", stdin=json.dumps(secret))
    yield file, port
    podman("play", "kube", "--down", str(file), check=False)
    podman("secret", "rm", "ccproxy-pod-test", check=False)
    podman("rmi", f"localhost/ccproxy-fleet:{__version__}", check=False)


async def test_exported_kubernetes_objects_run(pod):
    file, port = pod
    await asyncio.to_thread(podman, "play", "kube", str(file))
    url = f"http://127.0.0.1:{port}"

    await eventually(lambda: is_status(url, 200), within=STARTED)
    assert (await send(url)).status == 200
