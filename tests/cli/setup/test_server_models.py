"""Listing the models of a server: a wrong or missing answer is an empty list."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from ccproxy.cli.setup.server_models import list_models
from tests.ports import free_port

TWO = json.dumps({"object": "list", "data": [{"id": "a"}, {"id": "b"}]})


@pytest.fixture
def server():
    """A server that gives the answer it was made with; it remembers who requests for what."""

    class Handler(BaseHTTPRequestHandler):
        status, body, location = 200, TWO, ""
        url = ""
        requests: ClassVar[list[tuple[str, str | None]]] = []

        def do_GET(self):
            self.requests.append((self.path, self.headers.get("authorization")))
            self.send_response(self.status)
            if self.location:
                self.send_header("location", self.location)
            self.end_headers()
            self.wfile.write(self.body.encode())

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
def test_the_names_are_those_of_the_list(path, server):
    assert list_models(server.url + path, ["sk-1", "sk-2"]) == ["a", "b"]
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
def test_a_wrong_answer_is_an_empty_list(status, body, server):
    server.status, server.body = status, body
    assert list_models(server.url, []) == []
    assert server.requests == [("/models", None)]


def test_a_redirect_is_not_followed(server):
    server.status, server.location = 302, f"{server.url}/elsewhere"
    assert list_models(f"{server.url}/v1", ["sk-1"]) == []
    assert [path for path, _ in server.requests] == ["/v1/models"]


def test_no_server_is_an_empty_list():
    assert list_models(f"http://127.0.0.1:{free_port()}/v1", []) == []
