"""Tables for people."""

from __future__ import annotations

import click

from ccproxy.cli.render.table import Column, table

COLUMNS = (
    Column(head="NAME"),
    Column(head="SIZE", align_right=True, drop_order=2),
    Column(head="AGE", align_right=True, drop_order=1),
    Column(head="NOTE"),
)
ROWS = [("a", "1", "10s", "first"), ("long-name", "1,000", "3d", "")]


def test_columns_are_aligned_and_lines_have_no_trailing_space():
    assert table(COLUMNS, ROWS) == [
        "NAME        SIZE  AGE  NOTE",
        "a              1  10s  first",
        "long-name  1,000   3d",
    ]


def test_without_heads_there_is_no_head_line():
    assert table((Column(), Column()), [("a", "b")], indent="  ") == ["  a  b"]


def test_colors_do_not_change_the_alignment():
    red = click.style("a", fg="red")
    lines = table(COLUMNS, [(red, *ROWS[0][1:]), ROWS[1]])
    assert [click.unstyle(line) for line in lines] == table(COLUMNS, ROWS)


def test_a_narrow_width_leaves_out_the_least_important_columns_and_names_them():
    assert table(COLUMNS, ROWS, width=24) == [
        "NAME        SIZE  NOTE",
        "a              1  first",
        "long-name  1,000",
        "(terminal too narrow for: AGE)",
    ]
    assert table(COLUMNS, ROWS, width=10)[0] == "NAME       NOTE"


def test_long_texts_are_shortened_before_columns_are_left_out():
    columns = (Column(head="NAME", least=6), *COLUMNS[1:3], Column(head="NOTE", least=4))
    rows = [("a-very-long-name", "1", "10s", "text"), ("b", "2", "3d", "a longer text")]
    assert table(columns, rows, width=26) == [
        "NAME    SIZE  AGE  NOTE",
        "a-ver…     1  10s  text",
        "b          2   3d  a long…",
    ]
    assert table(columns, rows, width=22)[0] == "NAME     SIZE  NOTE"


def test_wide_and_combining_characters_are_aligned():
    rows = [("\u4f60\u597d", "1"), ("e\u0301", "2"), ("abcd", "3"), ("\u4f60" * 9, "4")]
    columns = (Column(head="NAME", least=4), Column(head="N"))
    assert table(columns, rows, width=12) == [
        "NAME       N",
        "\u4f60\u597d       1",
        "e\u0301          2",
        "abcd       3",
        "\u4f60\u4f60\u4f60\u4f60…  4",
    ]


def test_a_table_without_rows_is_its_head():
    assert table(COLUMNS, []) == ["NAME  SIZE  AGE  NOTE"]
