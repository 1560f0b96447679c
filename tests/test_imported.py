"""Models imported from a models.yaml: real processes, two providers."""

from __future__ import annotations

from contextlib import AsyncExitStack

import aiohttp
import pytest
from dotenv import dotenv_values

from tests.fleet import FleetHome
from tests.messages import ask, prompt
from tests.ports import free_port
from tests.provider import Provider

MODELS = {
    "list": """
- model_id: coder
  model_name: Coder-480B
  api_base: {0}
  api_key_name: CODER_KEY
  max_tokens: 8k
  reasoning_effort: high
  extra_headers: {{X-Team: blue}}
  extra_body: {{top_k: 5}}
- model_id: thinker
  api_base: {1}
  api_key: sk-inline-0123456789abcdef
""",
    "mapping": """
coder:
  model_name: Coder-480B
  api_base: {0}
  api_key_name: CODER_KEY
  max_tokens: 8k
  reasoning_effort: high
  extra_headers: {{X-Team: blue}}
  extra_body: {{top_k: 5}}
thinker:
  api_base: {1}
  api_key: sk-inline-0123456789abcdef
""",
}
KEY = "sk-coder-0123456789abcdef"


@pytest.mark.parametrize("form", MODELS)
async def test_an_imported_model_is_requested_as_configured(tmp_path, form):
    async with AsyncExitStack() as stack:
        home = await stack.enter_async_context(FleetHome(tmp_path))
        coder, thinker = [await stack.enter_async_context(Provider()) for _ in range(2)]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        home.write(demo={"PROVIDER": "demo"})
        (tmp_path / "models.yaml").write_text(MODELS[form].format(coder.url, thinker.url))
        done = await home.ccproxy("import", "models.yaml", "--write", CODER_KEY=KEY)
        assert done.code == 0, done.err
        ports = free_port(), free_port()
        table = tmp_path / "ccproxy.toml"
        text = table.read_text()
        for old, new in zip((8081, 8082), ports, strict=True):
            text = text.replace(f"port = {old}", f"port = {new}")
        table.write_text(text)
        done = await home.ccproxy("start", "coder", "thinker")
        assert done.code == 0, done.err
        url = f"http://127.0.0.1:{ports[0]}"
        client_key = dotenv_values(tmp_path / "envs" / "coder.env")["ANTHROPIC_API_KEY"]
        headers = {"x-api-key": client_key}
        body = prompt(max_tokens=64000)
        assert (await ask(session, url, body, headers=headers)).text == "ok"
        # One entry uses the other by its label.
        body = prompt(model="thinker:big")
        assert (await ask(session, url, body, headers=headers)).text == "ok"

        (call,) = coder.calls
        assert (call.key, call.headers["x-team"], call.json["model"]) == (KEY, "blue", "Coder-480B")
        limit = call.json.get("max_tokens") or call.json.get("max_completion_tokens")
        assert (limit, call.json["top_k"], call.json["reasoning_effort"]) == (8192, 5, "high")
        (call,) = thinker.calls
        assert (call.key, call.json["model"]) == ("sk-inline-0123456789abcdef", "thinker")
