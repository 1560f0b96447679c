"""
Measure the quirks of a model in Chat Completions with small requests.

`Measurement.steps` yields request bodies and receives their outcomes; the caller does the I/O and
may stop at any step. A quirk is recorded only if the answers are conclusive. Many servers ignore
unknown fields and values, so acceptance alone proves nothing: a form of reasoning counts if the
answer contains reasoning, effort values count if an invalid value is refused, a forced choice
counts if the answer has no text, structured output counts if the answer begins like JSON, and
fields without a visible effect count if an unknown field is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeVar

from ccproxy.providers.quirks import Quirks

MOST_REQUESTS: Final = 86
"""Requests in a complete measurement; a strict server refuses most of them at no cost."""
PROMPT_TOKENS: Final = 120
ANSWER_TOKENS: Final = 16
HUGE_LIMIT: Final = 10_000_000
"""An output limit in tokens that exceeds every model's maximum."""
OVERFLOW_SHARE: Final = 1.2
"""The size of a too-long request relative to the window."""
MAX_OVERFLOW_BYTES: Final = 2_000_000
_FILLER: Final = "word "
"""About one token in every vocabulary."""
_NO_EFFECT = "its effect is not visible in an answer"
_RESPONSES = "specific to the Responses API; only Chat Completions is measured"
_HEADER = "a header, which affects prices and routing but not the answer"
UNMEASURED: Final[Mapping[str, str]] = {
    "vocabulary": "the token estimate is adjusted by the usage of every answer",
    "tool_stream": "visible only in a long call, and the model might not make one",
    "thinking_keep": _NO_EFFECT,
    "history_scope": _NO_EFFECT,
    "unsigned_thinking": "needs a signature that another model made",
    "system_role": _RESPONSES,
    "output_parts": _RESPONSES,
    "encrypted_reasoning": _RESPONSES,
    "reasoning_summary": _RESPONSES,
    "message_phase": _RESPONSES,
    "web_search": _RESPONSES,
    "vision_header": _HEADER,
    "initiator_header": _HEADER,
    "session_header": _HEADER,
    "refused_fields": "could be any field; ccproxy learns from the first refusal instead",
    "extra_body": "could be any field",
    "template_kwargs": "measured together with `reasoning`",
    "text_calls": "an occasional error of the model",
    "quota_means_rate": "visible only when the quota is exhausted",
}
"""The quirks that are not measured, with the reasons."""

PARTS: Final = ("reasoning", "sampling", "tools", "messages", "answers")
"""The parts of a measurement; later parts depend on earlier ones."""
_PART_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "cache_control": ("messages",),
    "documents": ("messages",),
    "forced_choice_with_thinking": ("reasoning", "tools"),
    "format_with_thinking": ("reasoning", "answers"),
    "images": ("messages",),
    "json_schema": ("answers",),
    "message_order": ("messages",),
    "parallel_tool_calls": ("tools",),
    "prompt_cache_key": ("answers",),
    "reasoning": ("reasoning",),
    "reasoning_effort": ("reasoning",),
    "response_format": ("answers",),
    "schema": ("tools",),
    "stop": ("sampling",),
    "stream_options": ("answers",),
    "system_messages": ("messages",),
    "temperature": ("sampling",),
    "thinking": ("reasoning",),
    "thinking_history": ("messages",),
    "thinking_without_stream": ("reasoning",),
    "tool_choice": ("tools",),
    "top_k": ("sampling",),
    "top_p": ("sampling",),
    "user": ("answers",),
}
"""The parts to measure, by refused feature of `convert/common/refused_features.py`."""

