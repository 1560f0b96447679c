"""
One case: a request to a running proxy, what its provider answers, and what must come of both.

Cases are plain values, listed in `requests.py`, `answers.py`, `streams.py` and `failures.py`, and
played over real HTTP by `test_cases.py`. Expectations are written by path: `messages.1.role`
steps into objects by name and into lists by number, negative ones from the end; the empty path is
the whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.provider import Script, completion

ABSENT = object()
"""Expected value of a field that must be absent."""

Expected = Mapping[str, Any]
"""By path: the value, `ABSENT`, or a function that must return true for it."""

PLAIN = "plain"
"""The provider of cases that apply to any OpenAI-compatible server."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """
    One case.

    Attributes:
        rule: What it shows, as a sentence; the test's name.
        provider: The preset whose provider is played, or `PLAIN`.
        model: What is asked for; it reaches the provider unchanged.
        request: Fields of the Messages request beside model, max_tokens and a user's "hello".
        answers: What the provider says; a plain "ok" by default.
        provider_body: What must have reached the provider, as the body of its (last) request.
        message: What the client must get: the message, put together if it was streamed.
        error: The error that the client must get instead, with its `status`.
        ways: Whether it is played whole, streamed, or (the default) both.
        source: Where the provider's behaviour is documented.
    """

    rule: str
    provider: str = PLAIN
    model: str = "some-model"
    request: Mapping[str, Any] = field(default_factory=dict)
    answers: tuple[Script, ...] = (completion("ok"),)
    provider_body: Expected = field(default_factory=dict)
    message: Expected = field(default_factory=dict)
    error: Expected = field(default_factory=dict)
    ways: tuple[bool, ...] = (False, True)
    source: str = ""

    def body(self, *, stream: bool) -> dict[str, Any]:
        """The request as the client sends it."""
        hello = [{"role": "user", "content": "hello"}]
        plain = {"model": self.model, "max_tokens": 100, "messages": hello}
        return {**plain, **self.request, "stream": stream}


def check(content: Any, expected: Expected) -> None:
    """Compare *content* with *expected*."""
    for path, goal in expected.items():
        result = at(content, path)
        story = f"{path} is {_short(result)}, wanted {_short(goal)}"
        if goal is ABSENT:
            assert result is ABSENT, story
        elif callable(goal):
            assert result is not ABSENT, story
            assert goal(result), story
        else:
            assert result == goal, story


def at(content: Any, path: str) -> Any:
    """Follow *path* into *content*; `ABSENT` if it leads nowhere."""
    for step in path.split(".") if path else ():
        try:
            content = content[int(step)] if isinstance(content, list) else content[step]
        except (LookupError, TypeError, ValueError):
            return ABSENT
    return content


def _short(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    return getattr(value, "__doc__", None) or repr(value)[:300] if callable(value) else repr(value)


# Words for expectations.


def has(part: str) -> Callable[[Any], bool]:
    """The text contains *part*."""

    def contains(value: Any) -> bool:
        return part in (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))

    contains.__doc__ = f"something that contains {part!r}"
    return contains


def lacks(part: str) -> Callable[[Any], bool]:
    """The text does not contain *part*."""
    contains = has(part)

    def is_free(value: Any) -> bool:
        return not contains(value)

    is_free.__doc__ = f"something without {part!r}"
    return is_free


def as_json(document: Any) -> Callable[[Any], bool]:
    """The text is JSON for *wanted*."""

    def is_json(value: Any) -> bool:
        return bool(json.loads(value) == document)

    is_json.__doc__ = f"JSON of {document!r}"
    return is_json


def kinds(*names: str) -> Callable[[Any], bool]:
    """The list's items have these types (or, for messages, roles), in order."""

    def are(value: Any) -> bool:
        return [item.get("type") or item.get("role") for item in value] == list(names)

    are.__doc__ = f"a list of {names}"
    return are
