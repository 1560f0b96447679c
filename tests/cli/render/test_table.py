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


def test_a_table_without_rows_is_its_head():
    assert table(COLUMNS, []) == ["NAME  SIZE  AGE  NOTE"]
