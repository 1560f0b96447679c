"""
The live view with Textual.

It shows the snapshots of a `SnapshotSource` and runs ccproxy commands for the keys that control the
fleet. Textual respects NO_COLOR, and all states are words, so no color is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from ccproxy.cli.render.request_lines import timeline_lines
from ccproxy.cli.render.table import Column, shortened
from ccproxy.cli.top.fleet_view import Snapshot, SnapshotSource
from ccproxy.cli.top.view_text import (
    ENTRY_COLUMNS,
    NARROW_HIDES,
    REQUEST_COLUMNS,
    entry_cells,
    key_sentence,
    request_cells_of_view,
    requests_of,
    summary,
    troubles_of,
)
from ccproxy.ipc.activity import RequestTimeline
from ccproxy.supervisor.control.status import Row
from ccproxy.text import counted, printable, printable_lines

LOG_LINES = "200"
MAX_ROWS = 100
"""The maximum number of requests in the table."""
WIDE = 100
"""The minimum width, in columns, of a terminal that shows everything."""

RunCommand = Callable[[Sequence[str]], str]
"""Runs a ccproxy command and returns its output."""

HELP = """\
up, down      select an entry or a request
Tab           move between the tables
Enter         timeline of the request, or keys of the entry
r             restart the entry; its port stays open
d             stop the entry; running requests get 30 s to finish
s             switch the models of the entry to a preset
k             enable or disable keys of the entry
l             logs of the entry
f             failed requests only
Esc           close this text
q             quit

