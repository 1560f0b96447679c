"""Commands that collide, are killed or read invalid data, with fake workers."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from ccproxy.cli.main import cli
from ccproxy.errors import Busy, NotRunning
from ccproxy.supervisor.control import client
from ccproxy.supervisor.processes.identity import command_line
from ccproxy.supervisor.state.records import RecordFolder, read_supervisor
from tests.supervisor.conftest import FAKE_WORKER, Home, eventually, is_alive
from tests.trust.sizes import note, size

pytestmark = pytest.mark.xdist_group("processes")


def processes_of(home):
    """Return the pids of the running supervisors and workers."""
    pids_by_mark = {"ccproxy.supervisor": [], "--nonce": []}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = command_line(process.pid)
            if not any(str(home.path) in word for word in words):
                continue
            for mark, pids in pids_by_mark.items():
                if mark in words and process.status() != psutil.STATUS_ZOMBIE:
                    pids.append(process.pid)
    return pids_by_mark["ccproxy.supervisor"], pids_by_mark["--nonce"]


def test_commands_at_once(home):
    """200 rounds of concurrent start, stop and reload: one supervisor, N workers, no hangs."""
    home.add("Kimi")
    home.add("Glm", workers=2)
    chance = random.Random(4)
    slowest, ends = 0.0, {"done": 0, "busy": 0, "nothing runs": 0}

    def order(op):
        begun = time.monotonic()
        try:
            home.request(op, drain=1.0)
        except Busy:
            end = "busy"
        except NotRunning:
            end = "nothing runs"
        else:
            end = "done"
        return end, time.monotonic() - begun

    rounds = size(8, 200)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(rounds):
            ops = [chance.choice(["start", "start", "stop", "reload"]) for _ in range(4)]
            for end, took in pool.map(order, ops):
                ends[end] += 1
                slowest = max(slowest, took)
    assert home.start() == {"Kimi": "ready", "Glm": "ready"}
    eventually(lambda: [len(pids) for pids in processes_of(home)] == [1, 3])
    note("", rounds=rounds, commands=rounds * 4, ends=ends, slowest_s=round(slowest, 1))
    assert slowest <= 30.0


def test_a_worker_that_ends_at_once_restarts_with_growing_delays(home):
    """Delays of 0.5, 1, 2, 4, 8, 16, 30, 30 s (each ± 25 %), a crash loop after five, no load."""
    home.add("Kimi", CRASH="1")
    supervisor = psutil.Process(home.supervise())
    expected = [0.5, 1, 2, 4, 8, 16, 30, 30][: size(3, 8)]
    home.request("start", timeout=0.0)
    eventually(lambda: home.events("worker.exited"))
    cpu, begun = sum(supervisor.cpu_times()[:2]), time.monotonic()
    eventually(
        lambda: len(home.events("worker.spawned")) > len(expected), seconds=2 * sum(expected) + 10
    )
    load = (sum(supervisor.cpu_times()[:2]) - cpu) / (time.monotonic() - begun)
    at = [[datetime.fromisoformat(event["time"]).timestamp() for event in home.events(name)]
          for name in ("worker.exited", "worker.spawned")]  # fmt: skip
    delays = [later - earlier for earlier, later in zip(at[0], at[1][1:], strict=False)]
    note("", delays=[round(delay, 2) for delay in delays], cpu_percent=round(100 * load, 2))
    for delay, length in zip(delays, expected, strict=False):
        # The time of the fork on a busy machine is added.
        assert 0.75 * length <= delay <= 1.25 * length + size(0.5, 0.1)
    assert home.status()["Kimi"] == ("crash-loop" if len(expected) >= 5 else "starting")
    assert load < size(0.05, 0.01)


# Mistakes in the files.

FIRST, SECOND = "envs/Kimi.env", "envs/Glm.env"


def table(text):
    return lambda home: home.file.write_text(text)


def entry(port="18081", env_file=FIRST, label="Kimi", more=""):
    text = f'[[proxy]]\nport = {port}\nenv_file = "{env_file}"\nlabel = "{label}"\n{more}\n'
    return table(text)


def line(text):
    return table(f'proxies = [\n  "{text}",\n]\n')


def setting(text):
    def write(home):
        file = home.path / FIRST
        file.write_text("PROVIDER=openai\nPROVIDER_API_KEY=sk-secret-0123456789\n" + text + "\n")

    return write


BROKEN = {
    "not TOML": table("proxies = ["),
    "a word": table("hello"),
    "proxies is a number": table("proxies = 5"),
    "an unknown table": table("[proxi]\nx = 1"),
    "no entries": table("proxies = []"),
    "an entry that is a number": table("proxies = [5]"),
    "a binary file": lambda home: home.file.write_bytes(b"\xff\xfe\x00"),
    "no table": lambda home: home.file.write_bytes(b""),
    "an unknown field": entry(more="colour = 1"),
    "port 0": entry(port="0"),
    "port 70000": entry(port="70000"),
    "a negative port": entry(port="-1"),
    "a port in words": entry(port='"http"'),
    "a port in the short form": line(f"http:{FIRST}:Kimi"),
    "port 70000 in the short form": line(f"70000:{FIRST}:Kimi"),
    "too few fields": line("18081"),
    "an empty field": line(f"18081:{FIRST}:"),
    "a label that climbs": entry(label="../x"),
    "a label with a slash": entry(label="a/b"),
    "an empty label": entry(label=""),
    "a long label": entry(label="x" * 40),
    "a label with a blank": entry(label="a b"),
    "a label with a dash first": entry(label="-x"),
    "no env file": entry(env_file="envs/none.env"),
    "a folder for an env file": entry(env_file="envs"),
    "workers 0": entry(more="workers = 0"),
    "workers in words": entry(more='workers = "two"'),
    "a port twice": table(
        f'proxies = ["18081:{FIRST}:Kimi", "18081:{SECOND}:Glm"]\n',
    ),
    "a label twice": table(f'proxies = ["18081:{FIRST}:Kimi", "18082:{SECOND}:kimi"]\n'),
    "another port in the env file": setting("PORT=9999"),
    "an unknown setting": setting("BIG_MODLE=x"),
    "a bad URL": setting("PROVIDER_BASE_URL=nonsense"),
    "a URL without a host": setting("PROVIDER_BASE_URL=http://"),
    "a time in words": setting("REQUEST_TIMEOUT=soon"),
    "retries in words": setting("MAX_RETRIES=many"),
    "an unknown level": setting("LOG_LEVEL=LOUD"),
    "an unknown preset": setting("PROVIDER=nobody"),
    "another API": setting("PROVIDER_API=soap"),
    "a header with a line end": setting('CUSTOM_HEADER_X="a\\nb"'),
    "a forbidden header": setting("CUSTOM_HEADER_HOST=x"),
    "all the world without a client key": setting("HOST=0.0.0.0"),
    "no key": lambda home: (home.path / FIRST).write_text("PROVIDER=openai\n"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_configuration_is_reported_and_changes_nothing(running, name):
    """Exit code 78, file, line and fix, no secret; running workers continue."""
    pids, spawned = running.pids, len(running.home.events("worker.spawned"))
    BROKEN[name](running.home)
    for op in ("reload", "start"):
        begun = time.monotonic()
        result = CliRunner().invoke(cli, ["--config", str(running.home.file), op])
        running.took.append(time.monotonic() - begun)
        assert result.exit_code == 78, result.output
        assert "fix: " in result.stderr
        assert re.search(r"/(ccproxy\.toml|envs(/\w+\.env)?)(:\d+)?", result.stderr)
        assert "0123456789" not in result.output
    rows = client.fleet_status(running.fleet).proxies
    assert {row.label: row.pids for row in rows if row.pids} == pids
    assert len(running.home.events("worker.spawned")) == spawned


class Running:
    def __init__(self, home) -> None:
        self.home = home
        home.add("Kimi")
        home.add("Glm")
        home.start()
        self.fleet = home.fleet
        self.pids = {label: home.row(label).pids for label in ("Kimi", "Glm")}
        self.files = {path: path.read_bytes() for path in (home.file, *home.path.glob("envs/*"))}
        self.took: list[float] = []


@pytest.fixture(scope="module")
def one_fleet():
    folder = Home(Path(tempfile.mkdtemp(prefix="ccp")))
    running = Running(folder)
    yield running
    folder.clear()
    note("", configurations=len(BROKEN), slowest_s=round(max(running.took), 2),
         median_s=round(sorted(running.took)[len(running.took) // 2], 2))  # fmt: skip
    assert sorted(running.took)[len(running.took) // 2] <= 0.5


@pytest.fixture
def running(one_fleet):
    yield one_fleet
    for path, content in one_fleet.files.items():
        path.write_bytes(content)
        path.chmod(0o600)


def test_there_are_forty_broken_configurations():
    assert len(BROKEN) >= 40


# Kills.

START = """
import sys
from pathlib import Path
from ccproxy.config.fleet import load_fleet
from ccproxy.supervisor.control import client
fleet = load_fleet(Path(sys.argv[1]))
client.ensure_supervisor(fleet, worker_command=sys.argv[2:])
client.request(fleet, "restart" if len(list(fleet.pids.glob("*.pid"))) > 1 else "start")
"""


def test_killed_at_any_moment(home):
    """200 kills of a command or the supervisor while it writes: every file remains readable."""
    home.add("Kimi")
    home.add("Glm", workers=2)
    chance = random.Random(11)
    command = [sys.executable, "-c", START, str(home.file), *FAKE_WORKER]
    rounds, unreadable = size(8, 200), 0
    for number in range(rounds):
        starting = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.1, 0.7))  # the random moment is the point of the test
        victim = starting.pid
        with contextlib.suppress(OSError):
            if number % 2:
                record = read_supervisor(home.path / "pids")
                victim = record.pid if record else victim
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        starting.kill()
        starting.wait()
        eventually(lambda victim=victim: not is_alive(victim))
        if (home.path / "pids").is_dir():
            read = [record for _, record in RecordFolder(home.path / "pids").read()]
            unreadable += read.count(None)
        home.records()
    assert home.start() == {"Kimi": "ready", "Glm": "ready"}
    eventually(lambda: [len(pids) for pids in processes_of(home)] == [1, 3])
    note("", kills=rounds, unreadable=unreadable)
    assert unreadable == 0
