"""
Measures the quirks of a model in Chat Completions by small requests.

`Measurement.steps` yields request bodies and takes their outcomes; the caller does the I/O and may
stop at any step. A quirk is measured only if its answers tell something: a server that ignores
what it does not know accepts every field, so that a form of reasoning counts only if the answer
has reasoning, and effort words only if a word that does not exist is refused.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from ccproxy.providers.quirks import Quirks

MOST_REQUESTS: Final = 70
"""Requests of a complete measurement, most of which a strict server refuses without cost."""
PROMPT_TOKENS: Final = 120
ANSWER_TOKENS: Final = 16
UNMEASURED: Final = (
    *("vocabulary", "schema", "tool_stream", "thinking_keep", "reasoning_split", "history_scope"),
    *("unsigned_thinking", "thought_signatures", "system_role", "output_parts", "web_search"),
    *("encrypted_reasoning", "reasoning_summary", "message_phase", "vision_header", "text_calls"),
    *("initiator_header", "session_header", "refused_fields", "extra_body", "think_tags"),
    *("quota_means_rate", "template_kwargs", "format_with_thinking", "tool_name_length"),
)
"""Quirks whose effect no small request shows, or which are of other APIs."""

Body = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the provider made of a request."""

    accepted: bool
    message: Mapping[str, Any] = field(default_factory=dict)
    """The assistant's message."""
    usage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reasoning_tokens(self) -> int:
        """The reasoning tokens that the usage reports."""
        details = self.usage.get("completion_tokens_details")
        tokens = details.get("reasoning_tokens") if isinstance(details, dict) else 0
        return tokens if isinstance(tokens, int) else 0

    @property
    def reasons(self) -> bool:
        """True: the answer has reasoning."""
        fields = ("reasoning_content", "reasoning", "reasoning_details")
        return any(self.message.get(name) for name in fields) or self.reasoning_tokens > 0


Steps = Generator[Body, Outcome, T]