REQ/MIN and TOK/S cover the last minute; TTFT is the median time to the
first token, P95 its 95th percentile, ERR the number of errors, and 5 MIN
the number of requests in the last five minutes."""


class Dashboard(App[None]):
    """Shows the entries and their problems and, below them, the requests."""

    TITLE = "ccproxy top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #summary { height: 1; padding: 0 1; text-style: bold; }
    #entries { height: auto; max-height: 50%; }
    #troubles { height: auto; max-height: 5; padding: 0 1; }
    #requests { height: 1fr; }
    DataTable { scrollbar-size-horizontal: 1; }
    ModalScreen { align: center middle; }
    ModalScreen > VerticalScroll, ModalScreen > Vertical {
        width: 90%; height: auto; max-height: 90%; border: round; padding: 0 1;
    }
    ModalScreen Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("r", "restart", "Restart"),
        Binding("d", "drain", "Drain"),
        Binding("s", "switch", "Switch"),
        Binding("k", "keys", "Keys"),
        Binding("l", "logs", "Logs"),
        Binding("f", "failed", "Failed"),
        Binding("question_mark", "help", "Help", key_display="?"),
    ]

    def __init__(
        self,
        view: SnapshotSource,
        *,
        run: RunCommand,
        url_of: Callable[[str], str],
        interval: float,
    ) -> None:
        super().__init__()
        self._view = view
        self._run_command = run
        self._url_of = url_of
        self._interval = interval
        self._only_failed = False
        self._snapshot = Snapshot()
        self._shown: list[RequestTimeline] = []

    def compose(self) -> ComposeResult:
        """Build the widgets."""
        yield Static(id="summary", markup=False)
        yield DataTable(id="entries", cursor_type="row", zebra_stripes=False)
        yield Static(id="troubles", markup=False)
        yield DataTable(id="requests", cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        """Fill the tables and start refreshing them."""
        for table, columns in ((self._entries, ENTRY_COLUMNS), (self._requests, REQUEST_COLUMNS)):
            for column in self._visible(columns):
                table.add_column(column.head, key=column.head)
        self.refresh_view()
        self._entries.focus()
        self.set_interval(self._interval, self.refresh_view)

    # Content.

    def refresh_view(self) -> None:
        """Show the current state of the fleet."""
        self._snapshot = snapshot = self._view.snapshot()
        self.query_one("#summary", Static).update(summary(snapshot))
        rows = [(row.label, entry_cells(row, snapshot)) for row in snapshot.rows]
        _fill(self._entries, rows, ENTRY_COLUMNS)
        troubles = self.query_one("#troubles", Static)
        lines = troubles_of(snapshot.rows)
        troubles.update("\n".join(lines))
        troubles.display = bool(lines)
        self._shown = requests_of(snapshot, failed=self._only_failed)[:MAX_ROWS]
        requests = [
            (f"{one.label} {one.id}", request_cells_of_view(one, snapshot)) for one in self._shown
        ]
        _fill(self._requests, requests, REQUEST_COLUMNS)

    @property
    def _entries(self) -> DataTable[Text]:
        return self.query_one("#entries", DataTable)

    @property
    def _requests(self) -> DataTable[Text]:
        return self.query_one("#requests", DataTable)

    @property
    def _entry(self) -> Row | None:
        """The selected entry."""
        at = self._entries.cursor_row
        rows = self._snapshot.rows
        return rows[at] if 0 <= at < len(rows) else None

    def _visible(self, columns: Sequence[Column]) -> Sequence[Column]:
        """Return the columns that fit; more would push the last one off the screen."""
        is_narrow = self.size.width < WIDE
        return [column for column in columns if not (is_narrow and column.head in NARROW_HIDES)]

    # Actions.

    def action_restart(self) -> None:
        """Restart the selected entry."""
        if (row := self._entry) is not None:
            self._steer(["restart", row.label])

    def action_drain(self) -> None:
        """Stop the selected entry if the user confirms; running requests get time to finish."""
        if (row := self._entry) is not None:
            words = ["stop", row.label, "--drain", "30s"]
            running = counted(row.in_flight, "running request")
            text = f"Stop {row.label}? {running} would get 30 s to finish."
            answers = OptionList(Option("Stop it", id="yes"), Option("Keep it running", id="no"))
            self.push_screen(QuestionScreen(text, answers), partial(self._confirm, words))

    def action_switch(self) -> None:
        """Ask for a model preset for the selected entry."""
        if (row := self._entry) is not None:
            models = ", ".join(f"{tier} {name}" for tier, name in row.models.items() if name)
            text = f"Models of {row.label}: {printable(models)}\nPreset, or reset:"
            self.push_screen(QuestionScreen(text, Input()), partial(self._switch, row.label))

    def action_keys(self) -> None:
        """Show the keys of the selected entry; choosing one enables or disables it."""
        row = self._entry
        if row is None or not row.key_rows:
            self.notify("no known keys", severity="warning")
            return
        options = []
        for key in row.key_rows:
            action = "enable" if key.state == "disabled" else "disable"
            text = Text(f"{action.capitalize()} {key_sentence(key)}")
            options.append(Option(text, id=f"{action} {key.id}"))
        question = QuestionScreen(f"Keys of {row.label}", OptionList(*options))
        self.push_screen(question, partial(self._key, row.label))

    def action_logs(self) -> None:
        """Show the end of the log of the selected entry."""
        if (row := self._entry) is not None:
            words = ["logs", row.label, "-n", LOG_LINES]
            self.run_worker(partial(self._show_output, words), thread=True, exclusive=True)

    def action_failed(self) -> None:
        """Toggle between failed requests and all requests."""
        self._only_failed = not self._only_failed
        self.refresh_view()
        self.notify("failed requests only" if self._only_failed else "all requests")

    def action_help(self) -> None:
        """Explain the keys and columns."""
        self.push_screen(PageScreen(HELP))

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Show the keys of an entry, or the timeline of a request."""
        if event.data_table.id == "entries":
            self.action_keys()
        elif event.cursor_row < len(self._shown):
            one = self._shown[event.cursor_row]
            lines = timeline_lines(one, url=self._url_of(one.label))
            self.push_screen(PageScreen("\n".join(lines)))

    def _confirm(self, words: Sequence[str], answer: str | None) -> None:
        if answer == "yes":
            self._steer(words)

    def _switch(self, label: str, preset: str | None) -> None:
        if preset == "reset":
            self._steer(["switch", label, "--reset"])
        elif preset:
            self._steer(["switch", label, preset])

    def _key(self, label: str, answer: str | None) -> None:
        if answer is not None:
            self._steer(["keys", label, *answer.split()])

    def _steer(self, words: Sequence[str]) -> None:
        """Run a command in a thread, and show its output."""
        self.notify(f"ccproxy {' '.join(words)} …", markup=False)
        self.run_worker(partial(self._run_and_notify, words), thread=True)

    # In threads.

    def _run_and_notify(self, words: Sequence[str]) -> None:
        output = self._run_command(words)
        notify = partial(self.notify, printable_lines(output), markup=False, timeout=8)
        self.call_from_thread(notify)

    def _show_output(self, words: Sequence[str]) -> None:
        output = self._run_command(words)
        self.call_from_thread(self.push_screen, PageScreen(printable_lines(output), from_end=True))


