"""Builders for Messages requests, and `ask`, which converts a request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ccproxy.convert.chat.request import to_chat
from ccproxy.convert.common.conversion import ConvertedRequest
from ccproxy.convert.common.thinking import Signer
from ccproxy.protocol.messages import read_request
from ccproxy.providers.quirks import Quirks, Target
from tests.chat_rules import violations

SIGNER = Signer(b"the fleet's key")
PNG = "iVBORw0KGgo="
PDF = "JVBERi0xLjQK"


@dataclass(frozen=True)
class Asked:
    """The decoded request to the provider, with the other results of the conversion."""

    body: dict[str, Any]
    converted: ConvertedRequest

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.body["messages"]

    @property
    def prompt(self) -> str:
        """The system prompt, or ""."""
        first = self.messages[0]
        return first["content"] if first["role"] == "system" else ""

    @property
    def roles(self) -> str:
        """The roles of the messages, in order."""
        return " ".join(message["role"] for message in self.messages)


def target(model: str = "m", *, provider: str = "p", **quirks: Any) -> Target:
    limits = {name: quirks.pop(name) for name in ("window", "max_output") if name in quirks}
    return Target(provider=provider, model=model, quirks=Quirks(**quirks), **limits)


def request(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    output = list(messages) or [user("Hi")]
    return {"model": "claude-opus-5-5", "max_tokens": 1024, "messages": output, **fields}


def ask(*messages: dict[str, Any], to: Target | None = None, **fields: Any) -> Asked:
    """Convert the request and check the result against the provider's rules."""
    to = to or target()
    converted = to_chat(read_request(encode(request(*messages, **fields))), to, signer=SIGNER)
    body = json.loads(converted.body)
    assert violations(body, quirks=to.quirks) == []
    return Asked(body, converted)


def encode(body: Any) -> bytes:
    """Encode like Claude Code, without needless escapes and blanks."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


# Messages...


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": _content(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": _content(content)}


def system(*content: Any) -> dict[str, Any]:
    return {"role": "system", "content": _content(content)}


def _content(content: tuple[Any, ...]) -> Any:
    """Return a single string unchanged, or a list in which strings become text blocks."""
    if len(content) == 1 and isinstance(content[0], str):
        return content[0]
    return [text(each) if isinstance(each, str) else each for each in content]


# ...and blocks.


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def thinking(words: str, signature: str = "EpAbForeign==") -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": signature}


def use(call_id: str, name: str = "Read", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def result(call_id: str, content: Any = "done", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **more}


def image(data: str = PNG) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": data}
    return {"type": "image", "source": source}


def pdf(**more: Any) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "application/pdf", "data": PDF}
    return {"type": "document", "source": source, **more}


def tool(name: str = "Read", schema: Any = None, **more: Any) -> dict[str, Any]:
    schema = schema or {"type": "object", "properties": {"path": {"type": "string"}}}
    return {"name": name, "description": f"{name} it", "input_schema": schema, **more}
