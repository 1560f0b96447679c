"""
Headers and strings by which Claude Code's requests are recognized.

The class and the agent type are sent only with CLAUDE_CODE_GATEWAY_HINT_HEADERS=1, which
`ccproxy env` and `ccproxy run` set. Names and values are those of Claude Code 2.1.329.
"""

from __future__ import annotations

SESSION_HEADER = "x-claude-code-session-id"
"""Constant from the start of a session to the next /clear, across compactions and subagents."""
CLASS_HEADER = "x-claude-code-request-class"
"""Values: main, subagent, workflow, compaction, auxiliary or side_reply."""
AGENT_TYPE_HEADER = "x-claude-code-agent-type"
AGENT_ID_HEADER = "x-claude-code-agent-id"

COMPACTION_PROMPT = b"CRITICAL: Respond with TEXT ONLY"
"""The beginning of the last message of a compaction."""
BILLING_LINE = b"x-anthropic-billing-header"
"""The beginning of a system prompt block that may change with every request."""
