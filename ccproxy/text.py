"""
Text for people: suggestions, masked keys, durations, sizes, and safe output.

Pure functions without dependencies inside ccproxy.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable

MASKABLE_LENGTH = 12
"""A shorter secret is hidden completely: four characters would reveal too much of it."""

_LEAST_DOLLARS = 0.0001
_LEAST_WITH_CENTS = 0.1
"""In dollars; smaller amounts are shown with four decimals."""

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(ms|[smhdw]?)")
_SECONDS_PER_UNIT = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
    "": 1.0,
}
# Zero-width joiners are format characters, but harmless and needed by many scripts.
_HARMLESS = {"\t", "\u200c", "\u200d"}


def closest(name: str, candidates: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """
    Return the candidate that *name* is most likely a misspelling of, or None.

    The comparison ignores case. *cutoff* is the minimum similarity, from 0 to 1.
    """
    from difflib import get_close_matches  # only needed for errors; slow to import

    by_lower_case = {candidate.lower(): candidate for candidate in candidates}
    matches = get_close_matches(name.lower(), by_lower_case, n=1, cutoff=cutoff)
    return by_lower_case[matches[0]] if matches else None


def did_you_mean(name: str, candidates: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return ` (did you mean "start"?)`, or an empty string if no candidate is close."""
    match = closest(name, candidates, cutoff=cutoff)
    return f' (did you mean "{match}"?)' if match else ""


def mask_key(secret: str) -> str:
    """Return `…` and the last four characters: the only form in which a secret is ever shown."""
    if len(secret) < MASKABLE_LENGTH:
        return "…"
    # A client's key may contain bytes that are not UTF-8, which neither JSON nor SQLite accepts.
    return "…" + secret[-4:].encode("utf-8", "replace").decode()


def printable(text: str) -> str:
    """
    Return *text* with control and format characters replaced by visible escapes.

    Text from providers, log files and users passes through here before it reaches a terminal, so
    that it cannot move the cursor or change colors.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else _escaped(char) for char in text)


def printable_lines(text: str) -> str:
    """Return *text* as `printable` does, but keep its line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """Return the JSON *text* as `printable` does, with escapes that are valid in JSON."""
    if text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else json.dumps(char)[1:-1] for char in text)


def text_width(text: str) -> int:
    """Return the number of terminal columns that *text* fills."""
    return len(text) if text.isascii() else sum(map(_width_of, text))


def shortened(text: str, width: int) -> str:
    """Return *text* in at most *width* terminal columns, with `…` where it is cut."""
    if text_width(text) <= width:
        return text
    text = text[:width]
    while text and text_width(text) >= width:
        text = text[:-1]
    return f"{text}…"


def parse_duration(text: str) -> float:
    """
    Return the seconds in `15s`, `10m`, `12h`, `3d`, `500ms` or `90` (seconds).

    Raises:
        ValueError: If *text* is not a duration; the message completes "NAME ...".
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f'must be a duration such as 15s, 10m, 12h or 3d, got "{text}"')
    return float(match[1]) * _SECONDS_PER_UNIT[match[2]]


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units: `3d 4h`, `2h 10m`, `41s`."""
    remaining = max(0, int(seconds))
    units = [("d", 86400), ("h", 3600), ("m", 60), ("s", 1)]
    while len(units) > 1 and remaining < units[0][1]:
        units.pop(0)
    counts = []
    for unit, length in units[:2]:
        count, remaining = divmod(remaining, length)
        counts.append(f"{count}{unit}")
    return counts[0] if counts[-1].startswith("0") else " ".join(counts)


def format_size(count: int) -> str:
    """Return *count* bytes as a whole number of the largest suitable unit: `41 MB`."""
    number, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while number >= 999.5 and len(units) > 1:
        number /= 1000
        units.pop(0)
    return f"{number:.0f} {units[0]}"


def format_tokens(count: int) -> str:
    """Return a context window or a token count as vendors write it: `256K`."""
    if count < 1000:
        return str(count)
    if count >= 999_500_000:
        return f"{count / 10**9:,.3g}B"
    unit, name = (10**6, "M") if count >= 999_500 else (1000, "K")
    if count % (unit // 1000 * 1024) == 0 or count % 2**20 == 0:  # 262,144 is 256K
        unit = 2**20 if name == "M" else 1024
    return f"{count / unit:.3g}{name}"


def format_dollars(amount: float | None, *, is_partial: bool = False) -> str:
    """
    Return `$4.98`, `$0.0123` or `<$0.0001`; a dash for None.

    *is_partial* adds a plus: the price of a part is unknown, so the true amount is higher.
    """
    if amount is None:
        return "–"
    if 0 < amount < _LEAST_DOLLARS:
        return f"<${_LEAST_DOLLARS}"
    digits = 2 if amount >= _LEAST_WITH_CENTS or amount == 0 else 4
    return f"${amount:,.{digits}f}{'+' if is_partial else ''}"


def counted(count: int, noun: str) -> str:
    """Return `1 worker` or `3 workers`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _width_of(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0  # it combines with the preceding character
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _is_harmless(char: str) -> bool:
    return char in _HARMLESS or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()
