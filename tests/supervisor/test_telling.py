"""What is told: probes and their misses, rows and their words, the reading of the user's files."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from ccproxy.errors import CcproxyError, ConfigError, Mistake
from ccproxy.supervisor.config_check import ChildConfigCheck, examine
from ccproxy.supervisor.control.config_mistakes import mistakes_from_json, mistakes_to_json
from ccproxy.supervisor.control.row import Row
from ccproxy.supervisor.control.status_rows import row_of, state_of
from ccproxy.supervisor.fleet.health_probe import UNREACHABLE, Prober
from ccproxy.supervisor.fleet.plan import Goal, Phase, Port
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.processes.child_environment import clean_environment
from ccproxy.supervisor.processes.identity import Identity, identify
from ccproxy.supervisor.sockets.unix_socket import NoAnswer
from ccproxy.supervisor.state.records import Spec, WorkerRecord

SPEC = Spec(
    label="Kimi", host="127.0.0.1", port=8081, env_file="e", base_url="https://k", digest="d"
)


def unit(*, index=1, nonce="n", identity=None, state=None, spec=SPEC) -> WorkerSlot:
    made = WorkerSlot(spec, index)
    identity = identity or Identity(4711, 1.0, "boot")
    record = WorkerRecord(identity=identity, nonce=nonce, control="c", index=index, spec=spec)
    made.adopted(record, 0.0, state or {})
    return made


# Probes.


class Worker:
    """Answers when the test lets it."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: dict[str, object] | None = {"nonce": "n", "state": "ready"}
        self.may = asyncio.Event()
        self.may.set()

    async def __call__(self, control, request):
        assert (control, request) == ("c", {"op": "state"})
        self.asked += 1
        await self.may.wait()
        if self.answer is None:
            raise NoAnswer(control)
        return self.answer


@pytest.fixture
async def probed():
    worker, probed = Worker(), unit()
    prober = Prober([probed], changed=lambda: None, ask=worker)
    yield prober, probed, worker
    await prober.close()


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_worker_that_answers_misses_nothing(probed):
    prober, one, worker = probed
    for _ in range(3):
        prober.begin()
        await turns()
        prober.count()
    assert (one.misses, worker.asked, one.state["state"]) == (0, 3, "ready")


async def test_silence_is_counted_and_one_question_stays_open(probed):
    prober, one, worker = probed
    worker.may.clear()
    for misses in (1, 2, 3):
        prober.begin()
        await turns()
        prober.count()
        assert (one.misses, worker.asked) == (misses, 1)


async def test_a_late_answer_clears_the_misses(probed):
    prober, one, worker = probed
    worker.may.clear()
    prober.begin()
    await turns()
    prober.count()
    worker.may.set()
    await turns()
    assert one.misses == 0


async def test_who_was_only_just_asked_has_not_missed(probed):
    """`status` asks at any time; only what the prober's own turn asked is due at its count."""
    prober, one, worker = probed
    worker.may.clear()
    await prober.refresh(0.001)
    prober.count()
    assert one.misses == 0


async def test_who_was_heard_just_now_is_not_silent(probed):
    prober, one, worker = probed
    await prober.refresh(0.5)
    worker.may.clear()
    await prober.refresh(0.001)
    assert (one.silent, one.reason(0.0)) == (False, "")


async def test_an_unreachable_socket_is_told_but_is_no_hang(probed):
    prober, one, worker = probed
    worker.answer = None
    for _ in range(5):
        prober.begin()
        await turns()
        prober.count()
    assert one.misses == 0
    assert one.reason(0.0) == UNREACHABLE


async def test_another_workers_answer_does_not_count(probed):
    prober, one, worker = probed
    worker.answer = {"nonce": "another", "state": "ready", "in_flight": 9}
    prober.begin()
    await turns()
    assert one.state == {}


async def test_who_does_not_serve_is_not_asked(probed):
    prober, one, worker = probed
    one.ready_at = None
    prober.begin()
    assert worker.asked == 0


async def test_the_turns_keep_their_times():
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Prober([], changed=lambda: None, sleep=sleep).run()
    assert slept == [3.0, 2.0, 3.0, 2.0]


# Rows.


@pytest.mark.parametrize(
    ("phases", "state"),
    [
        pytest.param([], "stopped", id="nothing"),
        pytest.param([(1, Phase.READY)], "ready", id="one"),
        pytest.param([(1, Phase.READY), (2, Phase.READY)], "ready", id="all"),
        pytest.param([(1, Phase.READY), (2, Phase.STARTING)], "degraded", id="one is missing"),
        pytest.param([(1, Phase.READY), (2, Phase.CRASH_LOOP)], "degraded", id="one keeps dying"),
        pytest.param([(1, Phase.READY), (2, Phase.DEGRADED)], "degraded", id="one ails"),
        pytest.param([(1, Phase.STARTING), (2, Phase.FAILED)], "failed", id="the worst is told"),
        pytest.param([(1, Phase.FOREIGN), (2, Phase.FOREIGN)], "foreign", id="no port"),
        pytest.param([(1, Phase.READY), (1, Phase.STARTING)], "ready", id="a successor starts"),
        pytest.param([(1, Phase.FAILED), (1, Phase.READY)], "ready", id="a successor failed"),
    ],
)
def test_an_entry_is_the_sum_of_its_units(phases, state):
    assert state_of(phases) == state


def test_only_leaving_workers_are_stopping():
    assert state_of([], leaving=True) == "stopping"


def row(*units, spec=SPEC):
    return row_of(spec, units, port=lambda _: Port.OURS, now=0.0, logs=Path("/l"))


