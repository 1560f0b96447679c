"""A proxy with several worker processes: they share one pool of keys."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli.conftest import write_env
from tests.ports import free_port

KEYS = [f"sk-a-key-of-three-{letter * 4}" for letter in "abc"]
QUESTION = {"model": "claude-x", "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]}


class _Provider(BaseHTTPRequestHandler):
    limited: tuple[str, ...] = ()
    keys: list[str]
    url: str

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers["Authorization"].removeprefix("Bearer ")
        self.keys.append(key)
        choice = {"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}
        bad = key in self.limited
        data = json.dumps({"error": {"message": "slow"}} if bad else {"choices": [choice]}).encode()
        self.send_response(429 if bad else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if bad:
            self.send_header("Retry-After", "600")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args):
        pass


@pytest.fixture
def provider():
    handler: type[_Provider] = type("Handler", (_Provider,), {"keys": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def post(port):
    """Send a request on a new connection, so that any process may get it."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/messages",
        data=json.dumps(QUESTION).encode(),
        headers={"Content-Type": "application/json", "Connection": "close"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def test_two_processes_share_rotation_cooldowns_and_counts(
    tmp_path, monkeypatch, process, provider
):
    monkeypatch.chdir(tmp_path)
    port = free_port()
    (tmp_path / "ccproxy.toml").write_text(
        f'[[proxy]]\nport = {port}\nenv_file = "envs/a.env"\nlabel = "Two"\nworkers = 2\n'
    )
    settings = f"PROVIDER_BASE_URL={provider.url}\nPROVIDER_API_KEY={','.join(KEYS)}\n"
    write_env(tmp_path, "a", settings)
    try:
        assert process("start").returncode == 0
        (row,) = json.loads(process("status", "--json").stdout)["proxies"]
        assert len(row["pids"]) == 2
        for _ in range(30):
            post(port)
        assert provider.keys == KEYS * 10
        provider.limited = (KEYS[1],)
        for _ in range(30):
            post(port)
        assert Counter(provider.keys[30:])[KEYS[1]] == 1
        (output,) = json.loads(process("keys", "--json").stdout)["proxies"]
        assert [key["state"] for key in output["keys"]] == ["ready", "cooldown", "ready"]
        assert sum(key["used_today"] for key in output["keys"]) == 61
        assert process("restart").returncode == 0
        (output,) = json.loads(process("keys", "--json").stdout)["proxies"]
        assert [key["state"] for key in output["keys"]] == ["ready", "cooldown", "ready"]
        assert sum(key["used_today"] for key in output["keys"]) == 61
        provider.limited = tuple(KEYS)
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(port)
        message = json.load(refused.value)["error"]["message"]
        refused.value.close()
        assert "rate-limited (429); next attempt in 10 min; see `ccproxy keys Two`." in message
    finally:
        assert process("stop", "--now").returncode == 0
