"""Tests of the client tools that the Messages API defines by type."""

from __future__ import annotations

import pytest

from ccproxy.convert.common.client_tools import CLIENT_TOOLS, client_tool
from ccproxy.convert.common.schema import to_parameters


@pytest.mark.parametrize(
    "kind",
    [
        *("bash_20250124", "text_editor_20250124", "text_editor_20250429", "memory_20250818"),
        *("computer_20241022", "computer_20250124", "bash_20300101"),
    ],
)
def test_client_tools(kind):
    assert client_tool(kind) is not None


@pytest.mark.parametrize(
    "kind",
    [
        *("web_search_20250305", "web_fetch_20250910", "code_execution_20250522", "mcp_toolset"),
        *("tool_search_tool_bm25_20251119", "advisor_20260301", "computer_toolset_20260801"),
        *("browser_toolset_20260801", "custom", ""),
    ],
)
def test_other_tools(kind):
    assert client_tool(kind) is None


@pytest.mark.parametrize("kind", CLIENT_TOOLS)
@pytest.mark.parametrize("dialect", ["plain", "no_meta", "bare", "gemini", "kimi"])
def test_client_tools_are_valid_in_every_dialect(kind, dialect):
    _, schema = CLIENT_TOOLS[kind]
    parameters = to_parameters(schema, dialect)
    assert parameters["properties"].keys() == schema["properties"].keys()
    assert parameters["required"] == schema["required"]
