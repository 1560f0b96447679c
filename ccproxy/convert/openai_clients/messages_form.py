"""
Convert a Responses request into a Messages request.

`convert/chat`, `convert/responses` and direct mode can handle the result like any other request.
The conversion is append-only: the messages of a request begin with those of the conversation's
previous request, so prompt caches and encrypted reasoning stay valid.

* `instructions` and the initial developer messages become the system prompt; later developer
  messages become system messages at their position.
* Consecutive reasoning, text and calls become one assistant message. The results of its calls
  follow directly, in the order of the calls, regardless of their position in the request.
* Reasoning without a following text or call of the assistant is dropped; providers refuse it.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from ccproxy.convert.openai_clients.input_content import blocks_of_parts, result_content
from ccproxy.convert.openai_clients.sealed_reasoning import ReasoningSeal
from ccproxy.convert.openai_clients.tool_kinds import (
    CUSTOM_INPUT,
    LOCAL_SHELL,
    TOOL_SEARCH,
    WEB_SEARCH,
    ToolKinds,
    sent_name,
)
from ccproxy.convert.responses.reasoning_items import PART_SEPARATOR
from ccproxy.protocol.json_splice import fields_of, object_of
from ccproxy.protocol.lenient_json import objects, string
from ccproxy.protocol.literals import (
    ABSENT,
    invalid_request,
    is_object,
    is_present,
    is_string,
    literal,
    text_of,
)
from ccproxy.protocol.responses_request import (
    InputItem,
    ReasoningConfig,
    ResponsesRequest,
    TextConfig,
    items_of,
    parts_of,
)

Block = dict[str, Any]
Message = dict[str, Any]

_VALID_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NO_OUTPUT: Final = "(no output)"
_JSON_ONLY: Final = "Answer with one JSON object and nothing else."
_OUTPUT: Final = "_output"
"""Suffix of the types of all items that hold the result of a call."""
_READ_ELSEWHERE: Final = frozenset(("additional_tools", "configuration_update"))
_COMPACTIONS: Final = frozenset(("compaction", "context_compaction"))
"""Summaries that are readable only by the provider that wrote them."""
_UNREADABLE: Final = (
    "(The conversation before this point was summarized by another provider, in a form that cannot "
    "be read here. Ask the user for what you need of it.)"
)
_EFFORTS: Final = {"minimal": "low"}
"""Efforts that the Messages API lacks, and their replacements."""
_CALLS: Final = frozenset(
    ("function_call", "custom_tool_call", "local_shell_call", "tool_search_call")
)


class MessagesForm:
    """A converted request."""

    def __init__(
        self, request: ResponsesRequest, *, seal: ReasoningSeal, max_tokens: int, with_search: bool
    ) -> None:
        """
        Convert *request*.

        *max_tokens* is the default limit. *with_search* means that the provider supports the web
        search tool.

        Raises:
            Problem: If a field cannot be converted; it contains the field's path.
        """
        self.request = request
        self.seal = seal
        self._dropped: dict[str, None] = {}
        items = items_of(request)
        added = [tool for item in items for tool in item.tools]
        self.tools = ToolKinds([*(request.tools or ()), *added], with_search=with_search)
        self._outputs = _outputs_by_id(items)
        updates = [item.reasoning for item in items if item.reasoning is not None]
        self._reasoning = _updated(request.reasoning or ReasoningConfig(), updates)
        self._system: list[Block] = []
        self._messages: list[Message] = []
        self._assistant: list[Block] = []
        if is_string(request.instructions) and text_of(request.instructions):
            self._system.append(_text(request.instructions))
        for position, item in enumerate(items):
            self._add(item, position)
        self._end_assistant()
        self.body = self._encode(max_tokens)

    @property
    def dropped(self) -> tuple[str, ...]:
        """The omitted parts of the request."""
        return (*self._dropped, *self.tools.dropped)

    # The conversation

    def _add(self, item: InputItem, position: int) -> None:
        if item.type == "agent_message" or (item.type == "message" and item.role != "assistant"):
            self._add_message(item, position)
        elif item.type == "message":
            blocks = self._blocks(item, position)
            self._assistant += [block for block in blocks if block["type"] == "text"]
        elif item.type == "reasoning":
            self._add_reasoning(item)
        elif item.type in _CALLS:
            self._assistant.append(_call(item))
        elif item.type.endswith(_OUTPUT):
            self._end_assistant()
            self._add_orphan(item)
        elif item.type == "item_reference":
            text = "this proxy stores no items: send the item itself"
            raise invalid_request(text, "input", position)
        elif item.type in _COMPACTIONS:
            self._end_assistant()
            self._messages.append({"role": "user", "content": [_text(literal(_UNREADABLE))]})
        elif item.type not in _READ_ELSEWHERE:
            self._dropped[f"input.{item.type}"] = None

    def _add_message(self, item: InputItem, position: int) -> None:
        self._end_assistant()
        blocks = self._blocks(item, position)
        if not blocks:
            return
        if item.role == "user" or item.type == "agent_message":
            self._messages.append({"role": "user", "content": blocks})
        elif self._messages:
            self._messages.append({"role": "system", "content": blocks})
        else:
            self._system += blocks

    def _blocks(self, item: InputItem, position: int) -> list[Block]:
        path = ("input", position, "content")
        return blocks_of_parts(parts_of(item.content, *path), path, self._dropped)

    def _add_reasoning(self, item: InputItem) -> None:
        summary = msgspec.json.decode(item.summary) if is_present(item.summary) else None
        thinking = PART_SEPARATOR.join(string(part.get("text")) for part in objects(summary))
        block = self.seal.thinking_block(thinking, item.encrypted_content or "")
        if block is not None:
            self._assistant.append(block)

    def _end_assistant(self) -> None:
        """Finish the assistant message, and add the results of its calls."""
        blocks, self._assistant = self._assistant, []
        if all("thinking" in block["type"] for block in blocks):
            return  # also without any blocks
        self._messages.append({"role": "assistant", "content": blocks})
        results = [self._result(block) for block in blocks if block["type"] == "tool_use"]
        if results:
            self._messages.append({"role": "user", "content": results})

    def _result(self, call: Block) -> Block:
        outputs = self._outputs.get(call["id"])
        content = result_content(outputs.popleft(), self._dropped) if outputs else _NO_OUTPUT
        return {"type": "tool_result", "tool_use_id": call["id"], "content": content}

    def _add_orphan(self, item: InputItem) -> None:
        """Add the result *item* as text if it has no call; other results are already added."""
        outputs = self._outputs.get(_call_id(item))
        if outputs and outputs[0] is item:
            outputs.popleft()
            content = result_content(item, self._dropped)
            if isinstance(content, str | Raw):
                text = content if isinstance(content, str) else text_of(content)
                content = [{"type": "text", "text": f"Result of an earlier call: {text}"}]
            self._messages.append({"role": "user", "content": content})

    # The other fields

    def _encode(self, max_tokens: int) -> bytes:
        request = self.request
        if not any(message["role"] == "user" for message in self._messages):
            # The Messages API requires a user message; a client may send only instructions.
            text = self._system.pop() if self._system else {"type": "text", "text": "Continue."}
            self._messages.insert(0, {"role": "user", "content": [text]})
        fields: dict[str, Any] = {
            "model": request.model,
            "max_tokens": request.max_output_tokens or max_tokens,
            "messages": self._messages,
            **self._answer_fields(),
            **self._tool_fields(),
        }
        if self._system:
            fields["system"] = self._system
        for name in ("stream", "temperature", "top_p"):
            if (value := getattr(request, name)) is not None:
                fields[name] = value
        if session := request.prompt_cache_key or request.user:
            fields["metadata"] = {"user_id": session}
        return msgspec.json.encode(fields)

    def _answer_fields(self) -> dict[str, Any]:
        """Return the fields for reasoning and for the format of the answer."""
        reasoning = self._reasoning
        fields: dict[str, Any] = {}
        output: dict[str, Any] = self._format()
        if reasoning.effort == "none":
            fields["thinking"] = {"type": "disabled"}
        elif reasoning.effort or reasoning.summary:
            fields["thinking"] = {"type": "adaptive"}
        if reasoning.effort not in (None, "none"):
            output["effort"] = _EFFORTS.get(reasoning.effort, reasoning.effort)
        return {**fields, "output_config": output} if output else fields

    def _format(self) -> dict[str, Any]:
        text = self.request.text or TextConfig()
        if text.verbosity:
            self._dropped["text.verbosity"] = None
        fields = text.format or {}
        match text_of(fields.get("type", ABSENT)):
            case "json_schema" if "schema" in fields:
                return {"format": {"type": "json_schema", "schema": fields["schema"]}}
            case "json_object":
                self._system.append({"type": "text", "text": _JSON_ONLY})
        return {}

    def _tool_fields(self) -> dict[str, Any]:
        choice = self._choice()
        if not self.tools.definitions:
            return {}
        fields: dict[str, Any] = {"tools": self.tools.definitions}
        if self.request.parallel_tool_calls is False and choice != _CHOICES["none"]:
            choice = {"type": "auto", **(choice or {}), "disable_parallel_tool_use": True}
        if choice is not None:
            fields["tool_choice"] = choice
        return fields

    def _choice(self) -> dict[str, Any] | None:
        choice = self.request.tool_choice
        if isinstance(choice, str):
            return _CHOICES.get(choice)
        if choice is None:
            return None
        if choice.get("type") == "allowed_tools":
            self.tools.keep_only(map(_chosen_name, objects(choice.get("tools"))))
            return _CHOICES.get(string(choice.get("mode")))
        name = _chosen_name(choice)
        is_sent = any(tool["name"] == name for tool in self.tools.definitions)
        return {"type": "tool", "name": name} if is_sent else None


_CHOICES: Final = {
    "auto": {"type": "auto"},
    "required": {"type": "any"},
    "none": {"type": "none"},
}


def _updated(reasoning: ReasoningConfig, updates: Sequence[ReasoningConfig]) -> ReasoningConfig:
    """Return *reasoning* with the last effort in *updates*, if any."""
    efforts = [update.effort for update in updates if update.effort]
    return ReasoningConfig(efforts[-1] if efforts else reasoning.effort, reasoning.summary)


def _chosen_name(choice: dict[str, Any]) -> str:
    """Return the sent name of the tool that *choice* names."""
    kind = string(choice.get("type"))
    if kind in (LOCAL_SHELL, TOOL_SEARCH):
        return kind
    if kind.startswith(WEB_SEARCH):
        return WEB_SEARCH
    return sent_name(string(choice.get("name")), string(choice.get("namespace")))


def _call(item: InputItem) -> Block:
    """Return the tool_use block of a call."""
    arguments: Raw | dict[str, Any]
    match item.type:
        case "custom_tool_call":
            name = sent_name(item.name, item.namespace)
            arguments = {CUSTOM_INPUT: text_of(item.input)}
        case "local_shell_call":
            name, arguments = LOCAL_SHELL, _shell_arguments(item.action)
        case "tool_search_call":
            name, arguments = TOOL_SEARCH, _arguments(item.arguments)
        case _:
            name, arguments = sent_name(item.name, item.namespace), _arguments(item.arguments)
    return {"type": "tool_use", "id": _call_id(item), "name": name, "input": arguments}


def _arguments(arguments: Raw) -> Raw | dict[str, Any]:
    """Return the arguments as an object; wrap any other value in one."""
    if is_object(arguments):
        return arguments
    text = text_of(arguments)
    if fields_of(text.encode()) is not None:
        return Raw(text.encode())
    return {"arguments": text} if text.strip() else {}


def _shell_arguments(action: Raw) -> dict[str, Any]:
    """Return the arguments of a local shell call, without the empty fields of its action."""
    fields = object_of(bytes(action)) or {}
    return {key: each for key, each in fields.items() if key != "type" and each not in (None, {})}


def _call_id(item: InputItem) -> str:
    """Return a call id that every provider of the Messages API accepts."""
    call_id = item.call_id or ""
    if _VALID_ID.fullmatch(call_id):
        return call_id
    return f"call_{hashlib.sha256(call_id.encode()).hexdigest()[:24]}"


def _outputs_by_id(items: Sequence[InputItem]) -> dict[str, deque[InputItem]]:
    outputs: dict[str, deque[InputItem]] = defaultdict(deque)
    for item in items:
        if item.type.endswith(_OUTPUT):
            outputs[_call_id(item)].append(item)
    return outputs


def _text(literal: Raw) -> Block:
    return {"type": "text", "text": literal}
