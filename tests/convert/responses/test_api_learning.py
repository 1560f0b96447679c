"""Refusals that mean that a model needs another API."""

from __future__ import annotations

import pytest

from ccproxy.convert.responses.learning import other_api
from ccproxy.errors import Problem, ProviderRefusal

ONLY_RESPONSES = "This model is only supported in v1/responses and not in v1/chat/completions."


@pytest.mark.parametrize(
    ("api", "status", "text", "codes", "other"),
    [
        pytest.param("chat", 404, ONLY_RESPONSES, (), "responses", id="named in the text"),
        pytest.param("chat", 400, "no", ("unsupported_api_for_model",), "responses", id="a code"),
        pytest.param("chat", 404, "Not found", (), None, id="chat is unknown: nothing is better"),
        pytest.param("chat", 429, ONLY_RESPONSES, (), None, id="another status"),
        pytest.param("responses", 404, "Not Found", (), "chat", id="an unknown path"),
        pytest.param("responses", 405, "Method Not Allowed", (), "chat", id="a method"),
        pytest.param("responses", 404, "The model x does not exist", (), None, id="a model"),
        pytest.param("responses", 400, "Bad request", (), None, id="a bad request"),
        pytest.param("messages", 404, "Not Found", (), None, id="direct mode has one API"),
    ],
)
def test_the_api_is_derived_from_a_refusal(api, status, text, codes, other):
    refusal = ProviderRefusal(status=status, text=text, codes=frozenset(codes), parameter="")
    assert other_api(Problem("api_error", text, refusal=refusal), api) == other


def test_a_problem_without_a_refusal_implies_no_api():
    assert other_api(Problem("api_error", "broken"), "chat") is None
