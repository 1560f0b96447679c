"""
Texts of strangers for the model: results of searches, and what a picture shows.

Claude Code's own notes to the model are tags such as `<system-reminder>`, and chat templates have
tokens such as `<|im_start|>`. Text that imitates them could pass for an instruction.
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
    """Return *text* with another bracket in tags that only the client or a template may write."""
    return _IMITATION.sub(_HARMLESS, text)
