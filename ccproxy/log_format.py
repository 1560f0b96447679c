"""Formats log records as lines for people; the files themselves hold JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from ccproxy.text import printable

_COLORS = {"debug": "90", "warning": "33", "error": "31", "critical": "31"}
_HEAD = ("time", "level", "event")


def format_record(
    record: Mapping[str, object], *, at: float, source: str = "", color: bool = True
) -> str:
    """
    Return `09:14:02 INFO     kimi  request.finished status=200 …`.

    *at* is the time of the record in seconds since the epoch and is shown in local time. *source*
    is the label of the process that wrote it, omitted if empty. Colors are ANSI sequences.
    """
    level = str(record.get("level", "info"))
    moment = datetime.fromtimestamp(at)
    today = moment.date() == datetime.now().date()
    stamp = moment.strftime("%H:%M:%S" if today else "%m-%d %H:%M:%S")
    name, event = f"{printable(level.upper()):<8}", printable(str(record["event"]))
    if color:
        code = _COLORS.get(level)
        name = f"\x1b[{code}m{name}\x1b[0m" if code else name
        event = f"\x1b[1m{event}\x1b[0m"
    label = f"{printable(source)}  " if source else ""
    rest = [
        f"{printable(key)}={_format_value(value)}"
        for key, value in record.items()
        if key not in _HEAD
    ]
    return f"{stamp} {name} {label}{' '.join([event, *rest])}"


def _format_value(value: object) -> str:
    if isinstance(value, str) and value and not set(value) & set(' "=\\\n'):
        return printable(value)
    return printable(json.dumps(value, ensure_ascii=False))
