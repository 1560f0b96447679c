"""
One case: a request to a running proxy, the provider's answers, and the expected results.

Cases are plain values, listed in `requests.py`, `answers.py`, `streams.py` and `failures.py`, and
played over real HTTP by `test_cases.py`. Expectations are written by path: `messages.1.role`
steps into objects by name and into lists by number, which counts from the end if negative; the
empty path is the whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.provider import Script, completion

ABSENT = object()
"""The expected value of a field that must be absent."""

Expected = Mapping[str, Any]
"""By path: the expected value, `ABSENT`, or a function that must return true for the value."""

PLAIN = "plain"
"""The provider for cases that apply to any OpenAI-compatible server."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """
    One case.

    Attributes:
        rule: The tested rule, as a sentence; the test's name.
        provider: The preset of the simulated provider, or `PLAIN`.
        model: The requested model, which reaches the provider unchanged.
        request: Fields of the Messages request, in addition to model, max_tokens and a "hello".
        answers: The provider's answers; a plain "ok" by default.
        provider_body: The expected body of the (last) request to the provider.
        message: The expected message for the client, assembled if it was streamed.
        error: The expected error for the client, with its `status`.
        ways: Whether the case is run whole, streamed, or (the default) both.
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
    """Return the value at *path* in *content*, or `ABSENT`."""
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


# Functions for expectations.


def has(part: str) -> Callable[[Any], bool]:
    """Return a check that the text contains *part*."""

    def contains(value: Any) -> bool:
        return part in (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))

    contains.__doc__ = f"something that contains {part!r}"
    return contains


def lacks(part: str) -> Callable[[Any], bool]:
    """Return a check that the text does not contain *part*."""
    contains = has(part)

    def is_free(value: Any) -> bool:
        return not contains(value)

    is_free.__doc__ = f"something without {part!r}"
    return is_free


def as_json(document: Any) -> Callable[[Any], bool]:
    """Return a check that the text is JSON with the given value."""

    def is_json(value: Any) -> bool:
        return bool(json.loads(value) == document)

    is_json.__doc__ = f"JSON of {document!r}"
    return is_json


def kinds(*names: str) -> Callable[[Any], bool]:
    """Return a check for the types (or, for messages, roles) of a list's items, in order."""

    def are(value: Any) -> bool:
        return [item.get("type") or item.get("role") for item in value] == list(names)

    are.__doc__ = f"a list of {names}"
    return are
