"""Text that no output for people may contain."""

from __future__ import annotations

import re

STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # control characters, but for tabs and the ends of lines
    "|[\u2028\u2029]"  # other ends of lines
    "|[\u200e\u200f\u202a-\u202e\u2066-\u2069\u061c]"  # turned writing direction
    "|[\ufeff\ud800-\udfff]"
)
