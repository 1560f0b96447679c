"""
Convert web searches into content blocks of the Messages API, and back into text for the model.

The text of a result is in the following text block, the only part that Claude Code passes to its
main model. It is also in `encrypted_content`, which other clients return unchanged in later turns.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec

from ccproxy.convert.added_features.media_blocks import Content, text_block
from ccproxy.convert.added_features.search_results import SearchOutcome, SearchResult
from ccproxy.protocol.json_splice import fields_of
from ccproxy.protocol.lenient_json import objects, string

USE_PREFIX: Final = "srvtoolu_ccp"
"""Prefix of the ids of ccproxy's own searches."""
_OWN = "ccproxy."
_CITED: Final = 150
"""The length limit for a citation in characters, the same as the API's."""
NO_RESULTS: Final = "The search found nothing."


def use_block(use_id: str, name: str, query: str) -> Content:
    """Return the block that shows a search to the client."""
    return {"type": "server_tool_use", "id": use_id, "name": name, "input": {"query": query}}


def result_block(use_id: str, outcome: SearchOutcome) -> Content:
    """Return the block with the links or the error."""
    content: object
    if outcome.error:
        content = {"type": "web_search_tool_result_error", "error_code": outcome.error}
    else:
        content = [
            {
                "type": "web_search_result",
                "url": each.url,
                "title": each.title,
                "encrypted_content": _packed(each.text),
                "page_age": each.date,
            }
            for each in outcome.results
        ]
    return {"type": "web_search_tool_result", "tool_use_id": use_id, "content": content}


def text_blocks(outcome: SearchOutcome) -> list[Content]:
    """Return the search results as text blocks with citations."""
    if outcome.error:
        return [text_block(outcome.reason)]
    blocks = [_cited(number, each) for number, each in enumerate(outcome.results, 1)]
    if outcome.summary:
        blocks.insert(0, text_block(f"{outcome.summary}\n\n"))
    return blocks or [text_block(NO_RESULTS)]


def outcome_text(outcome: SearchOutcome) -> str:
    """Return the search results as the text of a tool result for the model."""
    return "".join(block["text"] for block in text_blocks(outcome)).strip()


def side_message(
    outcome: SearchOutcome, *, message_id: str, model: str, use_id: str, name: str, query: str
) -> bytes:
    """Return the answer to Claude Code's WebSearch as a message, without using a model."""
    searches = 0 if outcome.error else 1
    message = {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [
            use_block(use_id, name, query),
            result_block(use_id, outcome),
            *text_blocks(outcome),
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 0,
            "output_tokens": 0,
            "server_tool_use": {"web_search_requests": searches},
        },
    }
    return msgspec.json.encode(message)


def found_text(content: object) -> str:
    """Return the *content* of a `web_search_tool_result` as text for the model."""
    if not isinstance(content, list):
        code = content.get("error_code") if isinstance(content, dict) else None
        return f"The web search failed: {code or 'unavailable'}"
    return "\n".join(map(_found_line, objects(content))) or NO_RESULTS


def _found_line(search_result: Content) -> str:
    line = f"{search_result.get('title') or ''} ({search_result.get('url') or ''})"
    text = _unpacked(search_result.get("encrypted_content"))
    return f"{line}\n{text}" if text else line


def _cited(number: int, result: SearchResult) -> Content:
    dated = f", {result.date}" if result.date else ""
    text = f"{number}. {result.title} ({result.url}{dated})\n"
    if not result.text:
        return text_block(text)
    citation = {
        "type": "web_search_result_location",
        "url": result.url,
        "title": result.title,
        "encrypted_index": _packed(result.text),
        "cited_text": result.text[:_CITED],
    }
    return {"type": "text", "text": f"{text}{result.text}\n\n", "citations": [citation]}


def _packed(text: str) -> str:
    return _OWN + base64.urlsafe_b64encode(text.encode()).decode() if text else ""


def _unpacked(packed: object) -> str:
    text = string(packed)
    if not text.startswith(_OWN):
        return ""
    try:
        return base64.urlsafe_b64decode(text.removeprefix(_OWN)).decode()
    except (binascii.Error, ValueError):
        return ""


def without_own_searches(body: bytes) -> bytes:
    """
    Return *body* with ccproxy's own searches replaced with text.

    Anthropic refuses `encrypted_content` that it has not created.
    """
    fields = fields_of(body) if USE_PREFIX.encode() in body else None
    if fields is None or "messages" not in fields:
        return body
    messages = msgspec.json.decode(fields["messages"])
    for message in objects(messages):
        if isinstance(message.get("content"), list):
            message["content"] = [
                changed for block in message["content"] for changed in _as_text(block)
            ]
    return msgspec.json.encode({**fields, "messages": messages})


def _as_text(block: object) -> list[object]:
    """Return the replacement of *block* for a provider that did not run the search."""
    if not isinstance(block, dict):
        return [block]
    kind = block.get("type")
    if kind == "server_tool_use" and str(block.get("id")).startswith(USE_PREFIX):
        return []
    if kind == "web_search_tool_result" and str(block.get("tool_use_id")).startswith(USE_PREFIX):
        return [text_block(f"Results of a web search:\n{found_text(block.get('content'))}")]
    return [{name: value for name, value in block.items() if name != "citations"}]
