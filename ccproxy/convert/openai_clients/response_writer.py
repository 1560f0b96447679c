"""
Convert the events of a Messages stream into events of a Responses stream.

| block                     | item                                                                 |
|---------------------------|----------------------------------------------------------------------|
| text                      | message with one `output_text`                                       |
| thinking                  | reasoning: the text is its summary, the signature its ciphertext     |
| redacted_thinking         | reasoning without a summary                                          |
| tool_use                  | the call of the client's tool, see `tool_kinds.py`                   |
| server_tool_use           | web_search_call; its result and tool searches are omitted            |

Items are sequential: each one is complete before the next one begins. The final event repeats all
of them. Strings stay JSON literals, which are joined and copied but not decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from ccproxy.convert.added_features.deferred_tools import TOOL_SEARCH_TYPE
from ccproxy.convert.common.held_text import check_held
from ccproxy.convert.common.usage import token_count
from ccproxy.convert.direct.message_events import problem_of
from ccproxy.convert.openai_clients.openai_errors import stream_error
from ccproxy.convert.openai_clients.sealed_reasoning import ReasoningSeal
from ccproxy.convert.openai_clients.tool_kinds import CUSTOM_INPUT, Kind, ToolKind, ToolKinds
from ccproxy.errors import Problem
from ccproxy.protocol import sse
from ccproxy.protocol.json_splice import object_of
from ccproxy.protocol.literals import EMPTY, join_literals, text_of
from ccproxy.protocol.responses_request import ResponsesRequest

_encode = msgspec.json.Encoder().encode
_INCOMPLETE: Final[Mapping[str, str]] = {
    "max_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "refusal": "content_filter",
}
"""Stop reason of an incomplete answer -> reason in `incomplete_details`."""
KEEP_ALIVE: Final = sse.encode(b"keepalive", b'{"type":"keepalive","sequence_number":0}')
"""Clients ignore this event but, unlike a comment, it resets their idle timeout."""
_CALLS: Final[Mapping[Kind, tuple[str, dict[str, Any]]]] = {
    "function": ("fc", {"arguments": ""}),
    "custom": ("ctc", {"input": ""}),
    "local_shell": ("lsh", {"action": {"type": "exec", "command": [], "env": {}}}),
    "tool_search": ("tsc", {"execution": "client", "arguments": {}}),
}
"""Kind of call -> prefix of the item's id, and the initial values of the item's specific fields."""
_REPEATED: Final = (
    *("max_output_tokens", "metadata", "parallel_tool_calls", "prompt_cache_key", "reasoning"),
    *("temperature", "text", "tool_choice", "top_p"),
)
_NO_USAGE: Final = {"input_tokens": 0, "output_tokens": 0}


class BlockDelta(msgspec.Struct, gc=False):
    """The delta of a block or of the message."""

    type: str = ""
    text: Raw = EMPTY
    thinking: Raw = EMPTY
    signature: str = ""
    partial_json: Raw = EMPTY
    stop_reason: str | None = None


class ContentBlock(msgspec.Struct, gc=False):
    """The start of a block."""

    type: str = ""
    id: str = ""
    name: str = ""
    data: str = ""


class MessageEvent(msgspec.Struct, gc=False):
    """An event of a Messages stream."""

    type: str = ""
    delta: BlockDelta | None = None
    content_block: ContentBlock | None = None
    message: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class ResponseWriter:
    """Writes one response; pass the events of the message to `take`."""

    def __init__(
        self,
        request: ResponsesRequest,
        *,
        tools: ToolKinds,
        seal: ReasoningSeal,
        response_id: str,
        created_at: int,
    ) -> None:
        self._tools = tools
        self._seal = seal
        self._suffix = response_id.removeprefix("resp_")
        response = new_response(response_id, created_at, request.model)
        self.response: dict[str, Any] = response | _requested(request)
        self.has_begun = False
        self.is_over = False
        """Whether the final event is written."""
        self._out: list[bytes] = []
        self._sequence = 0
        self._usage: dict[str, Any] = dict(_NO_USAGE)
        self._stop_reason: str | None = None
        # State of the open block
        self._kind = ""
        self._item: dict[str, Any] = {}
        self._tool = ToolKind("function", "")
        self._texts: list[Raw] = []
        self._signatures: list[str] = []
        self._held = 0
        """Bytes of all texts: the last event repeats the whole output."""

    def take(self, event: MessageEvent) -> bytes:
        """Return the Responses events for *event*. Raises Problem if the output is too long."""
        delta, block = event.delta, event.content_block
        if event.type == "content_block_delta" and delta is not None:
            self._continue(delta)
        elif event.type == "content_block_start" and block is not None:
            self._open(block)
        elif event.type == "content_block_stop":
            self._close()
        elif event.type == "message_start":
            self._begin((event.message or {}).get("usage"))
        elif event.type == "message_delta":
            self._usage |= _numbers(event.usage)
            self._stop_reason = delta.stop_reason if delta is not None else None
        elif event.type == "message_stop":
            self._finish()
        elif event.type == "error":
            self._fail(problem_of(event.error or {}))
        return self._written()

    def close(self) -> bytes:
        """Return the end of an answer without its last event."""
        if not self.is_over and self._stop_reason is not None:
            self._finish()
        return self._written()

    def fail(self, problem: Problem) -> bytes:
        """Return the events that end a failed response."""
        if not self.is_over:
            self._fail(problem)
        return self._written()

    def keep_alive(self) -> bytes:
        """Return an event that clients ignore, or a comment before the first event."""
        return KEEP_ALIVE if self.has_begun and not self.is_over else sse.COMMENT

    # Events

    def _write(self, kind: str, fields: Mapping[str, Any]) -> None:
        event = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        self._out.append(sse.encode(kind.encode(), _encode(event)))

    def _write_part(self, kind: str, **fields: Any) -> None:  # noqa: ANN401 - JSON
        """Write an event of the open item."""
        index = len(self.response["output"])
        self._write(kind, {"item_id": self._item["id"], "output_index": index, **fields})

    def _written(self) -> bytes:
        written, self._out = b"".join(self._out), []
        return written

    # The response

    def _begin(self, usage: object) -> None:
        if self.has_begun:
            return
        self.has_begun = True
        self._usage |= _numbers(usage)
        self._write("response.created", {"response": self.response})
        self._write("response.in_progress", {"response": self.response})

    def _finish(self) -> None:
        self._begin(None)
        reason = _INCOMPLETE.get(self._stop_reason or "")
        if reason is not None:
            self.response["incomplete_details"] = {"reason": reason}
        self._end("incomplete" if reason is not None else "completed")

    def _fail(self, problem: Problem) -> None:
        self._begin(None)
        self.response["error"] = stream_error(problem)
        self._end("failed")

    def _end(self, status: str) -> None:
        self.is_over = True
        self.response["status"] = status
        self.response["usage"] = _to_usage(self._usage)
        self._write(f"response.{status}", {"response": self.response})

    # Items

    def _open(self, block: ContentBlock) -> None:
        self._close()  # the end of the previous block may be missing
        self._kind, self._texts, self._signatures = block.type, [], []
        match block.type:
            case "text":
                self._add_item("msg", {"type": "message", "role": "assistant", "content": []})
                self._write_part("response.content_part.added", content_index=0, part=_part(EMPTY))
            case "thinking":
                self._add_item("rs", {"type": "reasoning", "summary": []})
            case "redacted_thinking":
                self._add_item("rs", {"type": "reasoning", "summary": []})
                self._item["encrypted_content"] = self._seal.seal_redacted(block.data)
            case "tool_use":
                self._open_call(block)
            case "server_tool_use" if not block.name.startswith(TOOL_SEARCH_TYPE):
                action = {"type": "search", "query": ""}
                self._add_item("ws", {"type": "web_search_call", "action": action})
                self._write_part("response.web_search_call.in_progress")
                self._write_part("response.web_search_call.searching")
            case _:
                self._kind = ""

    def _open_call(self, block: ContentBlock) -> None:
        self._tool = tool = self._tools.kind_of(block.name)
        prefix, empty = _CALLS[tool.kind]
        fields = {"type": f"{tool.kind}_call", "call_id": block.id, **empty}
        if tool.kind == "custom":
            fields["type"] = "custom_tool_call"
        if tool.kind in ("custom", "function"):
            fields["name"] = tool.name
        if tool.namespace:
            fields["namespace"] = tool.namespace
        self._add_item(prefix, fields)

    def _add_item(self, prefix: str, fields: dict[str, Any]) -> None:
        index = len(self.response["output"])
        self._item = {"id": f"{prefix}_{self._suffix}{index}", "status": "in_progress", **fields}
        if fields["type"] == "reasoning":
            del self._item["status"]  # clients return it, and the API refuses it
        self._write("response.output_item.added", {"output_index": index, "item": self._item})

    def _continue(self, delta: BlockDelta) -> None:
        match self._kind:
            case "text" if delta.type == "text_delta":
                self._hold(delta.text)
                self._write_part(
                    "response.output_text.delta", content_index=0, delta=delta.text, logprobs=[]
                )
            case "thinking" if delta.type == "thinking_delta":
                if not self._texts:
                    part = {"type": "summary_text", "text": ""}
                    added = "response.reasoning_summary_part.added"
                    self._write_part(added, summary_index=0, part=part)
                self._hold(delta.thinking)
                kind = "response.reasoning_summary_text.delta"
                self._write_part(kind, summary_index=0, delta=delta.thinking)
            case "thinking":
                self._signatures.append(delta.signature)
            case "tool_use" | "server_tool_use" if delta.type == "input_json_delta":
                self._hold(delta.partial_json)
                if self._kind == "tool_use" and self._tool.kind == "function":
                    kind = "response.function_call_arguments.delta"
                    self._write_part(kind, delta=delta.partial_json)

    def _hold(self, text: Raw) -> None:
        self._texts.append(text)
        self._held += len(memoryview(text))
        check_held(self._held)

    def _close(self) -> None:
        kind, self._kind = self._kind, ""
        text = join_literals("", self._texts) if self._texts else EMPTY
        match kind:
            case "":
                return
            case "text":
                self._close_text(text)
            case "thinking":
                self._close_thinking(text)
            case "tool_use":
                self._close_call(text)
            case "server_tool_use":
                query = _object_in(text).get("query")
                self._item["action"] = {"type": "search", "query": str(query or "")}
                self._write_part("response.web_search_call.completed")
        if "status" in self._item:
            self._item["status"] = "completed"
        output = self.response["output"]
        done = {"output_index": len(output), "item": self._item}
        self._write("response.output_item.done", done)
        output.append(self._item)

    def _close_text(self, text: Raw) -> None:
        part = _part(text)
        self._write_part("response.output_text.done", content_index=0, text=text, logprobs=[])
        self._write_part("response.content_part.done", content_index=0, part=part)
        self._item["content"] = [part]

    def _close_thinking(self, text: Raw) -> None:
        if self._texts:
            part = {"type": "summary_text", "text": text}
            self._write_part("response.reasoning_summary_text.done", summary_index=0, text=text)
            self._write_part("response.reasoning_summary_part.done", summary_index=0, part=part)
            self._item["summary"] = [part]
        if encrypted := self._seal.seal_thinking("".join(self._signatures)):
            self._item["encrypted_content"] = encrypted

    def _close_call(self, text: Raw) -> None:
        item = self._item
        match self._tool.kind:
            case "function":
                arguments = text if text != EMPTY else Raw(b'"{}"')
                item["arguments"] = arguments
                done = "response.function_call_arguments.done"
                self._write_part(done, name=item["name"], arguments=arguments)
            case "custom":
                free_text = _object_in(text).get(CUSTOM_INPUT)
                item["input"] = free_text if isinstance(free_text, str) else text_of(text)
                self._write_part("response.custom_tool_call_input.delta", delta=item["input"])
                self._write_part("response.custom_tool_call_input.done", input=item["input"])
            case "local_shell":
                item["action"] = {**item["action"], **_object_in(text)}
            case _:
                item["arguments"] = _object_in(text)


def new_response(response_id: str, created_at: int, model: str) -> dict[str, Any]:
    """Return a new response without output."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": created_at,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": None,
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
    }


