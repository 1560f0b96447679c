"""The fork server as a process: forked workers equal spawned ones, and share only code."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from ccproxy.supervisor.processes.identity import command_line
from tests.fleet import ROOT
from tests.supervisor.conftest import eventually, is_alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned")

COMMAND = (sys.executable, "-P", "-X", "faulthandler", "-m", "ccproxy.worker")
ENVIRON = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
KEY = "sk-canary-0123456789abcdef"


class Worker:
    """The supervisor's side of one worker: its socket, its readiness pipe, its output."""

    def __init__(self, home: Path, label: str) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.ready, self.told = os.pipe()
        self.out = (home / f"{label}.out").open("ab")
        env_file = home / f"{label}.env"
        env_file.write_text(f"PROVIDER=kimi\nPROVIDER_API_KEY={KEY}\n")
        env_file.chmod(0o600)
        port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        options = {
            "--home": home,
            "--label": label,
            "--env-file": env_file,
            "--port": port,
            "--control": home / f"{label}.sock",
            "--nonce": f"nonce-of-{label}",
        }
        self.arguments = [str(term) for option in options.items() for term in option]
        self.pid = 0
        self.child: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        fds = (self.listener.fileno(), self.told)
        self.child = subprocess.Popen(
            [*COMMAND, *self.arguments, "--listen-fd", str(fds[0]), "--ready-fd", str(fds[1])],
            env=ENVIRON,
            stdin=subprocess.DEVNULL,
            stdout=self.out,
            stderr=self.out,
            pass_fds=fds,
            start_new_session=True,
            umask=0o077,
        )
        self.wait()

    def wait(self) -> None:
        os.close(self.told)
        with os.fdopen(self.ready) as pipe:
            line = pipe.readline()  # the worker keeps the pipe open and reports a drain on it
        assert line, Path(self.out.name).read_text()
        self.pid = json.loads(line)["pid"]

    def request_id(self) -> str:
        with urllib.request.urlopen(f"{self.url}/health") as answer:
            return str(answer.headers["request-id"])

    def end(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            eventually(lambda: not is_alive(self.pid))
        if self.child:
            self.child.wait()
        self.listener.close()
        self.out.close()


class Server:
    """A fork server and the supervisor's end of its socket."""

    def __init__(self, room: str = " " * 4096, **environ: str) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(30)
        with theirs:
            self.process = subprocess.Popen(
                [*COMMAND, "--fork-server", str(theirs.fileno()), room],
                env={**ENVIRON, **environ},
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                umask=0o077,
            )

    def is_ready(self) -> bool:
        return self.channel.recv(64) == b"ready"

    def order(self, worker: Worker) -> bytes:
        fds = (worker.listener.fileno(), worker.told, worker.out.fileno())
        socket.send_fds(self.channel, [json.dumps(worker.arguments).encode()], fds)
        return self.channel.recv(64)

    def fork(self, worker: Worker) -> None:
        pid = int(self.order(worker))
        worker.wait()
        assert worker.pid == pid

    def last_words(self) -> str:
        _, output = self.process.communicate(timeout=60)
        self.channel.close()
        return output.decode().strip().splitlines()[-1]

    def close(self) -> None:
        self.channel.close()
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def server():
    """One server for all tests, because each server needs half a second for its imports."""
    server = Server()
    assert server.is_ready()
    yield server
    server.close()


@pytest.fixture
def make(tmp_path):
    made = []

    def make(label: str) -> Worker:
        made.append(Worker(tmp_path, label))
        return made[-1]

    yield make
    for worker in made:
        worker.end()


# The entries of a process in /proc.


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def arguments_of(pid: int) -> list[str]:
    # Descriptors, ports and the label differ between workers.
    return [re.sub(r"spawned|forked|\b\d+$", "…", term) for term in command_line(pid) if term]


def descriptors_of(pid: int) -> Counter[str]:
    links = (str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir())
    return Counter(re.sub(r"\[\d+\]|spawned|forked", "…", link) for link in links)


FACTS = {
    "its command line": arguments_of,
    "its environment": lambda pid: Path(f"/proc/{pid}/environ").read_bytes(),
    "its open files": descriptors_of,
    "its folder": lambda pid: Path(f"/proc/{pid}/cwd").readlink(),
    "its limits": lambda pid: Path(f"/proc/{pid}/limits").read_text(),
    "its signals": lambda pid: [status_of(pid)[f"Sig{kind}"] for kind in ("Blk", "Ign", "Cgt")],
    "its umask": lambda pid: status_of(pid)["Umask"],
    "its threads": lambda pid: status_of(pid)["Threads"],
    "its session and group": lambda pid: (os.getsid(pid) == pid, os.getpgid(pid) == pid),
}


def test_a_forked_worker_equals_a_spawned_one(server, make):
    forked, spawned = make("forked"), make("spawned")
    server.fork(forked)
    spawned.spawn()
    for fact, look in FACTS.items():
        assert look(forked.pid) == look(spawned.pid), fact


def test_workers_share_memory_and_no_identifiers(server, make):
    workers = [make("forked1"), make("forked2")]
    for worker in workers:
        server.fork(worker)
    prefixes = {worker.request_id()[:20] for worker in workers}
    assert len(prefixes) == 2
    for worker in workers:
        text = Path(f"/proc/{worker.pid}/smaps_rollup").read_text()
        (shared,) = re.findall(r"Shared_Dirty: +(\d+) kB", text)
        assert int(shared) > 8 * 1024


def test_a_crash_is_written_to_the_workers_own_output(server, make):
    worker = make("forked")
    server.fork(worker)
    os.kill(worker.pid, signal.SIGABRT)
    eventually(lambda: not is_alive(worker.pid))
    worker.pid = 0
    assert "Fatal Python error: Aborted" in Path(worker.out.name).read_text()


def test_workers_outlive_the_server(make):
    server, worker = Server(), make("forked")
    assert server.is_ready()
    server.fork(worker)
    server.close()
    assert server.process.returncode == 0
    assert worker.request_id()


def test_a_worker_without_a_waiting_supervisor_exits(server, make):
    """No worker remains if the supervisor has given up waiting for the server."""
    worker = make("forked")
    os.close(worker.ready)
    pid = int(server.order(worker))
    os.close(worker.told)
    eventually(lambda: not is_alive(pid))


def test_no_key_is_in_the_server(server, make):
    server.fork(make("forked"))
    pid, regions = server.process.pid, []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            if line.split()[1].startswith("rw"):
                memory.seek(begin)
                regions.append(memory.read(end - begin))
    result = b"".join(regions)
    assert b"nonce-of-forked" in result, "the file has its output"
    assert KEY.encode() not in result


def test_ps_and_top_show_a_forked_worker_as_ccproxy(server, make):
    worker = make("forked")
    server.fork(worker)
    assert status_of(worker.pid)["Name"] == "ccproxy"


def test_a_command_line_without_space_forks_nothing(make):
    server = Server(room="")
    assert server.is_ready()
    worker = make("forked")
    assert server.order(worker) == b""
    assert server.last_words() == "OSError: the command line is too long"
    os.close(worker.told)
    with os.fdopen(worker.ready) as pipe:
        assert pipe.read() == ""


def test_a_process_with_threads_does_not_fork(tmp_path):
    start = "import threading, time\n"
    start += "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    (tmp_path / "sitecustomize.py").write_text(start)
    server = Server(PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert not server.is_ready()
    assert server.last_words() == "OSError: an import has started a thread"