Body = dict[str, Any]
UsagePlace = Literal[
    "in its own chunk", "in the last chunk", "in an earlier chunk", "absent", "not requested"
]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnd:
    """How a stream ended."""

    has_done: bool
    """Whether the stream ended with `[DONE]`."""
    has_finish_reason: bool
    usage: UsagePlace

    @property
    def is_readable(self) -> bool:
        """Whether ccproxy recognizes the end; otherwise the answer counts as interrupted."""
        return self.has_done or self.has_finish_reason

    def __str__(self) -> str:
        done = "[DONE]" if self.has_done else "no [DONE]"
        reason = "finish_reason" if self.has_finish_reason else "no finish_reason"
        return f"{done}, {reason}, usage {self.usage}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The provider's response to a request."""

    accepted: bool
    is_too_long: bool = False
    """Whether the request was refused for its length, which proves nothing about its fields."""
    message: Mapping[str, Any] = field(default_factory=dict)
    """The assistant's message."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    is_padded: bool = False
    """Whether the chunks of the stream are padded."""
    stream_end: StreamEnd | None = None
    """How the stream ended, or None if the answer was not streamed."""

    @property
    def text(self) -> str:
        """The text of the answer, without leading reasoning."""
        text = self._content()
        return text.partition("</think>")[2] if self.has_think_tag else text

    @property
    def has_think_tag(self) -> bool:
        """Whether the text begins with reasoning."""
        return self._content().lstrip().startswith("<think>")

    def _content(self) -> str:
        content = self.message.get("content")
        return content if isinstance(content, str) else ""

    @property
    def reasoning_tokens(self) -> int:
        """The number of reasoning tokens in the usage."""
        details = self.usage.get("completion_tokens_details")
        tokens = details.get("reasoning_tokens") if isinstance(details, dict) else 0
        return tokens if isinstance(tokens, int) else 0

    @property
    def reasons(self) -> bool:
        """Whether the answer contains reasoning."""
        fields = ("reasoning_content", "reasoning", "reasoning_details")
        has_field = any(self.message.get(name) for name in fields)
        return has_field or self.has_think_tag or self.reasoning_tokens > 0


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
"""The fields that turn reasoning on and off, by `Quirks.reasoning`."""
_HISTORY: Final[dict[str, Body]] = {
    "both_fields": {"reasoning_content": "Hm.", "reasoning": "Hm."},
    "reasoning_content": {"reasoning_content": "Hm."},
    "reasoning": {"reasoning": "Hm."},
    "reasoning_details": {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
    "thinking_parts": {
        "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
    },
}
_UNKNOWN: Final[Body] = {"ccproxy_probe": True}
"""A field that is unknown to every provider."""
_SIGNATURE: Final[Body] = {
    "extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}
}
"""Google's value for calls without a signature (ai.google.dev, thought signatures)."""
_SCHEMA: Final = {
    "type": "object",
    "properties": {"ccproxy_ok": {"type": "boolean"}},
    "required": ["ccproxy_ok"],
    "additionalProperties": False,
}
_JSON_START: Final = {"json_schema": '{"ccproxy_ok"', "json_object": "{"}
"""The beginning of the answer, without spaces."""
_FORMATS: Final[dict[str, Body]] = {
    "json_schema": {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": _SCHEMA, "strict": True},
    },
    "json_object": {"type": "json_object"},
}


def _user(text: object = "Say ok, as JSON.") -> Body:
    return {"role": "user", "content": text}


def _tool(name: str = "look", parameters: Body | None = None) -> Body:
    parameters = parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def _call(message: Body, *, call_id: str = "abcdefgh1", signature: Body) -> list[Body]:
    """Return a turn with a call and its result; *message* adds fields to the assistant message."""
    function = {"name": "look", "arguments": "{}"}
    call = {"id": call_id, "type": "function", "function": function, **signature}
    return [
        _user("Look."),
        {"role": "assistant", "content": "", "tool_calls": [call], **message},
        {"role": "tool", "tool_call_id": call_id, "content": "nothing"},
    ]


class _TooLongError(ValueError):
    """A request exceeds the model's window, so the current step measures nothing."""

    def __str__(self) -> str:
        return "the model's window is too small for the requests of a measurement"