def test_a_row_of_nothing_says_what_the_table_says():
    expected = Row(
        label="Kimi", port=8081, host="127.0.0.1", state="stopped", base_url="https://k",
        log="/l/Kimi.log",
    )  # fmt: skip
    assert row() == expected


def test_a_row_sums_up_and_the_poorest_pool_counts():
    me = identify(os.getpid())
    first = unit(identity=me, state={"in_flight": 3, "keys": {"ready": 2, "total": 3}})
    second = unit(index=2, identity=me, state={"in_flight": 4, "keys": {"ready": 1, "total": 3}})
    summed = row(first, second)
    assert (summed.in_flight, summed.keys) == (7, {"ready": 1, "total": 3})
    assert (summed.state, summed.reason) == ("degraded", "1 of 3 keys out")
    assert summed.pids == (me.pid, me.pid)
    assert summed.uptime_s > 0


def test_a_ready_entry_has_no_reason_whatever_its_successor_says():
    failed = WorkerSlot(SPEC, 1)
    failed.refused, failed.words = True, "no such model"
    assert row(unit(), failed).reason is None
    assert row(failed).reason == "no such model"


def test_what_runs_is_shown_with_what_it_was_started_from():
    old = Spec(label="Kimi", host="0.0.0.0", port=8099, env_file="e")
    assert (row(unit(spec=old)).host, row(unit(spec=old)).port) == ("0.0.0.0", 8099)


def test_a_leaving_worker_is_shown_with_its_pid():
    leaving = unit()
    leaving.goal = Goal.STOPPED
    assert (row(leaving).state, row(leaving).pids) == ("stopping", (4711,))


def test_a_row_crosses_the_socket_and_newer_fields_are_left_out():
    sent = row(unit())
    fields = json.loads(json.dumps(sent.as_json() | {"tomorrow": 1}))
    assert Row.from_json(fields) == sent


# The user's files.


@pytest.fixture
def table(tmp_path):
    (tmp_path / "a.env").write_text("PROVIDER=demo\n")
    (tmp_path / "b.env").write_text("PROVIDER=demo\nMAX_RETRIES=many\n")
    for name in ("a.env", "b.env"):
        (tmp_path / name).chmod(0o600)
    file = tmp_path / "ccproxy.toml"
    file.write_text('proxies = ["8081:a.env:A", "8082:b.env:B"]')
    return file


def test_only_the_files_that_are_asked_for_are_examined(table):
    first, second = examine(table, ["a"])
    assert (first.label, first.models["big"]) == ("A", "demo-large")
    assert first.digest
    assert (second.label, second.port, second.digest) == ("B", 8082, "")


def test_every_mistake_of_every_file_is_told(table):
    table.write_text(table.read_text().replace("]", ', "x:a.env:C"]'))
    with pytest.raises(ConfigError) as caught:
        examine(table, [])
    assert {mistake.file.name for mistake in caught.value.mistakes} == {"ccproxy.toml", "b.env"}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda t: (t.parent / "a.env").write_text("PROVIDER=demo\n#"), id="env file"),
        pytest.param(lambda t: t.write_text('proxies = ["8083:a.env:A"]'), id="port"),
        pytest.param(lambda t: t.write_text('proxies = ["8081:a.env:a"]'), id="label"),
        pytest.param(
            lambda t: t.write_text(
                '[[proxy]]\nport = 8081\nenv_file = "a.env"\nlabel = "A"\nworkers = 2'
            ),
            id="workers",
        ),
    ],
)
def test_the_digest_names_all_that_a_worker_is_started_from(table, change):
    before = examine(table, ["a"])[0].digest
    assert examine(table, ["a"])[0].digest == before
    change(table)
    assert examine(table, ["a"])[0].digest != before


async def test_an_unchanged_table_is_not_read_again(table):
    command = [sys.executable, "-m", "ccproxy.supervisor.config_check"]
    reader = ChildConfigCheck(table, command=command, environment=clean_environment())
    first = await reader(["A"], cwd=None)
    assert await reader(["a"], cwd=None) is first
    (table.parent / "a.env").write_text("PROVIDER=demo\n\n")
    second = await reader(["A"], cwd=None)
    assert second[0].digest != first[0].digest


async def test_mistakes_come_back_as_they_were(table):
    reader = ChildConfigCheck(table, environment=clean_environment())
    with pytest.raises(ConfigError, match="MAX_RETRIES") as caught:
        await reader([], cwd=str(table.parent))
    (mistake,) = caught.value.mistakes
    assert (mistake.file, mistake.line) == (Path("b.env"), 2)


async def test_a_reader_that_breaks_is_told_with_its_last_words(table):
    command = [sys.executable, "-c", "raise RuntimeError('no disk')"]
    reader = ChildConfigCheck(table, command=command, environment=clean_environment())
    with pytest.raises(CcproxyError, match="could not be read: RuntimeError: no disk"):
        await reader([], cwd=None)


def test_mistakes_cross_a_pipe():
    mistakes = [
        Mistake(file=Path("a"), line=3, text="t", fix="f"),
        Mistake(file=Path("b"), line=None, text="u"),
    ]
    assert mistakes_from_json(json.loads(json.dumps(mistakes_to_json(mistakes)))) == mistakes


@pytest.mark.parametrize("module", ["control.client", "main_loop"])
def test_what_must_be_quick_or_small_imports_nothing_heavy(module):
    heavy = {"aiohttp", "structlog", "msgspec", "psutil", "rich", "uvloop", "dotenv"}
    heavy |= {"asyncio"} if module == "control.client" else set()
    code = f"import sys, ccproxy.supervisor.{module}; print(*sys.modules)"
    import subprocess

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert f"ccproxy.supervisor.{module}" in loaded.split()
    assert heavy & set(loaded.split()) == set()
