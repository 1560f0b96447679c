"""
Tool calls that a model writes into its text in DeepSeek's markup (DSML).

DeepSeek's models sometimes write `<｜DSML｜tool_calls>` with the calls as elements, and some
servers do not parse it. Everything from the first marker on is withheld from the client and
converted to tool calls at the end of the answer.
"""

from __future__ import annotations

import re
from typing import Any

from ccproxy.convert.chat.tool_calls import parse_json
from ccproxy.errors import BadAnswer
from ccproxy.protocol.chat import ToolCallDelta

_MARK = "<｜DSML｜"
_INVOKE = re.compile(r'<｜DSML｜invoke name="([^"<>]{1,256})">')
_PARAMETER = re.compile(r'<｜DSML｜parameter name="([^"<>]{1,256})"(?: string="(true|false)")?>')
_WRAPPER = re.compile(r"<｜DSML｜\w{1,32}_calls>")
_END_OF_WRAPPER = re.compile(r"</｜DSML｜\w{1,32}_calls>")
_END_OF_INVOKE = "</｜DSML｜invoke>"
_END_OF_PARAMETER = "</｜DSML｜parameter>"


class TextCalls:
    """Withholds the markup of calls from the text of one answer, then parses it."""

    def __init__(self) -> None:
        self._held = ""  # the possible beginning of the marker
        self._markup: list[str] = []

    def feed(self, text: str) -> str:
        """Process more text and return the part that is not markup."""
        if self._markup:
            self._markup.append(text)
            return ""
        text, self._held = self._held + text, ""
        before, mark, after = text.partition(_MARK)
        if mark:
            self._markup += (mark, after)
            return before.rstrip()
        held = next((n for n in range(len(_MARK) - 1, 0, -1) if text.endswith(_MARK[:n])), 0)
        self._held = text[len(text) - held :] if held else ""
        return text[: len(text) - held]

    def flush(self) -> str:
        """Return the text that was held back and is not markup."""
        held, self._held = self._held, ""
        return held

    def calls(self) -> list[ToolCallDelta]:
        """Return the withheld calls; raise BadAnswer if the markup cannot be parsed."""
        markup, self._markup = "".join(self._markup), []
        calls, position = [], 0
        while invoke := _INVOKE.search(markup, position):
            end = markup.find(_END_OF_INVOKE, invoke.end())
            if end < 0:
                raise BadAnswer("The provider's answer was cut off in the middle of a tool call")
            arguments = _arguments(markup[invoke.end() : end])
            calls.append(ToolCallDelta(name=invoke[1], arguments=arguments))
            position = end
        if _WRAPPER.search(markup) and not _END_OF_WRAPPER.search(markup):
            raise BadAnswer("The provider's answer was cut off in the middle of a tool call")
        if markup and not calls:
            raise BadAnswer("The model wrote a tool call as text that cannot be parsed")
        return calls


def _arguments(body: str) -> dict[str, Any]:
    """Return the parameters in the *body* of a call."""
    arguments: dict[str, Any] = {}
    position = 0
    while parameter := _PARAMETER.search(body, position):
        end = body.find(_END_OF_PARAMETER, parameter.end())
        if end < 0:
            raise BadAnswer("The model wrote a tool call as text that cannot be parsed")
        text = body[parameter.end() : end]
        arguments[parameter[1]] = _json_value(text) if parameter[2] == "false" else text
        position = end
    return arguments


def _json_value(text: str) -> Any:  # noqa: ANN401 - any JSON value
    parsed = parse_json(text)
    return text if parsed is None else parsed[0]
