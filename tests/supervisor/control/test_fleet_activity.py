"""Events of a whole fleet: changes of the status, and the event streams of its workers."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import closing
from dataclasses import replace

import aiohttp
import pytest

from ccproxy.config.fleet import load_fleet
from ccproxy.ipc.control_messages import RequestsRequest
from ccproxy.supervisor.control.fleet_activity import FleetWatch, changes, recent_requests
from ccproxy.supervisor.control.status import Row
from tests.fleet import FleetHome, eventually
from tests.messages import ask, prompt
from tests.provider import Provider

READY = Row(label="Kimi", port=1, host="h", state="ready", models={"big": "kimi-k3"})


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(None, READY, [("entry.state", "ready", "")], id="the first look"),
        pytest.param(READY, READY, [], id="nothing"),
        pytest.param(
            READY,
            replace(READY, state="degraded", reason="1 of 2 keys out"),
            [("entry.state", "degraded", "1 of 2 keys out")],
            id="the state",
        ),
        pytest.param(
            replace(READY, state="degraded", reason="1 of 2 keys out"),
            replace(READY, state="degraded", reason="2 of 2 keys out"),
            [("entry.state", "degraded", "2 of 2 keys out")],
            id="the reason",
        ),
        pytest.param(
            READY, replace(READY, switched="fast"), [("models.switched", "fast", "")], id="a switch"
        ),
        pytest.param(
            READY,
            replace(READY, models={"big": "kimi-k2"}),
            [("models.switched", "kimi-k2", "")],
            id="a model",
        ),
        pytest.param(
            READY,
            replace(READY, passes_to="https://api"),
            [("proxy.switched", "off", "https://api")],
            id="bypass",
        ),
        pytest.param(
            replace(READY, keeps_history=True),
            READY,
            [("history.switched", "off", "")],
            id="history",
        ),
    ],
)
def test_a_change_of_the_status_is_an_event(before, now, expected):
    events = changes(before, now, at=1.0)
    assert [(one.event, one.to, one.reason) for one in events] == expected


def test_a_changed_counter_is_not_an_event():
    assert [*changes(READY, replace(READY, in_flight=3, connections=4), at=1.0)] == []


async def check_requests_command(home, request_id):
    # The repeated requests to kimi may fill the list.
    listed = await home.ccproxy("requests", "glm")
    assert (listed.code, "kimi" in listed.out, "glm" in listed.out) == (0, False, True)
    assert "kimi" in (await home.ccproxy("requests")).out
    failed = await home.ccproxy("requests", "--failed", "kimi")
    assert (failed.code, failed.out) == (0, "")
    output = await home.ccproxy("requests", request_id[-10:])
    assert output.out.startswith(f"{request_id}  done 200\n"), output
    content = json.loads((await home.ccproxy("requests", request_id, "--json")).out)
    assert [one["id"] for one in content["finished"]] == [request_id]
    view = (await home.ccproxy("top", "--once", COLUMNS="120")).out
    assert view.startswith("2 of 2 ready"), view
    assert view.count("gpt-4o") > 1
    unknown = await home.ccproxy("requests", "req_unknown")
    assert (unknown.code, unknown.err.splitlines()[-1]) == (
        2,
        "  fix: ccproxy logs --request req_unknown",
    )


async def check_following(home):
    """`requests -f` shows the last requests, then each one as it ends."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ccproxy", "requests", "-f", "--json", "glm"),
        cwd=home.path,
        env=home.environ,
        stdout=asyncio.subprocess.PIPE,
    )
    past = json.loads(await child.stdout.readline())
    async with aiohttp.ClientSession() as http:
        await ask(http, home.url("glm"), prompt())
    new = json.loads(await child.stdout.readline())
    assert (past["label"], new["label"], new["id"] == past["id"]) == ("glm", "glm", False)
    child.terminate()
    await child.wait()
    losses = await home.ccproxy("usage", "--cache", "glm")
    assert (losses.code, losses.out) == (0, "")
    assert "No session has missed its prompt cache in 2 requests." in losses.err


async def test_a_watch_continues_across_restarts(tmp_path):
    async with Provider() as provider, FleetHome(tmp_path) as home, aiohttp.ClientSession() as http:
        settings = {"PROVIDER_BASE_URL": provider.url, "PROVIDER_API_KEY": "sk-fleet-key-0001"}
        home.write(kimi=settings, glm=settings)
        assert (await home.ccproxy("start")).code == 0
        fleet = load_fleet(tmp_path / "ccproxy.toml")
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ccproxy", "events", "kimi", "--type", "request.finished"),
            *("--count", "1"),
            cwd=home.path,
            env=home.environ,
            stdout=asyncio.subprocess.PIPE,
        )
        with closing(FleetWatch(fleet, status_seconds=0.2)) as watch:

            async def seen(name):
                events = []

                async def look():
                    events.extend(await asyncio.to_thread(watch.next_events, 0.2))
                    return [one for one in events if one.event == name]

                return await eventually(look)

            assert {one.label for one in await seen("entry.state")} <= {"kimi", "glm"}
            await ask(http, home.url("glm"), prompt(stream=True))
            (finished,) = await seen("request.finished")
            assert (finished.label, finished.request.status) == ("glm", 200)
            assert (await home.ccproxy("restart", "glm")).code == 0
            async with aiohttp.ClientSession() as fresh:  # a connection to the new worker
                await ask(fresh, home.url("glm"), prompt())
            assert (await seen("request.finished"))[0].request.stream is False

        # The command may connect to its worker only now, although it was started earlier.
        async def finished_by_the_command():
            await ask(http, home.url("kimi"), prompt())
            return child.stdout.at_eof() or bool(child.stdout._buffer)

        await eventually(finished_by_the_command)
        line = json.loads(await child.stdout.readline())
        assert (await child.wait(), line["label"], line["event"]) == (0, "kimi", "request.finished")
        requests = recent_requests(fleet, ["glm", "KIMI"], RequestsRequest())
        assert {one.label for one in requests.finished} == {"kimi", "glm"}
        assert requests.finished == sorted(requests.finished, key=lambda one: one.started)
        await check_requests_command(home, requests.finished[-1].id)
        row = await home.proxy("glm")
        assert (row["traffic"]["requests"], row["requests_today"]) == (1, 2)
        assert [key["state"] for key in row["key_rows"]] == ["ready"]
        assert "sk-fleet" not in json.dumps(row)
        await check_following(home)
