"""Listening addresses, file permissions, and symbolic links."""

from __future__ import annotations

import json
import os
import pty
import socket
import stat
import subprocess
import sys
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.fleet import FleetHome
from tests.messages import ask, prompt
from tests.ports import free_port

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture
async def home(tmp_path):
    async with FleetHome(tmp_path) as home:
        yield home


# Addresses.


def listening(home: FleetHome) -> set[str]:
    """Return the addresses on which the fleet's processes listen."""
    return {
        connection.laddr.ip
        for process in home.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


async def test_a_fleet_listens_on_loopback_only(home):
    home.write(one={"PROVIDER": "demo"}, two={"PROVIDER": "demo"})
    assert (await home.ccproxy("start", HOST="0.0.0.0", ALLOW_PUBLIC="on")).code == 0
    assert listening(home) == {"127.0.0.1"}
    for interface, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                with socket.socket() as probe:
                    probe.settimeout(30)
                    assert probe.connect_ex((one.address, home.ports["one"])), interface


STRONG = "a-client-key-of-32-characters-00"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", "*", "0"])
@pytest.mark.parametrize(
    "key", ["", "short-key", "your-api-key", "sk-xxxxxxxxxxxxxxxxxxxx", "changeme-changeme", " ,, "]
)
async def test_a_public_address_requires_a_strong_client_key(host, key, home):
    home.write(demo={"PROVIDER": "demo", "HOST": host, "ANTHROPIC_API_KEY": key})
    done = await home.ccproxy("check")
    assert done.code == 78, done
    assert "fix: " in done.err


async def test_environment_variables_alone_open_no_address(home):
    done = await home.ccproxy("up", "--port", str(free_port()), PROVIDER="demo", HOST="0.0.0.0")
    assert done.code == 78
    assert "no client key is required" in done.err


# Permissions.


def modes(folder: Path) -> dict[str, str]:
    """Return the files below *folder* that other users can read or write."""
    return {
        str(path.relative_to(folder)): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in folder.rglob("*")
        if path.lstat().st_mode & 0o077 and not path.is_symlink()
    }


async def test_written_files_are_private(home, provider):
    home.write(
        chat={"PROVIDER_BASE_URL": provider.url, "PROVIDER_API_KEY": "sk-0123456789abcdef"},
        two={"PROVIDER": "demo"},
    )
    ours = set(home.path.rglob("*"))
    old = os.umask(0)
    try:
        await home.ccproxy("start")
        async with aiohttp.ClientSession() as session:
            await ask(session, home.url("chat"), prompt())
        await home.ccproxy("restart")
        await home.ccproxy("status")
        written = set(home.path.rglob("*")) - ours
        assert any(path.is_socket() for path in written)
        assert {path.name for path in written} >= {"chat.log", "supervisor.pid", "signing.key"}
        result = modes(home.path)
        await home.ccproxy("stop")
        result |= modes(home.path)
    finally:
        os.umask(old)
    before = {str(path.relative_to(home.path)) for path in ours}
    assert {name: mode for name, mode in result.items() if name not in before} == {}


async def test_an_env_file_readable_by_others_is_refused(home):
    home.write(kimi={"PROVIDER": "kimi", "PROVIDER_API_KEY": "sk-0123456789abcdef"})
    file = home.path / "envs/kimi.env"
    for mode in (0o640, 0o604, 0o660, 0o644):
        file.chmod(mode)
        done = await home.ccproxy("start")
        assert done.code == 78
        assert "chmod 600 envs/kimi.env" in done.err
    assert home.processes() == []


# Symbolic links instead of files.

PLANTED = [
    "logs/demo.log",
    "logs/demo.out",
    "logs/supervisor.log",
    "logs/supervisor.out",
    "pids/demo.pid",
    "pids/supervisor.pid",
    "pids/demo@1.pid",
    "state/supervisor.lock",
    "state/supervisor.sock",
    "state/demo.1.sock",
    "state/demo.sock",
    "state/signing.key",
    "state/demo.keys.json",
    "state/demo.json",
    "state/history.sqlite",
    "logs/demo.log.20200101_000000",
    "logs/x.log.20200101_000000",
    "logs/cleanup-cron.log",
    "logs/service.out",
    "exports/out.jsonl",
]
SECRET = b"somebody else's bytes, thirty-two"


@pytest.mark.parametrize("name", PLANTED)
async def test_a_link_in_place_of_a_file_is_not_followed(name, home, tmp_path_factory):
    theirs = tmp_path_factory.mktemp("theirs") / "victim"
    theirs.write_bytes(SECRET)
    theirs.chmod(0o640)
    os.utime(theirs, (1, 1))
    before = theirs.stat()
    link = home.path / name
    link.parent.mkdir(mode=0o700, exist_ok=True)
    link.symlink_to(theirs)
    home.write(demo={"PROVIDER": "demo"})
    # The fleet may fail to start, but must not change the target.
    for words in (["start"], ["status"], ["cleanup"], ["doctor", "--fix", "--offline"], ["stop"]):
        done = await home.ccproxy(*words)
        assert "Traceback" not in done.err, done
    after = theirs.stat()
    assert theirs.read_bytes() == SECRET
    assert (after.st_mode, after.st_mtime_ns, after.st_ino, after.st_nlink) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_ino,
        before.st_nlink,
    )


