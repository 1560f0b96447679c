"""
`ccproxy-statusline`, which Claude Code runs after each answer and every few seconds.

Claude Code passes one JSON object on stdin and the session's environment. It hides the line if the
exit code is not 0 or nothing is printed, so every error becomes a line and the exit code is 0.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ccproxy.statusline.entry_state import request_line
from ccproxy.statusline.line_text import ClientFacts, no_answer_line, session_lines, status_line
from ccproxy.statusline.session_view import view_session

MAX_INPUT = 2**20
WRAPPED_SECONDS = 4.0
"""Time limit for the user's own command; Claude Code refreshes the line every 5 s."""
OPTIONS = ("--home", "--label", "--wrap")
LINES = "--lines"
"""Print one fact per line, for a pane."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the line and exit with 0."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        sys.stdout.write(output(words, _stdin(), os.environ))
        sys.stdout.flush()
    except Exception as error:  # noqa: BLE001 - Claude Code shows nothing of a failed command
        sys.stdout.write(f"ccproxy: no status: {type(error).__name__}: {error}\n")


def output(arguments: Sequence[str], data: bytes, environ: Mapping[str, str]) -> str:
    """Return the lines to print for the JSON object in *data*."""
    options = _options(arguments)
    wrapped = _WrappedCommand(options.get("--wrap", ""), data)
    facts = _facts(data)
    label = options.get("--label", "") or environ.get("CCPROXY_ACTIVE", "")
    request = request_line(facts.session_id, facts.model)
    home = options.get("--home")
    view = None
    if home is not None:
        port = _port(environ.get("ANTHROPIC_BASE_URL", ""))
        view = view_session(home, request, label=label, port=port)
    columns = _columns(environ)
    if view is None:
        lines = [no_answer_line(label, columns=columns)] if label else []
    elif LINES in arguments:
        lines = session_lines(view, facts)
    else:
        lines = [status_line(view, facts, columns=columns, color=not environ.get("NO_COLOR"))]
    return "".join(f"{line}\n" for line in [*wrapped.lines(), *lines])


class _WrappedCommand:
    """The command of the user's own status line, which runs while the workers are queried."""

    def __init__(self, command: str, data: bytes) -> None:
        self._process = None
        if not command:
            return
        import subprocess  # slow to import, and rarely needed

        self._data = data
        self._process = subprocess.Popen(  # noqa: S603 - the user's own command
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def lines(self) -> list[str]:
        """Return the output of the command; empty if it failed or took too long."""
        if self._process is None:
            return []
        import signal
        import subprocess

        try:
            out, _ = self._process.communicate(self._data, timeout=WRAPPED_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            return []
        return out.decode("utf-8", "replace").splitlines() if not self._process.returncode else []


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """Return the known options with their values; options added by later versions are ignored."""
    words = iter(arguments)
    return {argument: next(words, "") for argument in words if argument in OPTIONS}


def _stdin() -> bytes:
    return b"" if sys.stdin.isatty() else sys.stdin.buffer.read(MAX_INPUT)


def _facts(data: bytes) -> ClientFacts:
    """Parse Claude Code's JSON; fields that are missing or have the wrong type are left out."""
    try:
        document = json.loads(data)
    except ValueError:
        return ClientFacts()
    session, model = _field(document, "session_id"), _field(document, "model", "id")
    context = _field(document, "context_window")
    usage = _field(context, "current_usage")
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    tokens = [_field(usage, name) for name in names]
    return ClientFacts(
        session_id=session if isinstance(session, str) else "",
        model=model.removesuffix("[1m]") if isinstance(model, str) else "",
        tokens=sum(count for count in tokens if isinstance(count, int)) if context else None,
    )


def _field(document: object, *path: str) -> Any:  # noqa: ANN401 - any JSON value
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _port(url: str) -> int | None:
    tail = url.rstrip("/").removesuffix("/v1").rpartition(":")[2]
    return int(tail) if tail.isascii() and tail.isdigit() and len(tail) < 6 else None


def _columns(environ: Mapping[str, str]) -> int:
    text = environ.get("COLUMNS", "")
    # Claude Code keeps two columns free on each side of the line, and cuts longer lines.
    return max(20, int(text) - 4) if text.isascii() and text.isdigit() and len(text) < 6 else 120


if __name__ == "__main__":
    main()
