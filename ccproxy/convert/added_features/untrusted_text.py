"""
Untrusted text for the model: results of searches, and text in pictures.

Claude Code writes its notes to the model in tags such as `<system-reminder>`, and chat templates
use tokens such as `<|im_start|>`. Untrusted text that contains them could pass for an instruction.
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
