"""Tests of content blocks and tool results."""

from __future__ import annotations

import base64

import pytest
from msgspec import Raw

from ccproxy.convert.chat.content_parts import content_of, text_part, texts_of
from tests.asking import PDF, PNG, ask, assistant, image, pdf, result, target, text, use, user

SEARCH = {
    "type": "search_result",
    "source": "https://e.x/1",
    "title": "Title",
    "content": [{"type": "text", "text": "body-77"}],
}


def content(*blocks, **quirks):
    return ask(user(*blocks), to=target(**quirks)).messages[0]["content"]


# Images.


@pytest.mark.parametrize(
    ("source", "url"),
    [
        pytest.param(
            {"type": "base64", "media_type": "image/jpeg", "data": PNG},
            f"data:image/jpeg;base64,{PNG}",
            id="base64 becomes a data URL",
        ),
        pytest.param(
            {"type": "url", "url": "https://e.x/a.png"},
            "https://e.x/a.png",
            id="an address stays one",
        ),
    ],
)
def test_images(source, url):
    assert content({"type": "image", "source": source}) == [
        {"type": "image_url", "image_url": {"url": url}}
    ]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param({"type": "base64", "media_type": "image/png", "data": PNG}, id="base64"),
        pytest.param({"type": "url", "url": "https://e.x/a.png"}, id="url"),
    ],
)
def test_an_image_becomes_a_note_for_models_without_vision(source):
    outcome = ask(user({"type": "image", "source": source}), to=target(images=False))
    assert outcome.messages[0]["content"] == "[image omitted: this model does not accept images]"
    assert outcome.converted.dropped == ("messages.image",)


def test_an_image_in_a_result_becomes_a_note_for_models_without_vision():
    outcome = ask(
        user("a"),
        assistant(use("t")),
        user(result("t", [text("shot:"), image()])),
        to=target(images=False),
    )
    assert outcome.roles == "user assistant tool"
    assert outcome.messages[2]["content"] == (
        "shot:\n[image omitted: this model does not accept images]"
    )


@pytest.mark.parametrize("kind", ["image", "document"])
def test_an_uploaded_file_is_a_note(kind):
    block = {"type": kind, "source": {"type": "file", "file_id": "file_7"}}
    assert content(block) == f"[{kind} file_7: uploaded files are not sent]"


@pytest.mark.parametrize("kind", ["image", "document"])
def test_a_source_of_an_unknown_type_is_left_out(kind):
    block = {"type": kind, "source": {"type": "telepathy"}}
    outcome = ask(user("a", block))
    assert outcome.messages[0]["content"] == "a"
    assert outcome.converted.dropped == (f"messages.{kind}",)


# PDF documents.


@pytest.mark.parametrize(
    ("form", "block", "parts"),
    [
        pytest.param(
            "file",
            pdf(title="spec.pdf"),
            [
                {
                    "type": "file",
                    "file": {
                        "filename": "spec.pdf",
                        "file_data": f"data:application/pdf;base64,{PDF}",
                    },
                }
            ],
            id="a file part",
        ),
        pytest.param(
            "file",
            pdf(),
            [
                {
                    "type": "file",
                    "file": {
                        "filename": "document.pdf",
                        "file_data": f"data:application/pdf;base64,{PDF}",
                    },
                }
            ],
            id="a file always has a name",
        ),
        pytest.param(
            "document_url",
            pdf(title="T"),
            [
                {
                    "type": "document_url",
                    "document_url": f"data:application/pdf;base64,{PDF}",
                    "document_name": "T",
                }
            ],
            id="a document_url",
        ),
        pytest.param(
            "document_url",
            {"type": "document", "source": {"type": "url", "url": "https://e.x/a.pdf"}},
            [{"type": "document_url", "document_url": "https://e.x/a.pdf"}],
            id="an address as document_url",
        ),
        pytest.param(
            "file",
            {"type": "document", "source": {"type": "url", "url": "https://e.x/a.pdf"}},
            "[document: https://e.x/a.pdf]",
            id="an address where files must be sent whole",
        ),
        pytest.param(
            "text",
            pdf(title="spec.pdf"),
            "[spec.pdf: this provider does not accept PDF files]",
            id="a note",
        ),
        pytest.param(
            "text",
            pdf(),
            "[document: this provider does not accept PDF files]",
            id="a note without a title",
        ),
        pytest.param(
            "file",
            pdf(context="About trees"),
            [
                {"type": "text", "text": "About trees"},
                {
                    "type": "file",
                    "file": {
                        "filename": "document.pdf",
                        "file_data": f"data:application/pdf;base64,{PDF}",
                    },
                },
            ],
            id="context is text before it",
        ),
    ],
)
def test_pdf(form, block, parts):
    assert content(block, pdf=form) == parts


