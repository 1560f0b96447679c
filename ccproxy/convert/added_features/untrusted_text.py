"""
Sanitize untrusted text for the model: search results, and text in pictures.

Claude Code wraps its notes to the model in tags such as `<system-reminder>`, and chat templates use
tokens such as `<|im_start|>`. A model could mistake untrusted text with such tags for instructions.
"""

from __future__ import annotations

import re
from typing import Final

_IMITATION: Final = re.compile(
    r"<(?=/?\s*(?:system|user|human|assistant|tool|function|invoke|antml|task-notification)|[|｜])",
    re.IGNORECASE,
)
_HARMLESS: Final = "‹"


def without_imitations(text: str) -> str:
    """Return *text* with a different opening bracket in tags reserved for clients and templates."""
    return _IMITATION.sub(_HARMLESS, text)
