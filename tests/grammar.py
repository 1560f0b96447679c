"""
A checker for the grammar of a Messages stream.

    ping*, message_start, (ping | block)*, message_delta, message_stop
    block = content_block_start(i), content_block_delta(i)*, content_block_stop(i); i = 0, 1, 2 …

At most one block is open, `event:` equals the data's type, nothing follows message_stop or error,
and there is no `[DONE]`. `check` returns the faults as text, `assemble` the client's message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

Event = dict[str, Any]

STOP_REASONS = {
    "end_turn",
    "max_tokens",
    "model_context_window_exceeded",
    "refusal",
    "stop_sequence",
    "tool_use",
}
DELTAS = {
    "text": {"text_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
    "server_tool_use": {"input_json_delta"},
    "web_search_tool_result": set(),
}
TOOL_ID = re.compile(r"[A-Za-z0-9_-]+")


def read(raw: bytes | Iterable[Event]) -> list[tuple[str, Event]]:
    """Return the events with their names; decoded events contain their name."""
    if not isinstance(raw, bytes):
        return [(event["type"], event) for event in raw]
    events = []
    for text in raw.decode().split("\n\n"):
        if not text:
            continue
        name, data = text.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def check(raw: bytes | Iterable[Event]) -> list[str]:
    """Return the faults of a stream, which must be complete or end with an error."""
    checker = _Checker()
    for name, event in read(raw):
        if name != event["type"]:
            checker.faults.append(f"event {name} holds {event['type']}")
        checker.take(event)
    checker.close()
    return checker.faults


def assemble(raw: bytes | Iterable[Event]) -> dict[str, Any]:
    """Return the message assembled from the stream *raw*; fails if the stream is invalid."""
    events = read(raw)
    faults = check(raw if isinstance(raw, bytes) else [event for _, event in events])
    assert faults == []
    message: dict[str, Any] = {}
    arguments: dict[int, str] = {}
    for _, event in events:
        match event["type"]:
            case "message_start":
                message = json.loads(json.dumps(event["message"]))
            case "content_block_start":
                message["content"].append(dict(event["content_block"]))
            case "content_block_delta":
                block, delta = message["content"][event["index"]], event["delta"]
                if delta["type"] == "input_json_delta":
                    so_far = arguments.get(event["index"], "")
                    arguments[event["index"]] = so_far + delta["partial_json"]
                else:
                    field = delta["type"].removesuffix("_delta")
                    block[field] += delta[field]
            case "content_block_stop" if arguments.get(event["index"], "").strip():
                block = message["content"][event["index"]]
                block["input"] = json.loads(arguments[event["index"]])
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= event["usage"]
    return message


class _Checker:
    """Follows a stream event by event."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._phase = "start"
        self._open: str | None = None
        self._next = 0
        self._ids: set[str] = set()
        self._signed = False
        self._begun = False

    def take(self, event: Event) -> None:
        """Check one event at its position."""
        if self._phase in ("stopped", "failed"):
            self._fault(f"{event['type']} after the end")
        handler = getattr(self, f"_on_{event['type']}", None)
        if handler is None:
            self._fault(f"unknown event {event['type']}")
        else:
            handler(event)

    def close(self) -> None:
        """Check that the stream is complete."""
        if self._phase not in ("stopped", "failed"):
            self._fault(f"the stream ends in phase {self._phase}")

    def _fault(self, text: str) -> None:
        self.faults.append(text)

    def _on_ping(self, event: Event) -> None:
        pass

    def _on_error(self, event: Event) -> None:
        self._phase = "failed"
        if not isinstance(event["error"].get("message"), str):
            self._fault("an error without a message")

    def _on_message_start(self, event: Event) -> None:
        if self._phase != "start":
            self._fault("a second message_start")
        self._phase = "begun"
        message = event["message"]
        if message["content"] != [] or message["stop_reason"] is not None:
            self._fault("message_start is not empty")
        self._check_usage(message["usage"])

    def _on_content_block_start(self, event: Event) -> None:
        block = event["content_block"]
        if self._phase != "begun":
            self._fault(f"a block in phase {self._phase}")
        if self._open is not None:
            self._fault("two blocks are open")
        if event["index"] != self._next:
            self._fault(f"block {event['index']} instead of {self._next}")
        self._open, self._next = block["type"], event["index"] + 1
        self._signed = self._begun = False
        if block["type"] == "tool_use":
            self._check_call(block)

    def _check_call(self, block: Event) -> None:
        if not TOOL_ID.fullmatch(block["id"]) or block["id"] in self._ids:
            self._fault(f"the id {block['id']!r} is invalid or known")
        self._ids.add(block["id"])
        if not block["name"] or block["input"] != {}:
            self._fault("a call without a name, or with input in its start")

    def _on_content_block_delta(self, event: Event) -> None:
        delta = event["delta"]
        if event["index"] != self._next - 1 or self._open is None:
            self._fault(f"a delta for block {event['index']}, which is not open")
        elif delta["type"] not in DELTAS[self._open]:
            self._fault(f"{delta['type']} in a {self._open} block")
        if self._signed:
            self._fault("a delta after the signature")
        self._signed = delta["type"] == "signature_delta"
        self._begun = True
        if "" in delta.values():
            self._fault(f"an empty {delta['type']}")

    def _on_content_block_stop(self, event: Event) -> None:
        if event["index"] != self._next - 1 or self._open is None:
            self._fault(f"block {event['index']} is closed, but not open")
        if self._open == "thinking" and not self._signed:
            self._fault("thinking without a signature")
        if self._open == "text" and not self._begun:
            self._fault("an empty text block")
        self._open = None

    def _on_message_delta(self, event: Event) -> None:
        if self._phase != "begun" or self._open is not None:
            self._fault("message_delta too early, or twice")
        self._phase = "ended"
        delta = event["delta"]
        if delta["stop_reason"] not in STOP_REASONS:
            self._fault(f"unknown stop reason {delta['stop_reason']}")
        if (delta["stop_reason"] == "stop_sequence") != isinstance(delta["stop_sequence"], str):
            self._fault("stop_sequence and its reason do not agree")
        self._check_usage(event["usage"])

    def _on_message_stop(self, event: Event) -> None:
        if self._phase != "ended":
            self._fault("message_stop without message_delta")
        self._phase = "stopped"

    def _check_usage(self, usage: Event) -> None:
        counts = {name: count for name, count in usage.items() if name.endswith("_tokens")}
        if not {"input_tokens", "output_tokens"} <= set(counts):
            self._fault("usage without its counts")
        for name, count in counts.items():
            if not isinstance(count, int) or count < 0:
                self._fault(f"{name} is {count}")
