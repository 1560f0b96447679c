"""Tests of the page's server without a browser: refused requests, and its answers."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from ccproxy.cli.top.fleet_view import Snapshot
from ccproxy.config.fleet import Fleet, read_fleet
from ccproxy.ipc.activity import RequestTimeline
from ccproxy.store.database import open_database
from ccproxy.store.usage_totals import FILE_NAME, SCHEMA, Used, add
from ccproxy.ui.browser_guard import HEADERS, TOKEN_HEADER
from ccproxy.ui.bundle import static_files
from ccproxy.ui.fleet_feed import MAX_PAGES, MAX_PENDING, FleetFeed
from ccproxy.ui.page_actions import COMMANDS
from ccproxy.ui.page_data import MAX_USAGE_ROWS, VIEWS
from ccproxy.ui.sign_in import SignIn
from ccproxy.ui.web_app import WebApp


class View:
    """A fleet that never changes."""

    recent = tuple(
        RequestTimeline(id=f"req_{number}", label="A", state="done", started=1.0)
        for number in range(3)
    )

    def snapshot(self):
        return Snapshot(at=1.0, recent=self.recent)


class Page:
    """A server, and a client that may have signed in."""

    def __init__(self, client, sign_in, feed):
        self.client, self.sign_in, self.feed = client, sign_in, feed
        self.origin = f"http://127.0.0.1:{client.port}"
        self.token = ""

    async def enter(self):
        code = self.sign_in.new_code()
        answer = await self.client.post("/session", data=json.dumps({"code": code}))
        self.token = (await answer.json())["token"]

    async def ask(self, method, path, *, headers=None, token=True, **more):
        request_headers = {TOKEN_HEADER: self.token} if token and self.token else {}
        return await self.client.request(
            method, path, headers=request_headers | (headers or {}), **more
        )


@pytest.fixture
async def page(tmp_path):
    (tmp_path / "a.env").write_text("PROVIDER=demo\n")
    (tmp_path / "a.env").chmod(0o600)
    table = tmp_path / "ccproxy.toml"
    table.write_text('proxies = ["8081:a.env:A"]\n')
    sign_in, feed = SignIn(), FleetFeed(View(), tick_seconds=0.01)
    app = WebApp(lambda: read_fleet(table)[0], feed, sign_in, port=lambda: server.port)
    server = TestServer(app.application(), host="127.0.0.1")
    # The jar must accept cookies from IP addresses, like browsers.
    jar = aiohttp.CookieJar(unsafe=True)
    async with TestClient(server, cookie_jar=jar) as client:
        feeding = asyncio.create_task(feed.run())
        yield Page(client, sign_in, feed)
        feeding.cancel()
        feed.close()


PROTECTED = [
    *(("GET", f"/api/{name}") for name in [*VIEWS, "events", "unknown"]),
    *(("POST", f"/api/{name}") for name in [*COMMANDS, "unknown"]),
    *(("GET", path) for path in static_files() if "sign_in" not in path and path != "/icon.svg"),
    ("GET", "/../ccproxy.toml"),
    ("GET", "/%2e%2e/ccproxy.toml"),
]


@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_nothing_is_served_without_the_code(page, method, path):
    answer = await page.ask(method, path)
    assert answer.status == 401
    assert "ccproxy ui" in (await answer.json())["error"]


@pytest.mark.parametrize("path", ["/", "/sign_in.js", "/sign_in.css", "/icon.svg"])
async def test_the_sign_in_page_is_served_and_contains_no_data(page, path):
    answer = await page.ask("GET", path)
    assert answer.status == 200
    assert "A" not in (await answer.text()).split()


@pytest.mark.parametrize(("method", "path"), [one for one in PROTECTED if one[1][:5] == "/api/"])
async def test_the_cookie_alone_is_not_enough_for_data(page, method, path):
    await page.enter()
    assert (await page.ask(method, path, token=False)).status == 401
    assert (await page.ask(method, path, headers={TOKEN_HEADER: "wrong"})).status == 401


async def test_the_token_alone_is_not_enough(page):
    await page.enter()
    page.client.session.cookie_jar.clear()
    assert (await page.ask("GET", "/api/fleet")).status == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:{port}"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Host": "127.0.0.1.evil.example:{port}"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "localhost:{port}"}, 200),
        ({"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
)
async def test_other_pages_and_rebound_names(page, headers, status):
    await page.enter()
    request_headers = {name: value.format(port=page.client.port) for name, value in headers.items()}
    assert (await page.ask("GET", "/", headers=request_headers)).status == status
    if "localhost" not in request_headers.get("Host", ""):  # it has other cookies
        assert (await page.ask("GET", "/api/fleet", headers=request_headers)).status == status
        answer = await page.ask("POST", "/api/toggle", headers=request_headers, json={"label": "A"})
        assert answer.status == (status if status != 200 else 400)


async def test_the_cookie_is_for_this_page_only(page):
    code = page.sign_in.new_code()
    answer = await page.client.post("/session", data=json.dumps({"code": code}))
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert f"ccproxy_ui_{page.client.port}=" in cookie


@pytest.mark.parametrize("body", ["", "{", "[]", '{"code": 1}', '{"code": "wrong"}', "{}"])
async def test_a_wrong_code(page, body):
    page.sign_in.new_code()
    answer = await page.client.post("/session", data=body)
    assert answer.status in (400, 403)
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/api/fleet", "/nothing", "/app.js"])
@pytest.mark.parametrize("enters", [False, True])
async def test_every_response_has_the_headers(page, path, enters):
    if enters:
        await page.enter()
    answer = await page.ask("GET", path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value


async def test_signing_out_ends_the_session(page):
    await page.enter()
    await page.ask("DELETE", "/session")
    assert (await page.ask("GET", "/api/fleet")).status == 401


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/api/toggle", {"label": "B"}, '"B" is not an entry'),
        ("/api/toggle", {"label": "A", "proxy": "maybe"}, "Invalid enum value"),
        ("/api/toggle", {"label": "A", "more": 1}, "unknown field"),
        ("/api/toggle", {"label": ["A"]}, "Expected `str`"),
        ("/api/toggle", {"label": "A", "proxy": "on"}, "A is not running"),
        ("/api/keys", {"label": "A", "action": "disable"}, "disable needs a key"),
        ("/api/keys", {"label": "A", "action": "remove"}, "Invalid enum value"),
        ("/api/keys", {"label": "A", "action": "test", "id": "k1"}, "A is not running"),
        ("/api/entries", {"action": "stop"}, "each require one"),
        ("/api/entries", {"action": "restart", "label": "A"}, "nothing is running"),
        ("/api/switch", {"label": "A"}, "name a preset"),
        ("/api/switch", {"label": "A", "preset": "none"}, "no model preset"),
        ("/api/routes", {"label": "A", "rule": "__proto__"}, "rule must be"),
        ("/api/routes", {"label": "A", "rule": "main", "model": ""}, "model must be"),
        ("/api/routes", {"label": "A", "rule": "main", "model": "B:x", "write": True}, "B"),
    ],
)
async def test_a_command_that_is_refused(page, path, body, text):
    await page.enter()
    answer = await page.ask("POST", path, json=body)
    assert answer.status == 400
    assert text in (await answer.json())["error"]


async def test_a_form_cannot_send_a_command(page):
    await page.enter()
    answer = await page.ask("POST", "/api/toggle", data='{"label": "A"}')
    assert answer.status == 415


async def test_a_switch_is_saved(page):
    await page.enter()
    answer = await page.ask(
        "POST", "/api/switch", json={"label": "a", "models": {"big": "demo-small"}}
    )
    assert (await answer.json())["big"] == "A:demo-small"
    (entry,) = (await (await page.ask("GET", "/api/routes")).json())["entries"]
    assert entry["switch"]["big"] == "A:demo-small"


@pytest.mark.parametrize("name", sorted(set(VIEWS) - {"inspect", "doctor"}))
async def test_every_view_answers_without_a_running_fleet(page, name):
    await page.enter()
    answer = await page.ask("GET", f"/api/{name}")
    assert answer.status == 200, await answer.text()


@pytest.mark.parametrize("name", ["requests", "logs", "inspect"])
async def test_an_unknown_label(page, name):
    await page.enter()
    answer = await page.ask("GET", f"/api/{name}", params={"label": "../A"})
    assert answer.status == 400


async def test_a_large_body_is_refused(page):
    await page.enter()
    answer = await page.ask("POST", "/api/toggle", json={"label": "A" * 100_000})
    assert answer.status == 413


async def test_the_last_lines_of_the_logs_are_searched(page, tmp_path, monkeypatch):
    """The supervisor's log and that of the entry share the limit."""
    monkeypatch.setattr("ccproxy.ui.page_data.MAX_SEARCHED", 20)
    (tmp_path / "logs").mkdir()
    levels = ["error", *["info"] * 5, "error", *["info"] * 9]
    lines = (json.dumps({"level": level, "event": "x"}) for level in levels)
    (tmp_path / "logs" / "A.log").write_text("\n".join(lines) + "\n")
    await page.enter()
    content = await (await page.ask("GET", "/api/logs?level=error")).json()
    assert [one["level"] for one in content["lines"]] == ["error"]
    content = await (await page.ask("GET", "/api/logs")).json()
    assert len(content["lines"]) == 10


