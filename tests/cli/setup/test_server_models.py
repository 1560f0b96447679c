"""Listing the models of a server: an invalid or missing answer is an empty list."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from ccproxy.cli.setup.server_models import (
    ServerModel,
    find_api,
    list_models,
    server_window,
)
from tests.ports import free_port

TWO = json.dumps({"object": "list", "data": [{"id": "a"}, {"id": "b"}]})


@pytest.fixture
def server():
    """A server with a given answer, which records the requests and their keys."""

    class Handler(BaseHTTPRequestHandler):
        status, body, location, props = 200, TWO, "", ""
        url = ""
        posts: ClassVar[dict[str, int]] = {}
        requests: ClassVar[list[tuple[str, str | None]]] = []

        def do_GET(self):
            self.requests.append((self.path, self.headers.get("authorization")))
            is_props = self.path == "/props"
            self.send_response(self.status if self.props or not is_props else 404)
            if self.location:
                self.send_header("location", self.location)
            self.end_headers()
            self.wfile.write((self.props if is_props else self.body).encode())

        def do_POST(self):
            self.send_response(self.posts.get(self.path, 404))
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.01,))
        thread.start()
        Handler.url = f"http://127.0.0.1:{one.server_port}"
        yield Handler
        one.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/chat/completions"])
def test_models_have_the_names_in_the_list(path, server):
    assert list_models(server.url + path, ["sk-1", "sk-2"]) == [
        ServerModel("a", None),
        ServerModel("b", None),
    ]
    assert server.requests == [("/v1/models", "Bearer sk-1")]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(404, TWO, id="a server without the list"),
        pytest.param(200, "<html>", id="a page"),
        pytest.param(200, "[]", id="another list"),
        pytest.param(200, '{"data": [{}]}', id="models without names"),
        pytest.param(200, '{"data": null}', id="nothing"),
        pytest.param(200, "[" * 100_000, id="a trap"),
    ],
)
def test_an_invalid_answer_is_an_empty_list(status, body, server):
    server.status, server.body = status, body
    assert list_models(server.url, []) == []
    assert server.requests == [("/models", None)]


def test_a_redirect_is_not_followed(server):
    server.status, server.location = 302, f"{server.url}/elsewhere"
    assert list_models(f"{server.url}/v1", ["sk-1"]) == []
    assert [path for path, _ in server.requests] == ["/v1/models"]


def test_a_missing_server_is_an_empty_list():
    assert list_models(f"http://127.0.0.1:{free_port()}/v1", []) == []


@pytest.mark.parametrize(
    ("row", "props", "window"),
    [
        pytest.param({}, "", None, id="not reported"),
        pytest.param({"max_model_len": 32768}, "", 32768, id="vLLM"),
        pytest.param({"max_input_tokens": 128000}, "", 128000, id="LiteLLM"),
        pytest.param({"model_info": {"max_input_tokens": 9}}, "", 9, id="LiteLLM, more details"),
        pytest.param({"context_length": 131072}, "", 131072, id="OpenRouter"),
        pytest.param({"meta": {"n_ctx_train": 8192}}, "", 8192, id="llama.cpp"),
        pytest.param(
            {"meta": {"n_ctx_train": 8192}},
            '{"default_generation_settings": {"n_ctx": 4096}}',
            4096,
            id="llama.cpp started with a smaller window",
        ),
        pytest.param(
            {"meta": {"n_ctx_train": 8192}},
            '{"default_generation_settings": {"n_ctx": "4096"}}',
            8192,
            id="broken properties",
        ),
        pytest.param({"max_model_len": "many", "context_length": 0}, "", None, id="no numbers"),
        pytest.param({"max_model_len": True, "meta": []}, "", None, id="other types"),
    ],
)
def test_the_window_that_a_server_reports(row, props, window, server):
    server.body, server.props = json.dumps({"data": [{"id": "other"}, {"id": "m", **row}]}), props
    assert server_window(f"{server.url}/v1", ["sk-1"], "m") == window
    assert server_window(f"{server.url}/v1", ["sk-1"], "other") is None
    assert server_window(f"{server.url}/v1", ["sk-1"], "nonesuch") is None


@pytest.mark.parametrize(
    ("posts", "api"),
    [
        pytest.param({}, "", id="no API"),
        pytest.param({"/v1/responses": 400}, "responses", id="Responses"),
        pytest.param({"/v1/messages": 401}, "messages", id="Messages"),
        pytest.param({"/v1/responses": 405, "/v1/messages": 200}, "messages", id="not allowed"),
        pytest.param({"/v1/responses": 500, "/v1/messages": 400}, "responses", id="both"),
    ],
)
def test_the_api_of_a_server_is_found(posts, api, server):
    server.posts = posts
    assert find_api(f"{server.url}/v1", ["sk-1"]) == api


def test_a_missing_server_has_no_api():
    assert find_api(f"http://127.0.0.1:{free_port()}/v1", []) == ""
