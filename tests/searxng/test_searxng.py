"""
Web searches by a real SearXNG.

Its only engines are on loopback: the scripted search engine, and a closed port.
"""

from __future__ import annotations

from pathlib import Path

from tests.messages import Answer, prompt
from tests.search_engine import HITS
from tests.worker.proxy import running

SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}


async def ask(tmp_path: Path, url: str, query: str, **tool: object) -> Answer:
    text = f"Perform a web search for the query: {query}"
    settings = {"WEB_SEARCH": f"searxng:{url}", "BIG_MODEL": "big", "SMALL_MODEL": "small"}
    async with running(tmp_path, "http://127.0.0.1:9/v1", **settings) as proxy:
        return await proxy.ask(prompt(text, tools=[SEARCH | tool]))


def result(answer: Answer) -> object:
    (block,) = answer.blocks("web_search_tool_result")
    return block["content"]


async def test_results_domains_and_unresponsive_engines_are_reported(tmp_path, engine, searxng):
    async with searxng() as url:
        answer = await ask(tmp_path, url, "aiohttp release")
        links = result(answer)
        assert isinstance(links, list)
        assert sorted(link["url"] for link in links) == sorted(hit["url"] for hit in HITS)
        assert "The answer is 42." in answer.text

        answer = await ask(tmp_path, url, "aiohttp", allowed_domains=["b.example"])
        links = result(answer)
        assert isinstance(links, list)
        assert [link["url"] for link in links] == [HITS[1]["url"]]

        answer = await ask(tmp_path, url, "!de aiohttp")
        assert result(answer) == {
            "type": "web_search_tool_result_error", "error_code": "unavailable"
        }  # fmt: skip
        assert "SearXNG has no results, because sources failed: dead: " in answer.text


async def test_a_server_without_json_is_an_error(tmp_path, engine, searxng):
    async with searxng(formats="[html]") as url:
        answer = await ask(tmp_path, url, "aiohttp release")
    assert "SearXNG refused the search (403): list json under search.formats" in answer.text
    assert engine.calls == []
