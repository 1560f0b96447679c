"""
Log lines as a person reads them.

Nothing a provider or a log file says may steer the terminal: `clean` comes between.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from datetime import datetime

# Zero-width joiners and marks are format characters too, but no danger and part of many scripts.
_HARMLESS = {"\t", "\u200c", "\u200d"}
_COLORS = {"debug": "90", "warning": "33", "error": "31", "critical": "31"}
_HEAD = ("time", "level", "event")


def clean(text: str) -> str:
    """Return *text* with everything that could steer a terminal made visible as an escape."""
    if text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else _escaped(char) for char in text)


def for_people(
    fields: Mapping[str, object], *, at: float, source: str = "", color: bool = True
) -> str:
    """
    Return `09:14:02 INFO     kimi  request.finished status=200 …`.

    *at* is when it was written, in seconds since the epoch; *source*, if given, is whose line it
    is. Colours are ANSI sequences.
    """
    level = str(fields.get("level", "info"))
    moment = datetime.fromtimestamp(at)  # in the reader's own time
    today = moment.date() == datetime.now().date()
    stamp = moment.strftime("%H:%M:%S" if today else "%m-%d %H:%M:%S")
    word, event = f"{clean(level.upper()):<8}", clean(str(fields["event"]))
    if color:
        code = _COLORS.get(level)
        word = f"\x1b[{code}m{word}\x1b[0m" if code else word
        event = f"\x1b[1m{event}\x1b[0m"
    whose = f"{clean(source)}  " if source else ""
    rest = [f"{clean(key)}={_value(value)}" for key, value in fields.items() if key not in _HEAD]
    return f"{stamp} {word} {whose}{' '.join([event, *rest])}"


def _value(value: object) -> str:
    if isinstance(value, str) and value and not set(value) & set(' "=\\\n'):
        return clean(value)
    return clean(json.dumps(value, ensure_ascii=False))


def _is_harmless(char: str) -> bool:
    return char in _HARMLESS or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()