def test_an_unsupported_pdf_is_recorded_as_dropped():
    assert ask(user(pdf())).converted.dropped == ("messages.document",)


@pytest.mark.parametrize(
    ("form", "part"),
    [
        pytest.param("file", "file", id="file"),
        pytest.param("document_url", "document_url", id="document_url"),
    ],
)
def test_a_pdf_in_a_result_follows_it(form, part):
    outcome = ask(
        user("a"),
        assistant(use("t")),
        user(result("t", [text("read:"), pdf()])),
        to=target(pdf=form),
    )
    assert outcome.roles == "user assistant tool user"
    assert outcome.messages[2]["content"] == "read:\n[document follows]"
    assert outcome.messages[3]["content"][0]["type"] == part


# Text documents.


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        pytest.param(
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "body"},
            },
            "body",
            id="plain text",
        ),
        pytest.param(
            {
                "type": "document",
                "title": "Title",
                "context": "Context",
                "source": {"type": "text", "media_type": "text/plain", "data": "body"},
            },
            "Title\nContext\nbody",
            id="with title and context",
        ),
        pytest.param(
            {"type": "document", "title": None, "source": {"type": "text", "data": "body"}},
            "body",
            id="with a title of null",
        ),
        pytest.param(
            {"type": "document", "source": {"type": "content", "content": "body"}},
            "body",
            id="content that is a string",
        ),
        pytest.param(
            {
                "type": "document",
                "title": "T",
                "source": {"type": "content", "content": [text("a"), text("b")]},
            },
            "T\na\nb",
            id="content of blocks",
        ),
        pytest.param(
            {
                "type": "document",
                "source": {
                    "type": "base64",
                    "media_type": "text/plain",
                    "data": base64.b64encode("grün".encode()).decode(),
                },
            },
            "grün",
            id="text in base64",
        ),
        pytest.param(
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/zip", "data": "/////w=="},
            },
            "[document omitted: application/zip is not text]",
            id="base64 that is not text",
        ),
        pytest.param(
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "text/plain", "data": "?"},
            },
            "[document omitted: text/plain is not text]",
            id="invalid base64",
        ),
        pytest.param(SEARCH, "Title\nhttps://e.x/1\nbody-77", id="a search result"),
    ],
)
def test_text_documents(block, expected):
    assert content(block) == expected


def test_an_image_in_a_document_follows_its_text():
    block = {"type": "document", "source": {"type": "content", "content": [text("a"), image()]}}
    assert [part["type"] for part in content(block)] == ["text", "image_url"]


def test_a_document_of_an_image_alone_is_the_image():
    block = {"type": "document", "source": {"type": "content", "content": [image()]}}
    assert [part["type"] for part in content(block)] == ["image_url"]


# Results of tool search and server tools.