async def test_the_log_of_an_entry_lacks_lines_of_one_with_a_longer_name(page, tmp_path):
    """a.6.log belongs to the entry a.6, not to the sixth process of a."""
    (tmp_path / "b.env").write_text("PROVIDER=demo\n")
    (tmp_path / "ccproxy.toml").write_text('proxies = ["8081:a.env:a", "8082:b.env:a.6"]\n')
    (tmp_path / "logs").mkdir()
    for name in ("a", "a.6"):
        (tmp_path / "logs" / f"{name}.log").write_text(f'{{"event": "of {name}"}}\n')
    await page.enter()
    for query, events in (("?label=a", {"of a"}), ("", {"of a", "of a.6"})):
        lines = (await (await page.ask("GET", f"/api/logs{query}")).json())["lines"]
        assert sorted(one["event"] for one in lines) == sorted(events)


async def test_the_rows_of_usage_are_bounded(page, tmp_path):
    (tmp_path / "state").mkdir()
    database = open_database(tmp_path / "state" / FILE_NAME, SCHEMA).connection
    count = MAX_USAGE_ROWS + 3
    rows = [
        Used(time.time(), "A", "m", "", False, *(1, 1, 0, 0, 0), 0.1, number / count, f"s{number}")
        for number in range(count)
    ]
    add(database, rows)
    database.close()
    await page.enter()
    content = await (await page.ask("GET", "/api/usage?by=session&days=1")).json()
    assert (len(content["rows"]), content["left_out"]) == (MAX_USAGE_ROWS, 3)
    assert content["rows"][0]["session"] == f"s{count - 1}"
    assert content["total"]["requests"] == count
    huge = await page.ask("GET", f"/api/usage?days={'9' * 5000}")
    assert huge.status == 200


