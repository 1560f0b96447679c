"""Lengths of time as they are typed: `15s`, `10m`, `12h`, `3d`, or plain seconds."""

from __future__ import annotations

import re

import click

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "": 1.0}
_FORM = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(ms|[smhdw]?)")


class Span(click.ParamType[float]):
    """Turns `10m` into 600.0 seconds."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds of *value*."""
        found = _FORM.fullmatch(str(value).strip().lower())
        if found is None:
            self.fail(f'"{value}" is not a length of time such as 15s, 10m, 12h or 3d', param, ctx)
        return float(found[1]) * _SECONDS[found[2]]


SPAN = Span()
