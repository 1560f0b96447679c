"""Errors in OpenAI's format."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.openai_clients.openai_errors import openai_error, stream_error
from ccproxy.errors import Problem

LOST = "Previous response with id 'resp_1' not found. Send everything"


@pytest.mark.parametrize(
    ("kind", "text", "code", "stream_code"),
    [
        ("invalid_request_error", "bad", None, "invalid_prompt"),
        ("invalid_request_error", "prompt is too long: 2 > 1", *["context_length_exceeded"] * 2),
        ("authentication_error", "bad key", "invalid_api_key", "invalid_prompt"),
        ("billing_error", "no money", "insufficient_quota", "insufficient_quota"),
        ("rate_limit_error", "slow", "rate_limit_exceeded", "rate_limit_exceeded"),
        ("overloaded_error", "busy", "server_is_overloaded", "server_error"),
        ("api_error", "broken", "server_error", "server_error"),
        ("not_found_error", "no model", "model_not_found", "invalid_prompt"),
    ],
)
def test_codes(kind, text, code, stream_code):
    problem = Problem(kind, text)
    error = json.loads(openai_error(problem, "req_1"))
    assert error["error"] == {"message": text, "type": kind, "param": None, "code": code}
    assert error["request_id"] == "req_1"
    assert stream_error(problem) == {"code": stream_code, "message": text}


def test_a_lost_response_has_the_code_after_which_clients_send_everything():
    error = json.loads(openai_error(Problem("invalid_request_error", LOST), "req_1"))["error"]
    assert error["code"] == "previous_response_not_found"
    assert error["param"] == "previous_response_id"


def test_the_text_of_a_rate_limit_names_the_time():
    problem = Problem("rate_limit_error", "slow.", retry_after=3)
    assert stream_error(problem)["message"] == "slow. Please try again in 3s."