_PIXEL: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)
_PDF: Final = (
    "data:application/pdf;base64,JVBERi0xLjEKMSAwIG9iajw8Pj5lbmRvYmoKdHJhaWxlcjw8Pj4KJSVFT0Y="
)
_WORDS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_OFF: Final = ("none", "minimal")
_NO_WORD: Final = "utmost"
_FORMS: Final[dict[str, tuple[Body, Body]]] = {
    "thinking_type": ({"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}}),
    "enable_thinking": ({"enable_thinking": True}, {"enable_thinking": False}),
    "openrouter": ({"reasoning": {"enabled": True}}, {"reasoning": {"enabled": False}}),
    "minimax": ({"thinking": {"type": "adaptive"}}, {"thinking": {"type": "disabled"}}),
    "template_kwargs": (
        {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}},
        {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}},
    ),
    "effort": ({"reasoning_effort": "low"}, {"reasoning_effort": "none"}),
}
"""Fields that switch reasoning on and off, by `Quirks.reasoning`."""
_HISTORY: Final[dict[str, Body]] = {
    "both_fields": {"reasoning_content": "Hm.", "reasoning": "Hm."},
    "reasoning_content": {"reasoning_content": "Hm."},
    "reasoning": {"reasoning": "Hm."},
    "reasoning_details": {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
    "thinking_parts": {
        "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
    },
}
_SCHEMA: Final = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
_FORMATS: Final[dict[str, Body]] = {
    "json_schema": {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": _SCHEMA, "strict": True},
    },
    "json_object": {"type": "json_object"},
}


def _user(text: object = "Say ok, as JSON.") -> Body:
    return {"role": "user", "content": text}


def _tool(name: str = "look") -> Body:
    parameters = {"type": "object", "properties": {}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def _call(call_id: str = "abcdefgh1", **fields: Any) -> list[Body]:  # noqa: ANN401 - JSON
    """Return a turn with a call and its result."""
    call = {"id": call_id, "type": "function", "function": {"name": "look", "arguments": "{}"}}
    return [
        _user("Look."),
        {"role": "assistant", "content": "", "tool_calls": [call], **fields},
        {"role": "tool", "tool_call_id": call_id, "content": "nothing"},
    ]


class Measurement:
    """The measurement of one model. Used once."""

    def __init__(self, model: str) -> None:
        self.quirks: Body = {}
        """What was measured so far."""
        self._model = model
        self._limit = "max_tokens"
        self._is_strict = False  # what the provider does not know is refused
        self._reasons = False  # without being asked to
        self._on: Body = {}
        self._needs: Body = {}  # fields without which thinking is refused
        self._history: Body = {}

    def steps(self) -> Steps[None]:
        """Yield the requests."""
        yield from self._basics()
        yield from self._reasoning()
        yield from self._sampling()
        yield from self._tools()
        yield from self._history_forms()
        yield from self._messages()
        yield from self._rest()

    def _ask(self, **fields: Any) -> Steps[Outcome]:  # noqa: ANN401 - JSON
        body = {"model": self._model, "messages": [_user()], self._limit: ANSWER_TOKENS}
        return (yield {**body, **fields})

    def _accepts(self, **fields: Any) -> Steps[bool]:  # noqa: ANN401 - JSON
        return (yield from self._ask(**fields)).accepted

    def _basics(self) -> Steps[None]:
        first = yield from self._ask()
        if not first.accepted:
            self._limit = "max_completion_tokens"
            first = yield from self._ask()
            if not first.accepted:
                raise ValueError("the model refuses the smallest request")
        self.quirks["max_tokens_field"] = self._limit
        self._reasons = first.reasons
        self._is_strict = not (yield from self._accepts(ccproxy_probe=True))

    # Reasoning.

    def _reasoning(self) -> Steps[None]:
        yield from self._efforts()
        forms = dict(_FORMS)
        if "efforts" not in self.quirks:  # any word is accepted, so none tells anything
            del forms["effort"]
        elif words := [word for word in self.quirks["efforts"] if word not in _OFF]:
            forms["effort"] = ({"reasoning_effort": words[0]}, forms["effort"][1])
        refused = 0
        for name, (on, off) in forms.items():
            outcome, needs = yield from self._switch(on)
            refused += not outcome.accepted
            if not outcome.accepted or not outcome.reasons:
                continue
            without = yield from self._ask(**off)
            stays = not without.accepted or without.reasons
            if stays and self._reasons and not self._is_strict:
                continue  # it reasons whatever it is asked
            self._on, self._needs = on, needs
            self.quirks["reasoning"] = name
            self.quirks["thinking_needs_stream"] = bool(needs)
            if name != "effort" or without.accepted or self._reasons:
                self.quirks["always_reasons"] = stays
            self._usage(outcome)
            break
        if refused == len(_FORMS):
            self.quirks["reasoning"] = "none"

    def _switch(self, on: Body) -> Steps[tuple[Outcome, Body]]:
        """Request reasoning; return the outcome, and the fields without which it is refused."""
        outcome = yield from self._ask(**on)
        if outcome.accepted:
            return outcome, {}
        needs = {"stream": True}
        return (yield from self._ask(**on, **needs)), needs

    def _usage(self, outcome: Outcome) -> None:
        written = outcome.usage.get("completion_tokens")
        if outcome.reasoning_tokens and isinstance(written, int):
            self.quirks["usage_without_reasoning"] = written < outcome.reasoning_tokens

    def _efforts(self) -> Steps[None]:
        if (yield from self._accepts(reasoning_effort=_NO_WORD)):
            return  # a server that reads no words
        accepted = {}
        for word in _WORDS:
            accepted[word] = yield from self._accepts(reasoning_effort=word)
        words = [word for word in _WORDS if accepted[word]]
        self.quirks["efforts"] = tuple(words)
        if words:
            self.quirks["effort_with_tools"] = yield from self._accepts(
                reasoning_effort=words[-1], tools=[_tool()]
            )

    # Sampling.

    def _sampling(self) -> Steps[None]:
        plain = yield from self._accepts(temperature=0.9)
        efforts = self.quirks.get("efforts", ())
        thinking = {"reasoning_effort": efforts[-1]} if efforts else {}
        sampling = plain and (yield from self._accepts(temperature=0.9, **thinking))
        self.quirks["sampling"] = sampling
        self.quirks["sampling_without_effort"] = plain and not sampling
        if plain:
            least = 0.0 if (yield from self._accepts(temperature=0.0)) else 0.01
            most = 2.0 if (yield from self._accepts(temperature=2.0)) else 1.0
            self.quirks["temperature_range"] = (least, most)
        self.quirks["top_k"] = yield from self._accepts(top_k=40)
        self.quirks["stop"] = yield from self._accepts(stop=["~~1"])
        if self.quirks["stop"]:
            counts = (16, 4, 1)
            for count in counts:
                if (yield from self._accepts(stop=[f"~~{number}" for number in range(count)])):
                    self.quirks["max_stops"] = count
                    break

    # Tools.

    def _tools(self) -> Steps[None]:
        tools = [_tool()]
        named = {"type": "function", "function": {"name": "look"}}
        choices: dict[str, Any] = {"auto": "auto", "required": "required", "function": named}
        accepted = []
        for word, value in {**choices, "none": "none"}.items():
            if (yield from self._accepts(tools=tools, tool_choice=value)):
                accepted.append(word)
            elif word == "required" and (yield from self._accepts(tools=tools, tool_choice="any")):
                accepted.append(word)
                self.quirks["required_word"] = "any"
        self.quirks["tool_choices"] = tuple(accepted)
        self.quirks.setdefault("required_word", "required")
        forced = {"required": self.quirks["required_word"], "function": named}
        strong = next((word for word in forced if word in accepted), None)
        if strong and self._on and self.quirks.get("effort_with_tools", True):
            self.quirks["forced_choice_with_thinking"] = yield from self._accepts(
                tools=tools, tool_choice=forced[strong], **self._on, **self._needs
            )
        self.quirks["parallel_tool_calls"] = yield from self._accepts(
            tools=tools, parallel_tool_calls=False
        )
        many = [_tool(f"look_{number}") for number in range(129)]
        self.quirks["max_tools"] = 0 if (yield from self._accepts(tools=many)) else 128

    def _history_forms(self) -> Steps[None]:
        """Measure which reasoning the history may and must have; other turns depend on it."""
        plain = yield from self._accepts(messages=_call(), tools=[_tool()])
        for name, fields in _HISTORY.items():
            if (yield from self._accepts(messages=_call(**fields), tools=[_tool()])):
                self.quirks["history"] = name
                self._history = {} if plain else fields
                break
        else:
            self.quirks["history"] = "drop"
        self.quirks["history_required"] = not plain and self.quirks["history"] != "drop"

    def _messages(self) -> Steps[None]:
        tools, more = [_tool()], self._history
        ids = {"any": "x" * 65, "forty": "x" * 40, "nine": "abcdefgh1"}
        for name, call_id in ids.items():
            if (yield from self._accepts(messages=_call(call_id, **more), tools=tools)):
                if name != "any":  # what is accepted may still be misread
                    self.quirks["tool_ids"] = name
                break
        system = {"role": "system", "content": "Be brief."}
        later = yield from self._accepts(messages=[_user(), system, _user()])
        twice = yield from self._accepts(messages=[_user(), _user()])
        self.quirks["merge_user_messages"] = not twice
        if twice or later:
            self.quirks["system_messages"] = "anywhere" if later else "first"
        parts = [{"type": "text", "text": "Say ok."}]
        self.quirks["flat_text"] = not (yield from self._accepts(messages=[_user(parts)]))
        null = {**more, "content": None}
        self.quirks["null_content"] = yield from self._accepts(messages=_call(**null), tools=tools)
        after = [*_call(**more), _user()]
        self.quirks["user_after_tool"] = yield from self._accepts(messages=after, tools=tools)
        if not self.quirks["flat_text"]:
            yield from self._parts(parts)
        yield from self._prefill()

    def _parts(self, text: list[Body]) -> Steps[None]:
        image = {"type": "image_url", "image_url": {"url": _PIXEL}}
        self.quirks["images"] = yield from self._accepts(messages=[_user([*text, image])])
        file = {"type": "file", "file": {"filename": "a.pdf", "file_data": _PDF}}
        url = {"type": "document_url", "document_url": _PDF}
        self.quirks["pdf"] = "text"
        for name, part in {"file": file, "document_url": url}.items():
            if (yield from self._accepts(messages=[_user([*text, part])])):
                self.quirks["pdf"] = name
                break
        cached = [{**text[0], "cache_control": {"type": "ephemeral"}}]
        self.quirks["cache_control"] = yield from self._accepts(messages=[_user(cached)])

    def _prefill(self) -> Steps[None]:
        start = {"role": "assistant", "content": "o"}
        for name in ("plain", "prefix", "partial"):
            flag = {} if name == "plain" else {name: True}
            if (yield from self._accepts(messages=[_user(), {**start, **flag}])):
                self.quirks["prefill"] = name
                return

    # The rest.

    def _rest(self) -> Steps[None]:
        self.quirks["response_format"] = "none"
        for name, form in _FORMATS.items():
            if (yield from self._accepts(response_format=form)):
                self.quirks["response_format"] = name
                self.quirks["response_format_streams"] = yield from self._accepts(
                    response_format=form, stream=True
                )
                break
        options = {"include_usage": True}
        accepted = yield from self._accepts(stream=True, stream_options=options)
        self.quirks["stream_options"] = accepted
        if accepted:
            options = {**options, "include_obfuscation": False}
            self.quirks["obfuscation"] = yield from self._accepts(
                stream=True, stream_options=options
            )
        self.quirks["cache_key"] = yield from self._accepts(prompt_cache_key="probe")
        self.quirks["user_field"] = "none"
        for name in ("safety_identifier", "user"):
            if (yield from self._accepts(**{name: "probe"})):
                self.quirks["user_field"] = name
                break


def differences(measured: Mapping[str, Any], assumed: Quirks) -> Body:
    """Return the measured quirks that differ from the assumed ones."""
    return {name: value for name, value in measured.items() if getattr(assumed, name) != value}