def test_a_tool_reference_contains_the_sent_name():
    reference = {"type": "tool_reference", "tool_name": "mcp__" + "x" * 80}
    outcome = ask(
        user("a"), assistant(use("t", "ToolSearch")), user(result("t", [reference]), "Tool loaded.")
    )
    (outgoing,) = outcome.converted.tool_names
    assert outcome.messages[2]["content"] == f"Tool {outgoing} is now available."
    assert outcome.messages[3]["content"] == "Tool loaded."


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        pytest.param(
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
            '[used web_search: {"query":"q"}]',
            id="a server tool's call",
        ),
        pytest.param(
            {"type": "mcp_tool_use", "id": "s1", "name": "echo", "server_name": "x"},
            "[used echo]",
            id="an MCP call without input",
        ),
        pytest.param(
            {
                "type": "web_search_tool_result",
                "tool_use_id": "s1",
                "content": [
                    {
                        "type": "web_search_result",
                        "title": "T",
                        "url": "https://e.x",
                        "encrypted_content": "SECRET",
                    }
                ],
            },
            "T\nhttps://e.x",
            id="search results without Anthropic's own fields",
        ),
        pytest.param(
            {
                "type": "web_search_tool_result",
                "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"},
            },
            "unavailable",
            id="an error",
        ),
        pytest.param(
            {
                "type": "code_execution_tool_result",
                "content": {"stdout": "out", "stderr": "", "return_code": 0, "content": []},
            },
            "out",
            id="written by a program",
        ),
        pytest.param(
            {
                "type": "web_fetch_tool_result",
                "content": {
                    "url": "https://e.x",
                    "content": {
                        "type": "document",
                        "source": {"type": "text", "media_type": "text/plain", "data": "page"},
                    },
                },
            },
            "https://e.x\npage",
            id="a fetched page",
        ),
        pytest.param(
            {
                "type": "bash_code_execution_tool_result",
                "content": {"stdout": "out", "content": ["bare", 7, None, {"stderr": "err"}]},
            },
            "out\nerr",
            id="text without a name is not known to be readable",
        ),
        pytest.param(
            {"type": "mcp_tool_result", "content": "said"}, "said", id="an MCP result as a string"
        ),
        pytest.param(
            {"type": "mcp_tool_result", "content": [{"type": "text", "text": "said"}]},
            "said",
            id="an MCP result as blocks",
        ),
        pytest.param(
            {
                "type": "tool_search_tool_result",
                "content": {"tool_references": [{"type": "tool_reference", "tool_name": "f"}]},
            },
            "f",
            id="tools that were found",
        ),
        pytest.param(
            {"type": "compaction", "content": "summary", "signature": "x"},
            "summary",
            id="a compaction",
        ),
    ],
)
def test_texts_of_server_blocks_are_kept(block, expected):
    outcome = ask(user("a"), assistant(block, "and so"), user("b"))
    assert outcome.messages[1]["content"] == f"{expected}\n\nand so"


@pytest.mark.parametrize(
    "block",
    [
        pytest.param({"type": "redacted_thinking", "data": "x"}, id="redacted thinking"),
        pytest.param({"type": "container_upload", "file_id": "f"}, id="an upload"),
        pytest.param({"type": "fallback"}, id="a fallback"),
        pytest.param({"type": "next_years_block", "id": 5, "content": 7}, id="an unknown type"),
        pytest.param({"type": "mcp_tool_result", "content": ""}, id="an empty result"),
        pytest.param({"type": "mcp_tool_result"}, id="a result without content"),
        pytest.param({"type": "mcp_tool_result", "content": None}, id="a result of null"),
        pytest.param({"type": "web_search_tool_result", "content": []}, id="no search results"),
        pytest.param({"type": "compaction", "encrypted_content": "x"}, id="a sealed compaction"),
    ],
)
def test_blocks_without_text_are_recorded_as_dropped(block):
    outcome = ask(user("a"), assistant("b", block), user("c"))
    assert outcome.messages[1]["content"] == "b"
    assert outcome.converted.dropped == (f"messages.{block['type']}",)