def failed_response(response: Mapping[str, Any], problem: Problem, *, has_begun: bool) -> bytes:
    """Return the events that fail *response* with *problem*, and start it unless *has_begun*."""
    failed = {**response, "status": "failed", "error": stream_error(problem)}
    states = [("response.failed", failed)]
    if not has_begun:
        states.insert(0, ("response.created", dict(response)))
    return b"".join(
        sse.encode(
            kind.encode(), _encode({"type": kind, "sequence_number": number, "response": state})
        )
        for number, (kind, state) in enumerate(states)
    )


def _requested(request: ResponsesRequest) -> dict[str, Any]:
    """Return the request parameters that a response repeats, except long ones."""
    parameters = {name: getattr(request, name) for name in _REPEATED}
    if request.text is None or not request.text.format:
        del parameters["text"]
    return {name: value for name, value in parameters.items() if value is not None}


def _part(text: Raw) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _object_in(text: Raw) -> dict[str, Any]:
    """Return the arguments of a call as an object, empty if they are not an object."""
    return object_of(text_of(text)) or {}


def _numbers(usage: object) -> dict[str, Any]:
    return {key: each for key, each in usage.items() if each} if isinstance(usage, dict) else {}


def _to_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Convert *usage* for the Responses API, whose input tokens include cached ones."""
    cached = _count(usage.get("cache_read_input_tokens"))
    written = _count(usage.get("cache_creation_input_tokens"))
    details = usage.get("output_tokens_details")
    reasoning = _count(details.get("thinking_tokens")) if isinstance(details, dict) else 0
    total_input = _count(usage.get("input_tokens")) + cached + written
    output = _count(usage.get("output_tokens"))
    return {
        "input_tokens": total_input,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": total_input + output,
    }


def _count(value: object) -> int:
    return token_count(value) or 0
