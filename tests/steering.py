"""Characters that no output for people may contain."""

from __future__ import annotations

import re

STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # control characters except tabs and line ends
    "|[\u2028\u2029]"  # other line ends
    "|[\u200e\u200f\u202a-\u202e\u2066-\u2069\u061c]"  # bidirectional controls
    "|[\ufeff\ud800-\udfff]"
)