async def test_a_dangling_link_creates_no_file(home, tmp_path_factory):
    target = tmp_path_factory.mktemp("theirs") / "made"
    for name in ("logs/demo.log", "logs/supervisor.out", "state/signing.key"):
        (home.path / name).parent.mkdir(mode=0o700, exist_ok=True)
        (home.path / name).symlink_to(target)
    home.write(demo={"PROVIDER": "demo"})
    await home.ccproxy("start")
    await home.ccproxy("stop")
    assert not target.exists()


# Arguments, core files, privileges.


async def test_a_session_s_token_is_in_no_argument(home):
    key = "ccp_0123456789abcdef0123456789abcdef"
    home.write(demo={"PROVIDER": "demo", "ANTHROPIC_API_KEY": key})
    show = (
        "import json, os, sys; print(json.dumps([open('/proc/self/cmdline').read(), "
        "open(f'/proc/{os.getppid()}/cmdline').read(), os.environ['ANTHROPIC_AUTH_TOKEN'], "
        "[open(w).read() for w in sys.argv if w.endswith('.json')], "
        "[os.stat(w).st_mode & 0o777 for w in sys.argv if w.endswith('.json')], sys.argv]))"
    )
    script = home.path / "claude"
    script.write_text(f"#!{sys.executable}\n{show}\n")
    script.chmod(0o755)
    done = await home.ccproxy("run", "demo", "--", str(script))
    mine, parents, token, settings, modes_, words = json.loads(done.out)
    assert token == key, "it does arrive"
    assert key not in mine + parents
    assert key in settings[0]
    assert modes_ == [0o600]
    file = Path(words[2])
    assert file.is_relative_to(home.path / "state"), "it stays, for `claude --resume`"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


async def test_env_masks_the_token_on_a_terminal(home):
    key = "ccp_0123456789abcdef0123456789abcdef"
    home.write(demo={"PROVIDER": "demo", "ANTHROPIC_API_KEY": key})
    ours, theirs = pty.openpty()
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        [sys.executable, "-m", "ccproxy", "env", "demo"],
        cwd=home.path, env=environ, stdout=theirs, stderr=theirs, check=False, timeout=60,
    )  # fmt: skip
    os.close(theirs)
    output = os.read(ours, 65536).decode()
    os.close(ours)
    assert "ANTHROPIC_AUTH_TOKEN" in output
    assert key[8:20] not in output
    assert key in (await home.ccproxy("env", "demo")).out, "a pipe gets the real one"


async def test_a_worker_leaves_no_core_file(home):
    home.write(demo={"PROVIDER": "demo"})
    await home.ccproxy("start")
    pid = await home.worker_pid("demo")
    limits = Path(f"/proc/{pid}/limits").read_text()
    (line,) = [row for row in limits.splitlines() if row.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]


async def test_a_worker_inherits_no_descriptor_of_the_shell(home):
    home.write(demo={"PROVIDER": "demo"})
    await home.ccproxy("start")
    pid = await home.worker_pid("demo")
    for fd in (0, 1, 2):
        target = str(Path(f"/proc/{pid}/fd/{fd}").readlink())
        assert target == "/dev/null" or target.startswith(str(home.path)), target
