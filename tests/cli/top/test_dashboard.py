"""`ccproxy top` with Textual: the content of the screen, and the keys."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from textual.widgets import DataTable, Input, OptionList, Static

from ccproxy.cli.top.dashboard import Dashboard, PageScreen
from tests.cli.top.test_view_text import GLM, KIMI, SNAPSHOT, request
from tests.fleet import eventually


class Source:
    """A data source whose content the test sets."""

    def __init__(self):
        self.content = SNAPSHOT

    def snapshot(self):
        return self.content


class Commands:
    """Records the executed commands."""

    def __init__(self):
        self.words = []

    def __call__(self, words):
        self.words.append(" ".join(words))
        return f"done: {' '.join(words)}\x1b[2J"


def url_of(label):
    return f"https://{label}.example"


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def commands():
    return Commands()


@pytest.fixture
async def pilot(source, commands):
    app = Dashboard(source, run=commands, url_of=url_of, interval=3600)
    async with app.run_test(size=(80, 24)) as pilot:
        yield pilot


def text_of(app):
    """Return the lines of the screen."""
    width, height = app.size
    strips = app.screen._compositor.render_strips() if hasattr(app.screen, "_compositor") else []
    assert len(strips) <= height
    return "\n".join(strip.text.rstrip()[:width] for strip in strips)


async def test_everything_is_visible_at_80_by_24(pilot):
    await pilot.pause()
    screen = text_of(pilot.app)
    for text in ("Kimi", "◐ degraded", "1/2", "○ stopped", "REQ/MIN", "0 of 2 ready"):
        assert text in screen
    assert "Kimi: 1 of 2 keys out" in screen
    for text in ("kimi-k3", "running", "502", "5 chunks", "Restart", "Quit"):
        assert text in screen
    assert max(map(len, screen.splitlines())) <= 80


async def test_a_long_name_does_not_hide_the_note(pilot, source):
    long = request(3, state="running", status=0, chunks=5, model="a-long-model-name-" * 20)
    source.content = replace(SNAPSHOT, running=(long,))
    pilot.app.refresh_view()
    await pilot.pause()
    assert "5 chunks" in text_of(pilot.app)
    assert "a-long-model-" in text_of(pilot.app)


async def test_states_need_no_color(monkeypatch, source, commands):
    monkeypatch.setenv("NO_COLOR", "1")
    app = Dashboard(source, run=commands, url_of=url_of, interval=3600)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert app.no_color
        assert "◐ degraded" in text_of(app)
        for strip in app.screen._compositor.render_strips():
            filtered = strip.apply_filter(app._filters[0], app.screen.background_colors[1])
            colors = {s.style.color.triplet for s in filtered if s.style and s.style.color}
            assert all(len({*color}) == 1 for color in colors if color), "only shades of gray"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        pytest.param(["r"], "restart Kimi", id="restart"),
        pytest.param(["down", "r"], "restart GLM", id="restart the second"),
        pytest.param(["d", "enter"], "stop Kimi --drain 30s", id="stop"),
        pytest.param(["s", *"fast", "enter"], "switch Kimi fast", id="switch"),
        pytest.param(["s", *"reset", "enter"], "switch Kimi --reset", id="switch back"),
        pytest.param(["k", "down", "enter"], "keys Kimi disable k2", id="disable a key"),
        pytest.param(["enter", "enter"], "keys Kimi disable k1", id="the same with Enter"),
        pytest.param(["l"], "logs Kimi -n 200", id="logs"),
    ],
)
async def test_a_key_runs_a_command(pilot, commands, keys, expected):
    for key in keys:
        await pilot.press(key)
        await pilot.pause()
    await eventually(lambda: commands.words)
    assert commands.words == [expected]
    await pilot.app.workers.wait_for_complete()


async def test_the_question_before_a_stop_names_the_running_requests(pilot):
    await pilot.press("d")
    await pilot.pause()
    question = str(pilot.app.screen.query_one(Static).render())
    assert question == "Stop Kimi? 1 running request would get 30 s to finish."


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(["d", "escape"], id="stop, cancelled"),
        pytest.param(["d", "down", "enter"], id="stop, refused"),
        pytest.param(["s", "escape"], id="switch, cancelled"),
        pytest.param(["s", "enter"], id="switch to nothing"),
        pytest.param(["k", "escape"], id="keys, cancelled"),
        pytest.param(["down", "k"], id="an entry without keys"),
        pytest.param(["question_mark", "escape"], id="help"),
    ],
)
async def test_nothing_is_run(pilot, commands, keys):
    for key in keys:
        await pilot.press(key)
        await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    assert commands.words == []
    assert len(pilot.app.screen_stack) == 1


async def test_a_disabled_key_is_enabled(pilot, source, commands):
    keys = (replace(KIMI.key_rows[0], state="disabled"),)
    source.content = replace(SNAPSHOT, rows=(replace(KIMI, key_rows=keys), GLM))
    pilot.app.refresh_view()
    await pilot.press("k")
    await pilot.pause()
    assert pilot.app.screen.query_one(OptionList).option_count == 1
    await pilot.press("enter")
    await eventually(lambda: commands.words)
    assert commands.words == ["keys Kimi enable k1"]
    await pilot.app.workers.wait_for_complete()


async def test_the_output_of_a_command_cannot_control_the_terminal(pilot, commands):
    await pilot.press("l")
    await eventually(lambda: commands.words)
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()
    assert isinstance(pilot.app.screen, PageScreen)
    output = str(pilot.app.screen.query_one(Static).render())
    assert output == "done: logs Kimi -n 200\\x1b[2J"


async def test_the_timeline_of_a_request(pilot):
    await pilot.press("tab", "down", "enter")
    await pilot.pause()
    output = str(pilot.app.screen.query_one(Static).render())
    assert "req_00000002  failed 502" in output
    assert "curl -sN https://Kimi.example/v1/messages" in output
    await pilot.press("escape")
    await pilot.pause()
    assert len(pilot.app.screen_stack) == 1


async def test_failed_requests_only(pilot):
    table = pilot.app.query_one("#requests", DataTable)
    assert table.row_count == 3
    await pilot.press("f")
    assert table.row_count == 1
    await pilot.press("f")
    assert table.row_count == 3


async def test_the_cursor_stays_at_its_request(pilot, source):
    table = pilot.app.query_one("#requests", DataTable)
    await pilot.press("tab", "down")
    assert table.cursor_row == 1
    newest = request(9, state="running", status=0)
    source.content = replace(SNAPSHOT, running=(newest, *SNAPSHOT.running))
    pilot.app.refresh_view()
    await pilot.pause()
    assert (table.row_count, table.cursor_row) == (4, 2)
    source.content = replace(SNAPSHOT, running=())
    pilot.app.refresh_view()
    assert (table.row_count, table.cursor_row) == (2, 0)


async def test_values_change_in_place(pilot, source):
    table = pilot.app.query_one("#entries", DataTable)
    source.content = replace(SNAPSHOT, rows=(replace(KIMI, state="ready", in_flight=4), GLM))
    pilot.app.refresh_view()
    assert str(table.get_cell("Kimi", "STATE")) == "● ready"
    assert str(table.get_cell("Kimi", "RUN")) == "4"


async def test_an_empty_fleet(source, commands):
    source.content = replace(SNAPSHOT, rows=(), running=(), recent=())
    app = Dashboard(source, run=commands, url_of=url_of, interval=3600)
    async with app.run_test(size=(80, 24)) as pilot:
        for key in "rdskl":
            await pilot.press(key)
        await pilot.pause()
        assert not app.screen.query(Input)
        await pilot.press("q")
    assert commands.words == []
    await asyncio.sleep(0)
