"""Headers that depend on the content of a request (GitHub Copilot)."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.content_headers import direct_headers
from ccproxy.errors import Problem
from ccproxy.providers.quirks import Quirks
from tests.asking import assistant, image, request, result, system, text, use, user

COPILOT = Quirks(vision_header="Vision", initiator_header="Initiator", session_header="Session")
PICTURE = [user(text("see"), image())]
CALL = [user("go"), assistant(use("t1"))]


def headers(*messages, quirks=COPILOT, **fields):
    return direct_headers(json.dumps(request(*messages, **fields)).encode(), quirks)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([user("hi")], {"Initiator": "user"}, id="the user's own text"),
        pytest.param([*CALL, user(result("t1"))], {"Initiator": "agent"}, id="a tool's result"),
        pytest.param([user("a"), assistant(text("b"))], {"Initiator": "agent"}, id="a beginning"),
        pytest.param(PICTURE, {"Initiator": "user", "Vision": "true"}, id="an image"),
    ],
)
def test_the_content_decides(messages, expected):
    assert headers(*messages) == expected


def test_a_session_is_a_hash_of_the_users_id():
    (first, again, other) = (
        headers(user("hi"), metadata={"user_id": name})["Session"] for name in ("u1", "u1", "u2")
    )
    assert first == again != other
    assert "u1" not in first


def test_without_such_headers_the_body_is_not_parsed():
    assert direct_headers(b"{", Quirks()) == {}
    with pytest.raises(Problem):
        direct_headers(b"{", COPILOT)


def test_without_a_message_of_the_user_it_is_not_the_users_turn():
    assert headers(system("x"))["Initiator"] == "agent"