class Measurement:
    """
    The measurement of one model. Not reusable.

    *schemas* has the parameters of one tool in each schema dialect, richest dialect first.
    """

    def __init__(self, model: str, *, schemas: Mapping[str, Body]) -> None:
        self.quirks: Body = {}
        """The quirks measured so far."""
        self.stream_ends: dict[StreamEnd, None] = {}
        """The distinct ways in which the streams ended, in order of appearance."""
        self._model = model
        self._schemas = schemas
        self._limit = "max_tokens"
        self._is_strict = False  # the provider refuses unknown fields
        self._reasons = False  # reasons by default
        self._on: Body = {}
        self._off: Body = {}
        self._needs: Body = {}  # fields that thinking requires
        self._history: Body = {}
        self._takes_calls = True
        self._signature: Body = {}

    def steps(self, parts: Collection[str] = PARTS) -> Steps[None]:
        """Yield the requests for the basics and *parts*."""
        steps = {
            "reasoning": (self._reasoning,),
            "sampling": (self._sampling,),
            "tools": (self._tools, self._tool_forms),
            "messages": (self._history_forms, self._messages),
            "answers": (self._rest,),
        }
        yield from self._basics()
        for part in PARTS:
            for measure in steps[part] if part in parts else ():
                with suppress(_TooLongError):
                    yield from measure()

    def long_answer_request(self) -> Body:
        """
        Return a request with an output limit above the model's maximum.

        It asks for one word in a stream, so that an accepted request can be aborted early.
        """
        return {**self._body(), self._limit: HUGE_LIMIT, "stream": True, **self._off}

    def too_long_request(self, window: int) -> Body:
        """Return a request that exceeds *window* tokens; see `overflow_tokens`."""
        return {**self._body(), "messages": [_user(_FILLER * overflow_tokens(window))]}

    def _body(self) -> Body:
        return {"model": self._model, "messages": [_user()], self._limit: ANSWER_TOKENS}

    def _ask(self, **fields: Any) -> Steps[Outcome]:  # noqa: ANN401 - JSON
        outcome = yield {**self._body(), **fields}
        if outcome.is_too_long:
            raise _TooLongError
        if (end := outcome.stream_end) is not None:
            if end.usage == "absent" and "stream_options" not in fields:
                end = replace(end, usage="not requested")
            self.stream_ends.setdefault(end)
        return outcome

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
        self._is_strict = not (yield from self._accepts(**_UNKNOWN))
        if first.has_think_tag:
            self.quirks["think_tags"] = True
            split = yield from self._ask(reasoning_split=True)
            self.quirks["reasoning_split"] = split.accepted and not split.has_think_tag

    def _support(self, quirk: str, **fields: Any) -> Steps[None]:  # noqa: ANN401 - JSON
        """Measure the support for *fields*; lenient servers also accept fields that they ignore."""
        accepted = yield from self._accepts(**fields)
        if self._is_strict or not accepted:
            self.quirks[quirk] = accepted

    # Reasoning

    def _reasoning(self) -> Steps[None]:
        yield from self._efforts()
        forms = dict(_FORMS)
        if "efforts" not in self.quirks:  # any value is accepted, which proves nothing
            del forms["effort"]
        elif words := [effort for effort in self.quirks["efforts"] if effort not in _OFF]:
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
                continue  # it always reasons, so the fields may have no effect
            self._on, self._needs = on, needs
            self._off = off if without.accepted else {}
            self.quirks["reasoning"] = name
            self.quirks["thinking_needs_stream"] = bool(needs)
            if name != "effort" or without.accepted or self._reasons:
                self.quirks["always_reasons"] = stays
            self._usage(outcome)
            break
        if refused == len(_FORMS):
            self.quirks["reasoning"] = "none"

    def _switch(self, on: Body) -> Steps[tuple[Outcome, Body]]:
        """Request reasoning; return the outcome, and the fields that reasoning requires."""
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
            return  # the server ignores the value
        accepted = {}
        for effort in _WORDS:
            accepted[effort] = yield from self._accepts(reasoning_effort=effort)
        words = [effort for effort in _WORDS if accepted[effort]]
        self.quirks["efforts"] = tuple(words)
        if words:
            self.quirks["effort_with_tools"] = yield from self._accepts(
                reasoning_effort=words[-1], tools=[_tool()]
            )

    # Sampling

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
        yield from self._support("top_k", top_k=40)
        self.quirks["stop"] = yield from self._accepts(stop=["~~1"])
        if self.quirks["stop"]:
            counts = (16, 4, 1)
            for count in counts:
                if (yield from self._accepts(stop=[f"~~{number}" for number in range(count)])):
                    self.quirks["max_stops"] = count
                    break

    # Tools

    def _tools(self) -> Steps[None]:
        tools = [_tool()]
        forced: dict[str, Any] = {
            "required": "required",
            "function": {"type": "function", "function": {"name": "look"}},
        }
        obeyed: dict[str, bool] = {}
        for choice, value in forced.items():
            obeyed |= yield from self._choice(choice, value)
            if choice == "required" and not obeyed.get(choice):
                other = yield from self._choice(choice, "any")
                if other.get(choice):
                    obeyed, forced[choice] = other, "any"
        self.quirks["required_word"] = forced["required"]
        accepted = [choice for choice, is_obeyed in obeyed.items() if is_obeyed]
        auto = ["auto"] if (yield from self._accepts(tools=tools, tool_choice="auto")) else []
        none = ["none"] if (yield from self._accepts(tools=tools, tool_choice="none")) else []
        if obeyed and not accepted:  # the server ignores choices, so its acceptance proves nothing
            none = []
        self.quirks["tool_choices"] = (*auto, *accepted, *none)
        strong = next((choice for choice in forced if choice in accepted), None)
        if strong and self._on and self.quirks.get("effort_with_tools", True):
            self.quirks["forced_choice_with_thinking"] = yield from self._accepts(
                tools=tools, tool_choice=forced[strong], **self._on, **self._needs
            )
        self.quirks["parallel_tool_calls"] = yield from self._accepts(
            tools=tools, parallel_tool_calls=False
        )
        many = [_tool(f"look_{number}") for number in range(129)]
        self.quirks["max_tools"] = 0 if (yield from self._accepts(tools=many)) else 128

    def _choice(self, word: str, value: object) -> Steps[dict[str, bool]]:
        """Return {*word*: whether the forced choice is obeyed}, or {} if it is refused."""
        outcome = yield from self._ask(tools=[_tool()], tool_choice=value)
        return {word: not outcome.text} if outcome.accepted else {}

    def _tool_forms(self) -> Steps[None]:
        """Measure the maximum length of names, and the schema dialect if the richest is refused."""
        for length in (128, 64, 40, 32):
            if (yield from self._accepts(tools=[_tool("look" * (length // 4))])):
                self.quirks["tool_name_length"] = length
                break
        for number, (dialect, parameters) in enumerate(self._schemas.items()):
            if (yield from self._accepts(tools=[_tool(parameters=parameters)])):
                if number > 0:  # acceptance of the richest does not prove support
                    self.quirks["schema"] = dialect
                break

    # Messages

    def _takes_turn(
        self, message: Body, *later: Body, call_id: str = "abcdefgh1", signature: Body | None = None
    ) -> Steps[bool]:
        """Measure whether a turn is accepted with *message* added to its assistant message."""
        turn = _call(message, call_id=call_id, signature=signature or self._signature)
        return (yield from self._accepts(messages=[*turn, *later], tools=[_tool()]))

    def _history_forms(self) -> Steps[None]:
        """Measure the supported and required forms of reasoning in the history."""
        plain = yield from self._takes_turn({})
        if plain and (yield from self._takes_turn(_UNKNOWN)):
            return  # unknown fields of messages are ignored
        history = "drop"
        # Try the widest form first if reasoning is optional, and the narrowest if it is required.
        for name, fields in _HISTORY.items() if plain else reversed(_HISTORY.items()):
            if (yield from self._takes_turn(fields)):
                history = name
                self._history = {} if plain else fields
                break
        self.quirks["history"] = history
        self.quirks["history_required"] = not plain and history != "drop"
        if not plain and history == "drop":
            self._takes_calls = yield from self._takes_turn({}, signature=_SIGNATURE)
            if self._takes_calls:
                self.quirks["thought_signatures"] = True
                self._signature = _SIGNATURE

    def _calls(self) -> Steps[None]:
        history = self._history
        # A server may accept ids of any form and still misread them.
        if not (yield from self._takes_turn(history, call_id="x" * 65)):
            takes_forty = yield from self._takes_turn(history, call_id="x" * 40)
            self.quirks["tool_ids"] = "forty" if takes_forty else "nine"
        self.quirks["null_content"] = yield from self._takes_turn({**history, "content": None})
        self.quirks["user_after_tool"] = yield from self._takes_turn(history, _user())

    def _messages(self) -> Steps[None]:
        if self._takes_calls:
            yield from self._calls()
        system = {"role": "system", "content": "Be brief."}
        later = yield from self._accepts(messages=[_user(), system, _user()])
        twice = yield from self._accepts(messages=[_user(), _user()])
        self.quirks["merge_user_messages"] = not twice
        if twice or later:
            self.quirks["system_messages"] = "anywhere" if later else "first"
        parts = [{"type": "text", "text": "Say ok."}]
        self.quirks["flat_text"] = not (yield from self._accepts(messages=[_user(parts)]))
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
        accepted = yield from self._accepts(messages=[_user(cached)])
        unknown = [{**text[0], **_UNKNOWN}]
        if not accepted or not (yield from self._accepts(messages=[_user(unknown)])):
            self.quirks["cache_control"] = accepted

    def _prefill(self) -> Steps[None]:
        start = {"role": "assistant", "content": "o"}
        for name in ("plain", "prefix", "partial"):
            flag = {} if name == "plain" else {name: True}
            if (yield from self._accepts(messages=[_user(), {**start, **flag}])):
                self.quirks["prefill"] = name
                return

    # Other fields

    def _rest(self) -> Steps[None]:
        yield from self._formats()
        options = {"include_usage": True}
        outcome = yield from self._ask(stream=True, stream_options=options)
        self.quirks["stream_options"] = outcome.accepted
        self.quirks["obfuscation"] = outcome.is_padded
        yield from self._support("cache_key", prompt_cache_key="probe")
        for name in ("safety_identifier", "user"):
            if (yield from self._accepts(**{name: "probe"})):
                if self._is_strict:
                    self.quirks["user_field"] = name
                break
        else:
            self.quirks["user_field"] = "none"

    def _formats(self) -> Steps[None]:
        self.quirks["response_format"] = "none"
        for name, form in _FORMATS.items():
            outcome = yield from self._ask(response_format=form)
            start = _JSON_START[name]
            text = "".join(outcome.text.split())[: len(start)]
            if not outcome.accepted or not start.startswith(text):
                continue
            self.quirks["response_format"] = name
            self.quirks["response_format_streams"] = yield from self._accepts(
                response_format=form, stream=True
            )
            if self._on:
                self.quirks["format_with_thinking"] = yield from self._accepts(
                    response_format=form, **self._on, **self._needs
                )
            return


def overflow_tokens(window: int) -> int:
    """Return the size in tokens of a request that exceeds *window*."""
    return int(window * OVERFLOW_SHARE)


def why_no_overflow(window: int | None) -> str:
    """Return the reason for not sending a too-long request, or an empty string."""
    if window is None:
        return "the model's window is unknown"
    size = overflow_tokens(window) * len(_FILLER)
    if size > MAX_OVERFLOW_BYTES:
        return f"a request of {size / 1e6:.1f} MB would be needed, which exceeds 2 MB"
    return ""


def parts_of(features: Collection[str]) -> tuple[str, ...]:
    """Return the parts of a measurement that explain the refusal of *features*."""
    parts = {part for feature in features for part in _PART_OF.get(feature, ())}
    return tuple(part for part in PARTS if part in parts)


def differences(measured: Mapping[str, Any], assumed: Quirks) -> Body:
    """Return the measured quirks that differ from the assumed ones."""
    return {name: value for name, value in measured.items() if getattr(assumed, name) != value}