async def read_events(answer, count):
    events = []
    async for line in answer.content:
        if line.startswith(b"data: "):
            events.append(json.loads(line[6:]))
        if len(events) == count:
            return events
    return events


async def test_the_feed_begins_with_everything(page):
    await page.enter()
    answer = await page.ask("GET", "/api/events")
    first, second, third = await read_events(answer, 3)
    assert [one["id"] for one in first["finished"]] == ["req_0", "req_1", "req_2"]
    assert (first["first"], second["first"], third["first"]) == (True, False, False)
    assert third["finished"] == []
    answer.close()


async def test_a_page_that_does_not_read_is_disconnected():
    feed = FleetFeed(View(), tick_seconds=0)
    messages = feed.messages()
    await anext(messages)
    feeding = asyncio.create_task(feed.run())
    waiting = asyncio.ensure_future(asyncio.sleep(0))
    while feed._readers:  # the client does not read, so it is disconnected
        await waiting
        waiting = asyncio.ensure_future(asyncio.sleep(0))
    assert len([message async for message in messages]) < MAX_PENDING
    feeding.cancel()
    waiting.cancel()


async def test_pages_are_bounded(page):
    await page.enter()
    many = [page.feed.messages() for _ in range(MAX_PAGES)]
    for one in many:
        await anext(one)
    assert (await page.ask("GET", "/api/events")).status == 503
    for one in many:
        await one.aclose()


async def test_a_listener_is_notified_when_a_code_is_used(tmp_path):
    used = []
    sign_in = SignIn()
    read = partial(Fleet, home=tmp_path, file=tmp_path / "x.toml", entries=())
    app = WebApp(read, FleetFeed(View()), sign_in, port=lambda: server.port)
    app.on_sign_in = lambda: used.append(1)
    server = TestServer(app.application(), host="127.0.0.1")
    async with TestClient(server) as client:
        code = json.dumps({"code": sign_in.new_code()})
        answer = await client.post("/session", data=code)
        assert (answer.status, used) == (200, [1])
