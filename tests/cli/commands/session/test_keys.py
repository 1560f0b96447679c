"""`ccproxy keys`: arguments, output and exit codes."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click
import pytest

from ccproxy.cli.commands.session.keys import _lines, _parse, _Proxy
from ccproxy.convert.errors.causes import Cause
from ccproxy.errors import UsageError
from ccproxy.ipc.control_messages import KeyCooldown, KeyRow, SessionMove
from tests.cli.conftest import write_env
from tests.ports import free_port

GOOD = "sk-a-good-key-for-tests-1111"
BAD = "sk-a-bad-key-for-tests-2222"


@pytest.mark.parametrize(
    ("words", "order"),
    [
        pytest.param((), (None, "list", ()), id="nothing: all keys"),
        pytest.param(("kimi",), ("kimi", "list", ()), id="a label: its keys"),
        pytest.param(("test",), (None, "test", ()), id="an action: with all keys"),
        pytest.param(("kimi", "test"), ("kimi", "test", ()), id="all keys of a label"),
        pytest.param(("kimi", "test", "k1", "k3"), ("kimi", "test", ("k1", "k3")), id="some keys"),
        pytest.param(("test", "test"), ("test", "test", ()), id="a label named like an action"),
        pytest.param(("enable", "k1"), (None, "enable", ("k1",)), id="a key of the only label"),
    ],
)
def test_actions_are_parsed(words, order):
    assert _parse(words) == order


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param(("kimi", "burn"), 'unknown action "burn"', id="an unknown deed"),
        pytest.param(("kimi", "disable"), "disable needs a key", id="disable everything"),
    ],
)
def test_unknown_actions_are_refused(words, complaint):
    with pytest.raises(UsageError, match=complaint):
        _parse(words)


def test_a_disabled_key_shows_no_next_attempt(monkeypatch):
    cooldown = KeyCooldown(cause="rate_limit", status=429, seconds=540.0, since=0.0)
    keys = [
        KeyRow(id="k1", tail="…1111", state=state, cooldowns=(cooldown,))
        for state in ("resting", "disabled")
    ]
    proxy = _Proxy(label="Kimi", is_bypassed=False, keys=keys, unsaved="", tests=None)
    _, head, resting, disabled = map(click.unstyle, _lines(proxy, verbose=False))
    assert head == "  KEY  TAIL   STATE     TODAY  IN-FLIGHT  SESSIONS  WHY"
    assert resting.endswith("next attempt in 9m")
    assert disabled == "  k1   …1111  disabled      0          0         0"


def test_a_key_at_its_daily_limit_names_the_setting():
    limit = KeyCooldown(cause="per_day", status=0, seconds=7200.0, since=0.0)
    keys = [KeyRow(id="k1", tail="…1111", state="cooldown", cooldowns=(limit,))]
    proxy = _Proxy(label="Kimi", is_bypassed=False, keys=keys, unsaved="", tests=None)
    assert _lines(proxy, verbose=False)[-1].endswith("  KEY_PER_DAY is reached, next attempt in 2h")


def test_a_key_without_credit_names_the_command_to_use_after_topping_up():
    cause = Cause.OUT_OF_CREDIT.value
    cooldown = KeyCooldown(cause=cause, status=402, seconds=3600.0, since=0.0)
    keys = [KeyRow(id="k1", tail="…1111", state="resting", cooldowns=(cooldown,))]
    proxy = _Proxy(label="Kimi", is_bypassed=False, keys=keys, unsaved="", tests=None)
    assert _lines(proxy, verbose=False)[-1] == "  After topping up:  ccproxy keys Kimi reset"


def test_the_last_move_of_a_session_is_shown_with_its_reason_and_cost():
    first, last = (
        SessionMove(
            session="3f2a91bc",
            source="k1 …1111",
            target=f"k{number} …2222",
            cause="rate_limit",
            reason="the key is rate-limited",
            cached_tokens_lost=lost,
            at=1_800_000_000.0,
        )
        for number, lost in ((2, 0), (3, 12_500))
    )
    proxy = _Proxy(
        label="Kimi", is_bypassed=False, keys=[], unsaved="", tests=None, moves=[first, last]
    )
    text = "session 3f2a91bc moved from k1 …1111 to k3 …2222: the key is rate-limited"
    assert _lines(proxy, verbose=False)[-1].endswith(f"{text}, about 12,500 cached tokens lost")
    assert len(_lines(proxy, verbose=True)) == len(_lines(proxy, verbose=False)) + 1
    assert proxy.as_json()["moves"][1]["cached_tokens_lost"] == 12_500


def test_without_a_running_fleet_the_exit_code_is_3(home, ccproxy):
    done = ccproxy("keys")
    assert done.exit_code == 3
    assert "ccproxy start" in done.stderr
    assert ccproxy("keys", "kimi-k2").exit_code == 3


def test_a_key_of_several_labels_is_ambiguous(home, ccproxy):
    done = ccproxy("keys", "disable", "k1")
    assert done.exit_code == 2
    assert "ccproxy keys LABEL disable k1" in done.stderr


class _Provider(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        good = self.headers["Authorization"] == f"Bearer {GOOD}"
        choice = {"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}
        body = {"choices": [choice]} if good else {"error": {"message": "invalid api key"}}
        data = json.dumps(body).encode()
        self.send_response(200 if good else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args):
        pass


@pytest.fixture
def two_keys(tmp_path, monkeypatch, process):
    """A fleet of one proxy whose provider accepts one of its two keys."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ccproxy.toml").write_text(f'proxies = ["{free_port()}:envs/a.env:Two"]\n')
    url = f"http://127.0.0.1:{server.server_port}/v1"
    text = f"PROVIDER_BASE_URL={url}\nPROVIDER_API_KEY={GOOD},{BAD}\nMAX_RETRIES=0\n"
    write_env(tmp_path, "a", text)
    assert process("start").returncode == 0
    yield tmp_path
    assert process("stop", "--now").returncode == 0
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_rejected_key_is_reported_and_can_be_disabled(two_keys, process):
    done = process("keys", "two", "test")
    assert done.returncode == 4
    assert "✓ k1 …1111" in done.stdout
    assert "✗ k2 …2222  401" in done.stdout
    assert GOOD not in done.stdout + done.stderr
    assert BAD not in done.stdout + done.stderr

    (output,) = (line for line in process("-v", "keys").stdout.splitlines() if "refusal: " in line)
    assert output.endswith("(401): invalid api key")
    assert "refusal: " not in process("keys").stdout

    status = process("status")
    assert status.returncode == 1
    assert "degraded" in status.stdout
    assert "1/2" in status.stdout
    assert "1 of 2 keys out: k2 …2222 rejected (401) since" in status.stdout
    assert "fix: ccproxy keys Two test k2" in status.stdout

    done = process("keys", "disable", "k2", "--json")
    assert done.returncode == 0
    (row,) = json.loads(done.stdout)["proxies"]
    assert [key["state"] for key in row["keys"]] == ["ready", "disabled"]

    assert process("keys", "two", "enable", "k2").returncode == 0
    listed = process("keys")
    assert listed.returncode == 0
    assert [line.split()[:3] for line in listed.stdout.splitlines()[2:]] == [
        ["k1", "…1111", "ready"],
        ["k2", "…2222", "ready"],
    ]
    done = process("keys", "two", "test", "k7")
    assert done.returncode == 1
    assert "the keys are k1, k2" in done.stderr


def test_an_unsaved_change_is_reported_and_applies_until_a_restart(two_keys, process):
    with closing(sqlite3.connect(two_keys / "state" / "two.keys.sqlite")) as store, store:
        store.execute("DROP TABLE keys")
    done = process("keys", "two", "disable", "k2", "--json")
    assert done.returncode == 1
    assert done.stderr.startswith("warning: Two: the change was not saved (no such table: keys)")
    assert done.stderr.endswith(" and will be lost when the proxy restarts\n")
    (row,) = json.loads(done.stdout)["proxies"]
    assert [key["state"] for key in row["keys"]] == ["ready", "disabled"]
    assert row["unsaved"] == "no such table: keys"
    assert process("keys", "two").returncode == 0, "to look changes nothing"