class PageScreen(ModalScreen[None]):
    """A scrollable text; Escape closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "Close")]

    def __init__(self, text: str, *, from_end: bool = False) -> None:
        super().__init__()
        self._text = text
        self._from_end = from_end

    def compose(self) -> ComposeResult:
        """Build the widgets."""
        with VerticalScroll():
            yield Static(Text.from_ansi(self._text or "(nothing)"))
        yield Footer()

    def on_mount(self) -> None:
        """Focus the text, at its end if requested."""
        scroll = self.query_one(VerticalScroll)
        scroll.focus()
        if self._from_end:
            scroll.scroll_end(animate=False)


class QuestionScreen(ModalScreen[str]):
    """A question, answered by a list option or a typed line; Escape cancels."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel")]

    def __init__(self, question: str, answer: OptionList | Input) -> None:
        super().__init__()
        self._question = question
        self._answer = answer

    def compose(self) -> ComposeResult:
        """Build the widgets."""
        with Vertical():
            yield Static(self._question, markup=False)
            yield self._answer
        yield Footer()

    def on_mount(self) -> None:
        """Focus the answer."""
        self._answer.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Return the chosen option."""
        self.dismiss(event.option_id)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Return the typed line."""
        self.dismiss(event.value.strip())


def _fill(
    table: DataTable[Text],
    rows: Sequence[tuple[str, Sequence[str]]],
    columns: Sequence[Column],
) -> None:
    """Show *rows*, each with its key; the cursor stays on the same row, or on the first."""
    keys = [key for key, _ in rows]
    texts = _visible_texts(table, [cells for _, cells in rows], columns)
    selected, was_first = _key_at_cursor(table), table.cursor_row <= 0
    if [key.value for key in table.rows] != keys:
        table.clear()
        for key, row in zip(keys, texts, strict=True):
            table.add_row(*row.values(), key=key)
        if was_first:
            table.scroll_home(animate=False)  # the cursor stays on the first row
        elif selected in keys:
            table.move_cursor(row=keys.index(selected), animate=False)
        return
    for key, row in zip(keys, texts, strict=True):
        for head, text in row.items():
            if table.get_cell(key, head) != text:
                table.update_cell(key, head, text, update_width=True)


def _key_at_cursor(table: DataTable[Text]) -> str | None:
    if not table.row_count:
        return None
    return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value


def _visible_texts(
    table: DataTable[Text], rows: Sequence[Sequence[str]], columns: Sequence[Column]
) -> list[dict[str, Text]]:
    """Return the cells of the visible columns by heading, shortened to fit the terminal."""
    visible = {key.value for key in table.columns}
    places = [at for at, column in enumerate(columns) if column.head in visible]
    chosen = [columns[at] for at in places]
    cells = shortened(
        chosen, [[row[at] for at in places] for row in rows], width=table.app.size.width - 2
    )
    return [
        {
            column.head: Text.from_ansi(
                cell, justify="right" if column.align_right else "left", no_wrap=True
            )
            for column, cell in zip(chosen, row, strict=True)
        }
        for row in cells
    ]