def test_base64_of_a_fetched_pdf_never_gets_into_text():
    fetched = {
        "type": "web_fetch_tool_result",
        "content": {"url": "https://e.x", "content": pdf(title="T")},
    }
    outcome = ask(user("a"), assistant(fetched), user("b"))
    assert outcome.messages[1]["content"] == "https://e.x\nT"


# Conversion of parts to content.


@pytest.mark.parametrize(
    ("parts", "flat", "expected"),
    [
        pytest.param([], False, Raw(b'""'), id="nothing is an empty string"),
        pytest.param([text_part(Raw(b'"a"'))], False, Raw(b'"a"'), id="one text is a string"),
        pytest.param(
            [text_part(Raw(b'"a"')), text_part(Raw(b'"b"'))],
            True,
            Raw(b'"a\\n\\nb"'),
            id="flat texts are joined",
        ),
    ],
)
def test_content_of(parts, flat, expected):
    assert content_of(parts, flat=flat) == expected


def test_a_cache_mark_keeps_the_part():
    part = {"type": "text", "text": Raw(b'"a"'), "cache_control": Raw(b"{}")}
    assert content_of([part], flat=False) == [part]


@pytest.mark.parametrize(
    ("expected", "texts"),
    [
        pytest.param(Raw(b'"a"'), [Raw(b'"a"')], id="a string"),
        pytest.param([text_part(Raw(b'"a"'))], [Raw(b'"a"')], id="text parts"),
        pytest.param([{"type": "image_url", "image_url": {}}], None, id="an image is not text"),
        pytest.param(None, None, id="null is not text"),
    ],
)
def test_texts_of(expected, texts):
    assert texts_of(expected) == texts


def answer(block, **quirks):
    return ask(user("a"), assistant(use("t")), user(block), to=target(**quirks)).messages[2]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param("text", "text", id="a string"),
        pytest.param([text("text")], "text", id="a block"),
        pytest.param([text("a"), text("b")], "a\nb", id="several blocks are lines"),
        pytest.param("", "(no output)", id="an empty string"),
        pytest.param([], "(no output)", id="no blocks"),
        pytest.param([text("")], "(no output)", id="an empty block"),
        pytest.param(None, "(no output)", id="null"),
        pytest.param([{"type": "unheard_of"}], "(no output)", id="only an unknown block"),
        pytest.param([image()], "[image follows]", id="only an image"),
        pytest.param(
            [image(), text("a"), image()], "[image follows]\na\n[image follows]", id="mix"
        ),
        pytest.param('"quoted" \\ back\nslash', '"quoted" \\ back\nslash', id="escapes"),
    ],
)
def test_text(settings, expected):
    assert answer(result("t", settings))["content"] == expected


def test_content_may_be_missing():
    block = result("t")
    del block["content"]
    assert answer(block)["content"] == "(no output)"


@pytest.mark.parametrize(
    ("is_error", "content", "expected"),
    [
        pytest.param(True, "exit 2", "Error: exit 2", id="true"),
        pytest.param(False, "fine", "fine", id="false"),
        pytest.param(None, "fine", "fine", id="null"),
        pytest.param(True, "", "Error: (no output)", id="an error without words"),
        pytest.param(True, [text("a"), text("b")], "Error: a\nb", id="an error of blocks"),
    ],
)
def test_errors_are_visible(is_error, content, expected):
    assert answer(result("t", content, is_error=is_error))["content"] == expected


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(("type", "tool_use_id", "content", "is_error"), id="usual"),
        pytest.param(("is_error", "content", "tool_use_id", "type"), id="backwards"),
    ],
)
def test_the_order_of_keys_does_not_matter(order):
    block = result("t", "x", is_error=True)
    assert answer({key: block[key] for key in order})["content"] == "Error: x"


def test_an_orphaned_error_is_visible():
    outcome = ask(user(result("gone", "x", is_error=True)))
    assert outcome.messages[0]["content"] == "[result of an earlier tool call]\nError: x"
