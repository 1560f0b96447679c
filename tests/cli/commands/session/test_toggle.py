"""`ccproxy toggle`: off and on again, in a running fleet."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request

import pytest

from ccproxy.config.worker_config import PLACEHOLDER
from tests.cli.conftest import port_of, write_env
from tests.fleet import FleetHome


def ask(port):
    """Return the status of a Messages request, and the server that an error names."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/messages",
        data=b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}',
        headers={"Content-Type": "application/json", "x-api-key": "sk-ant-own-0123456789"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_off_and_on(demo, ccproxy, process):
    write_env(demo, "demo", "PROVIDER=demo\nTRANSPARENT_URL=http://127.0.0.1:9\n")
    assert process("start", "demo").returncode == 0
    port = port_of(demo, "Demo")
    assert ask(port)[0] == 200

    done = ccproxy("toggle", "demo")
    assert done.stdout == "Demo is bypassed: requests go to http://127.0.0.1:9 unchanged.\n"
    status, text = ask(port)
    assert (status, "the proxy is disabled" in text) == (502, True)
    assert ccproxy("toggle", "demo", "off").stdout == done.stdout

    assert process("restart", "demo").returncode == 0
    assert ask(port)[0] == 502, "a restart must not send anything to the provider again"
    output = ccproxy("status", "demo").stdout
    assert "! Demo: bypassed → 127.0.0.1:9, requests are not changed" in output
    assert "(ccproxy toggle Demo on)" in output

    assert "Demo is on" in ccproxy("toggle", "demo").stdout
    assert ask(port)[0] == 200
    assert "is off" not in ccproxy("status", "demo").stdout


def test_a_switch_that_cannot_be_saved_is_reported(demo, ccproxy, process):
    write_env(demo, "demo", "PROVIDER=demo\nTRANSPARENT_URL=http://127.0.0.1:9\n")
    assert process("start", "demo").returncode == 0
    # A folder instead of the file, because root can write everywhere.
    (demo / "state/demo.standing.json").mkdir()
    for words, line in ((("toggle", "demo"), "bypassed"), (("history", "demo", "on"), "Recording")):
        done = ccproxy(*words)
        assert line in done.stdout
        assert (
            "warning: Demo: the change was not saved (demo.standing.json cannot be written"
            in done.stderr
        )
        assert "and will be lost when the proxy restarts" in done.stderr
        assert done.exit_code == 1


# A session on a bypassed proxy.

OWN = "sk-ant-own-0123456789"
CLIENT_KEY = "ccp_client-key-0123456789"
ASK = """
import os, urllib.error, urllib.request
headers = {"Authorization": "Bearer " + os.environ["ANTHROPIC_AUTH_TOKEN"]}
if "ANTHROPIC_API_KEY" in os.environ:
    headers["x-api-key"] = os.environ["ANTHROPIC_API_KEY"]
body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}'
url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
try:
    print(urllib.request.urlopen(urllib.request.Request(url, body, headers)).status)
except urllib.error.HTTPError as error:
    print(error.status, error.read().decode())
"""
"""Like Claude Code, which sends a header for each credential in its environment."""
ASKED = ("run", "demo", "--", sys.executable, "-c", ASK)


@pytest.mark.parametrize(
    "settings", [{}, {"ANTHROPIC_API_KEY": CLIENT_KEY}], ids=["without a key", "with a client key"]
)
async def test_a_session_on_a_bypassed_proxy_uses_the_users_own_key(settings, tmp_path, provider):
    goes_to = provider.url.removesuffix("/v1")
    async with FleetHome(tmp_path) as home:
        home.write(Demo={"PROVIDER": "demo", "TRANSPARENT_URL": goes_to, **settings})
        assert (await home.ccproxy("start")).code == 0
        assert (await home.ccproxy("toggle", "demo", "off")).code == 0

        done = await home.ccproxy(*ASKED, ANTHROPIC_API_KEY=OWN)
        assert done.out == "200\n", done.err
        (call,) = provider.calls
        assert (call.headers["x-api-key"], "authorization" in call.headers) == (OWN, False)
        warning = f"warning: Demo is bypassed: requests go to {goes_to} with your own key"
        assert f"{warning}, ANTHROPIC_API_KEY\n" in done.err
        assert "ccproxy toggle Demo on" in done.err

        done = await home.ccproxy(*ASKED)
        assert done.out.startswith("401 ")
        assert "the request has only" in done.out
        assert f"{warning}, but ANTHROPIC_API_KEY is not set\n" in done.err
        assert len(provider.calls) == 1, "neither a client key nor a placeholder goes anywhere"

        done = await home.ccproxy("env", "demo", ANTHROPIC_API_KEY=OWN)
        assert f"{warning}, ANTHROPIC_API_KEY\n" in done.err
        assert "ANTHROPIC_API_KEY" not in done.out, "a shell keeps what it has"
        assert f"ANTHROPIC_AUTH_TOKEN={settings.get('ANTHROPIC_API_KEY', PLACEHOLDER)};" in done.out

        assert (await home.ccproxy("toggle", "demo", "on")).code == 0
        done = await home.ccproxy("env", "demo", ANTHROPIC_API_KEY=OWN)
        assert "unset ANTHROPIC_API_KEY;" in done.out
        assert "is off" not in done.err


def test_status_says_where_bodies_can_be_read(demo, ccproxy, process):
    write_env(demo, "demo", "PROVIDER=demo\nINSPECT=on\n")
    assert process("start", "demo").returncode == 0
    output = ccproxy("status", "demo")
    assert "! Demo: request bodies can be read for 23h " in output.stdout
    assert "more (INSPECT=on)   (remove it from the env file)" in output.stdout
    (row,) = json.loads(ccproxy("status", "demo", "--json").stdout)["proxies"]
    assert (row["inspects"], row["passes_to"], row["keeps_history"]) == (True, "", False)
    assert 24 * 3600 - 60 < row["inspects_s"] <= 24 * 3600


def test_an_expired_setting_shows_no_bodies(demo, ccproxy, process):
    file = write_env(demo, "demo", "PROVIDER=demo\nINSPECT=on\n")
    yesterday = file.stat().st_mtime - 24 * 3600
    os.utime(file, (yesterday, yesterday))
    assert process("start", "demo").returncode == 0
    assert "INSPECT" not in ccproxy("status", "demo").stdout
    assert "inspect.over" in (demo / "logs/Demo.log").read_text()
    (row,) = json.loads(ccproxy("status", "demo", "--json").stdout)["proxies"]
    assert (row["inspects"], row["inspects_s"]) == (False, 0)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["demo"], 3, "Demo is not running"),
        (["nobody"], 2, "not in the table"),
        ([], 2, "LABEL"),
        (["demo", "perhaps"], 2, "perhaps"),
    ],
)
def test_invalid_toggles(demo, ccproxy, words, code, text):
    done = ccproxy("toggle", *words)
    assert (done.exit_code, text in done.stderr) == (code, True), done.stderr
