"""The table of proxies in both forms, and every mistake in it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.config.fleet import (
    LABEL,
    Entry,
    load_fleet,
    read_fleet,
)
from ccproxy.files import display_path

SHORT = """\
# PORT:ENVFILE:LABEL
proxies = [
  "8081:envs/kimi.env:Kimi-K3",
  # "8090:envs/off.env:Off",
  "8082:envs/glm.env:GLM-4.6",  # a comment
]
"""
LONG = """\
[[proxy]]
port = 8081
env_file = "envs/kimi.env"
label = "Kimi-K3"

[[proxy]]
label = "GLM-4.6"
port = 8082
env_file = "envs/glm.env"
workers = 3
"""


def rows(fleet):
    return [(entry.port, entry.label, entry.workers, entry.line) for entry in fleet.entries]


# Valid tables.


def test_the_short_form(write):
    fleet = load_fleet(write("ccproxy.toml", SHORT))
    assert rows(fleet) == [(8081, "Kimi-K3", 1, 3), (8082, "GLM-4.6", 1, 5)]


def test_the_long_form(write):
    fleet = load_fleet(write("ccproxy.toml", LONG))
    assert rows(fleet) == [(8081, "Kimi-K3", 1, 1), (8082, "GLM-4.6", 3, 6)]


def test_both_forms_in_one_table(write):
    fleet = load_fleet(write("ccproxy.toml", 'proxies = ["8080:a.env:a"]\n' + LONG))
    assert [entry.label for entry in fleet.entries] == ["a", "Kimi-K3", "GLM-4.6"]


def test_the_folder_of_the_table_is_home(write, here, monkeypatch):
    file = write("fleet/ccproxy.toml", SHORT)
    monkeypatch.chdir("/")
    fleet = load_fleet(file)
    assert fleet.file == file
    assert fleet.home == here / "fleet"
    assert (fleet.logs, fleet.pids, fleet.state) == (
        here / "fleet/logs",
        here / "fleet/pids",
        here / "fleet/state",
    )
    assert fleet.entries[0].env_file == here / "fleet/envs/kimi.env"
    assert fleet.entries[0].table == file


def test_an_absolute_path_of_an_env_file_is_kept(write):
    fleet = load_fleet(write("ccproxy.toml", 'proxies = ["8081:/etc/ccproxy/kimi.env:kimi"]'))
    assert str(fleet.entries[0].env_file) == "/etc/ccproxy/kimi.env"


def test_the_path_of_an_env_file_may_contain_colons(write):
    fleet = load_fleet(write("ccproxy.toml", "proxies = ['8081:C:\\envs\\kimi.env:kimi']"))
    assert fleet.entries[0].env_file.name.endswith("C:\\envs\\kimi.env")


@pytest.mark.parametrize("quote", ['"', "'"])
def test_lines_are_known_for_either_quote(write, quote):
    row = f"{quote}8081:a.env:a{quote}"
    fleet = load_fleet(write("ccproxy.toml", f"\n\nproxies = [\n\n{row}]"))
    assert fleet.entries[0].line == 5


def test_a_byte_order_mark_does_not_matter(write):
    assert load_fleet(write("ccproxy.toml", "\ufeff" + SHORT)).entries


def test_env_files_are_not_opened(write):
    """A broken or missing env file must not prevent `status` and `stop` from working."""
    assert len(load_fleet(write("ccproxy.toml", SHORT)).entries) == 2


def test_labels_match_in_any_case(write):
    fleet = load_fleet(write("ccproxy.toml", SHORT))
    assert fleet.entry("kimi-k3").label == "Kimi-K3"
    assert fleet.entry("GLM-4.6").port == 8082
    assert fleet.entry("off") is None


def test_the_keys_of_other_readers_are_ignored(write):
    text = SHORT + "[presets.fast]\nbig = 'kimi:k3'\n"
    assert load_fleet(write("ccproxy.toml", text)).entries


def test_entries_on_different_lines_are_equal(here):
    one = Entry(port=1, env_file=here, label="a", line=3, table=here)
    assert one == Entry(port=1, env_file=here, label="a", line=9)


# Mistakes.


def short(row):
    return f'proxies = [\n  "{row}",\n]\n'


PORT = "fix: choose a whole number from 1 to 65535"
RULE = (
    "fix: a label consists of 1 to 32 letters, digits, dots, dashes or underscores, "
    "beginning with a letter or digit"
)
FORM = 'fix: write it like "8081:envs/kimi.env:Kimi-K3"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            short("0:a.env:a"),
            ['ccproxy.toml:2: the port must be from 1 to 65535, got "0"', PORT],
            id="port 0",
        ),
        pytest.param(
            short("70000:a.env:a"),
            ['ccproxy.toml:2: the port must be from 1 to 65535, got "70000"', PORT],
            id="port 70000",
        ),
        pytest.param(
            short("http:a.env:a"),
            ['ccproxy.toml:2: the port must be from 1 to 65535, got "http"', PORT],
            id="a port that is not a number",
        ),
        pytest.param(
            short("٨٠:a.env:a"),
            ['ccproxy.toml:2: the port must be from 1 to 65535, got "٨٠"', PORT],
            id="a port in digits of another script",
        ),
        pytest.param(
            short("-1:a.env:a"),
            ['ccproxy.toml:2: the port must be from 1 to 65535, got "-1"', PORT],
            id="a negative port",
        ),
        pytest.param(
            short("8081:a.env:../x"),
            ['ccproxy.toml:2: the label "../x" is not allowed', RULE],
            id="a label that leaves its folder",
        ),
        pytest.param(
            short("8081:a.env:"),
            ['ccproxy.toml:2: the label "" is not allowed', RULE],
            id="no label",
        ),
        pytest.param(
            short("8081:a.env:" + "x" * 33),
            [f'ccproxy.toml:2: the label "{"x" * 33}" is not allowed', RULE],
            id="a label of 33 characters",
        ),
        pytest.param(
            short("8081:a.env:Кimi"),
            ['ccproxy.toml:2: the label "Кimi" is not allowed', RULE],
            id="a label with a look-alike",
        ),
        pytest.param(
            short("8081:a.env"),
            ['ccproxy.toml:2: "8081:a.env" is not of the form PORT:ENVFILE:LABEL', FORM],
            id="two parts",
        ),
        pytest.param(
            short("8081::a"),
            ['ccproxy.toml:2: "8081::a" is not of the form PORT:ENVFILE:LABEL', FORM],
            id="no env file",
        ),
        pytest.param(
            "proxies = [\n8081]",
            ['ccproxy.toml:1: "8081" is not of the form PORT:ENVFILE:LABEL', FORM],
            id="a number",
        ),
        pytest.param(
            "\nproxies = '8081:a.env:a'",
            [
                "ccproxy.toml:2: proxies must be a list",
                'fix: write proxies = ["8081:envs/kimi.env:Kimi-K3"]',
            ],
            id="a text instead of a list",
        ),
        pytest.param(
            "proxies = []",
            [
                "ccproxy.toml: the table contains no proxy",
                'fix: add one: proxies = ["8081:envs/kimi.env:Kimi-K3"], or run: ccproxy init',
            ],
            id="nothing in the list",
        ),
        pytest.param(
            "",
            [
                "ccproxy.toml: the table contains no proxy",
                'fix: add one: proxies = ["8081:envs/kimi.env:Kimi-K3"], or run: ccproxy init',
            ],
            id="an empty file",
        ),
        pytest.param(
            '\nproxy = ["8081:a.env:a"]',
            ["ccproxy.toml:2: proxy must be an array of tables", "fix: begin each with [[proxy]]"],
            id="the two forms mixed up",
        ),
        pytest.param(
            LONG + "worker = 3\n",
            [
                'ccproxy.toml:11: worker is not a setting of a proxy (did you mean "workers"?)',
                "fix: rename or remove it; "
                "the settings are port, env_file, label, workers, fallback",
            ],
            id="a misspelt field in the long form",
        ),
        pytest.param(
            LONG + "[[proxy]]\nport = 1\n",
            ["ccproxy.toml:11: [[proxy]] has no env_file and no label", "fix: add it"],
            id="half a proxy",
        ),
        pytest.param(
            LONG.replace("workers = 3", "workers = 0"),
            [
                'ccproxy.toml:6: workers must be from 1 to 64, got "0"',
                "fix: choose a whole number from 1 to 64",
            ],
            id="no worker",
        ),
        pytest.param(
            LONG.replace("8082", "true"),
            ['ccproxy.toml:6: the port must be from 1 to 65535, got "True"', PORT],
            id="a boolean port",
        ),
        pytest.param(
            LONG.replace('"envs/glm.env"', "7"),
            [
                "ccproxy.toml:6: env_file must be the path of a file",
                "fix: set it to the path of a file in envs/",
            ],
            id="an env file that is a number",
        ),
    ],
)
def test_mistakes(write, complaints, text, expected):
    [complaint] = complaints(load_fleet, write("ccproxy.toml", text))
    assert [line.strip() for line in complaint.splitlines()] == expected


@pytest.mark.parametrize(
    ("text", "start"),
    [
        pytest.param("proxies = [\n  oops\n]", "2: Invalid value", id="a word"),
        pytest.param('proxies = [\n"8081:a:b"\n', "2: Unclosed array", id="open"),
        pytest.param("[[proxy]]\nport = 1\nport = 2", "3: Cannot overwrite", id="twice"),
        pytest.param('proxies = ["a\n"]', "1: this line lacks a quote", id="a line break"),
        pytest.param(
            'proxies = [\n "1:a:b"  # one\n\n # two\n "2:a:c",\n "3:a:d"\n]',
            "2: this line lacks its comma",
            id="no comma before the next line",
        ),
        pytest.param(
            'proxies = ["1:a:b"\n "2:a:c"]', "1: this line lacks its comma", id="of the first line"
        ),
        pytest.param(
            "proxies = [\n '1:a:b', '2:a:c' '3:a:d',\n]",
            "2: this line lacks a comma between its entries",
            id="no comma within a line",
        ),
        pytest.param(
            'proxies = [\n "1:a:b",\n "2:a:c,\n "3:a:d",\n]',
            "3: this line lacks a quote",
            id="open",
        ),
        pytest.param('proxies = [\n 1:a:b",\n]', "2: this line lacks a quote", id="not opened"),
        pytest.param("proxies = [\n 1:a:b,\n]", "2: this line lacks a quote", id="no quotes"),
        pytest.param(
            'proxies = [\n "1:a:b"\n]\n[routes.B]\nmain "big"\n', "5: Expected '='", id="elsewhere"
        ),
        pytest.param('x = "y\nproxies = ["1:a:b"]', "1: Illegal character", id="above the list"),
    ],
)
def test_broken_toml_names_its_line(write, complaints, text, start):
    [complaint] = complaints(load_fleet, write("ccproxy.toml", text))
    line, _, expected = start.partition(": ")
    assert complaint.startswith(f"ccproxy.toml:{line}: ccproxy.toml is not valid TOML: {expected}")
    assert "(at " not in complaint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '[preset.fast]\nbig = "x"\n',
            'ccproxy.toml:2: preset is not a setting (did you mean "presets"?)',
        ),
        (
            'preset.fast.big = "x"\n',
            'ccproxy.toml:2: preset is not a setting (did you mean "presets"?)',
        ),
        ('["route".B]\n', 'ccproxy.toml:2: route is not a setting (did you mean "routes"?)'),
    ],
)
def test_a_misspelt_table_is_reported_with_its_line(write, complaints, text, expected):
    file = write("ccproxy.toml", f'proxies = ["8081:a.env:B"]\n{text}')
    [complaint] = complaints(load_fleet, file)
    assert complaint.splitlines()[0].endswith(expected)


def test_a_port_used_twice_names_both_lines(write, complaints):
    text = 'proxies = [\n  "8082:kimi.env:kimi",\n\n  "8082:glm.env:glm",\n]\n'
    assert complaints(load_fleet, write("ccproxy.toml", text)) == [
        "ccproxy.toml:4: port 8082 is used twice\n"
        '      ccproxy.toml:2   "8082:kimi.env:kimi",\n'
        '      ccproxy.toml:4   "8082:glm.env:glm",\n'
        "      fix: give one of them another port, for example 8083"
    ]


def test_the_proposed_port_is_free(write, complaints):
    text = 'proxies = ["8082:a:a", "8083:b:b", "8082:c:c"]'
    [complaint] = complaints(load_fleet, write("ccproxy.toml", text))
    assert complaint.endswith("for example 8084")


def test_no_port_above_the_largest_is_proposed(write, complaints):
    text = 'proxies = ["65535:a:a", "65535:c:c"]'
    [complaint] = complaints(load_fleet, write("ccproxy.toml", text))
    assert complaint.endswith("for example 8081")


def test_two_entries_that_would_share_a_log(write, complaints):
    text = '[[proxy]]\nport = 8081\nenv_file = "a.env"\nlabel = "GLM"\nworkers = 2\n'
    other = '[[proxy]]\nport = 8082\nenv_file = "b.env"\nlabel = "glm.2"\n'
    [mistake] = complaints(load_fleet, write("ccproxy.toml", text + other))
    assert "process 2 of GLM also logs to glm.2.log" in mistake
    assert "fix: give glm.2 another label" in mistake


def test_a_reserved_label_is_refused(write, complaints):
    [mistake] = complaints(load_fleet, write("ccproxy.toml", 'proxies = ["8081:a.env:Supervisor"]'))
    assert 'the label "Supervisor" is reserved for ccproxy itself' in mistake


def test_a_label_used_twice_in_another_case(write, complaints):
    text = 'proxies = [\n  "8081:kimi.env:Kimi",\n  "8082:glm.env:kimi",\n]\n'
    assert complaints(load_fleet, write("ccproxy.toml", text)) == [
        "ccproxy.toml:3: label kimi is used twice\n"
        '      ccproxy.toml:2   "8081:kimi.env:Kimi",\n'
        '      ccproxy.toml:3   "8082:glm.env:kimi",\n'
        "      fix: give one of them another label; case is ignored"
    ]


def test_the_same_line_twice(write, complaints):
    text = 'proxies = [\n  "8081:a:a",\n  "8081:a:a",\n]\n'
    expected = complaints(load_fleet, write("ccproxy.toml", text))
    assert [one.split(": ")[1].splitlines()[0] for one in expected] == [
        "port 8081 is used twice",
        "label a is used twice",
    ]
    assert "ccproxy.toml:2 " in expected[0]
    assert "ccproxy.toml:3 " in expected[0]


def test_duplicates_in_both_forms_are_reported(write, complaints):
    text = 'proxies = ["8082:a.env:a"]\n' + LONG
    [complaint] = complaints(load_fleet, write("ccproxy.toml", text))
    assert "ccproxy.toml:1   proxies" in complaint
    assert "ccproxy.toml:7   [[proxy]]" in complaint


def test_all_mistakes_are_reported_at_once(write, complaints):
    text = short('0:a.env:../x",\n"8081",\n"8082:b:b') + "proxys = 1\n"
    expected = complaints(load_fleet, write("ccproxy.toml", text))
    assert [one.split(": ", 1)[0] for one in expected] == [
        "ccproxy.toml:2",
        "ccproxy.toml:2",
        "ccproxy.toml:3",
        "ccproxy.toml:6",
    ]


def test_valid_entries_are_read_despite_mistakes(write):
    fleet, mistakes = read_fleet(write("ccproxy.toml", short('0:a:a",\n"8082:b:b')))
    assert [entry.label for entry in fleet.entries] == ["b"]
    assert len(mistakes) == 1


def test_a_file_that_is_not_text(here, complaints):
    (here / "ccproxy.toml").write_bytes(b"\xff\xfe\x00")
    [complaint] = complaints(load_fleet, here / "ccproxy.toml")
    assert complaint.startswith("ccproxy.toml: is not UTF-8 text")


def test_a_folder_is_not_a_table(here, complaints):
    (here / "ccproxy.toml").mkdir()
    [complaint] = complaints(load_fleet, here / "ccproxy.toml")
    assert complaint.startswith("ccproxy.toml: cannot be read: ")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_a_label_never_leaves_its_folder(label):
    """A valid label is a plain name on every file system."""
    if LABEL.fullmatch(label):
        assert label.isascii()
        assert not set(label) & set("/\\:\0\n ")
        assert label not in (".", "..")


def test_paths_are_displayed_as_the_user_would_type_them(here):
    assert str(display_path(here / "envs/kimi.env")) == "envs/kimi.env"
    assert str(display_path(here.parent / "x")) == str(here.parent / "x")


# The local table.


def test_entries_of_the_local_table_follow(write):
    file = write("ccproxy.toml", SHORT)
    local = write("ccproxy.local.toml", 'proxies = ["8090:envs/mine.env:Mine"]\n')
    fleet = load_fleet(file)
    assert [entry.label for entry in fleet.entries] == ["Kimi-K3", "GLM-4.6", "Mine"]
    assert [entry.table for entry in fleet.entries] == [file, file, local]
    assert fleet.file == file


def test_the_local_table_may_have_the_only_entry(write):
    file = write("ccproxy.toml", "proxies = []\n")
    assert [mistake.is_empty_table for mistake in read_fleet(file)[1]] == [True]
    write("ccproxy.local.toml", 'proxies = ["8090:envs/mine.env:Mine"]\n')
    assert len(load_fleet(file).entries) == 1


THREE_PROCESSES = '[[proxy]]\nport = 8099\nenv_file = "m.env"\nlabel = "Many"\nworkers = 3\n'


@pytest.mark.parametrize(
    ("local", "text"),
    [
        ('proxies = ["8090:e.env:kimi-k3"]\n', "label kimi-k3 is used twice, also in "),
        ('proxies = ["8081:e.env:Mine"]\n', "port 8081 is used twice, also in "),
        ('proxies = ["8090:e.env:Many.3"]\n', "many.3.log is used twice, also in "),
        ("routs = 1\n", "routs is not a setting"),
        ("proxies = [\n", "is not valid TOML"),
        (f"proxies = []\nx = {'9' * 5000}\n", "is not valid TOML"),
        (f"x = {'[' * 9999}{']' * 9999}\n", "is not valid TOML"),
    ],
)
def test_mistakes_in_the_local_table_name_it(local, text, write):
    file = write("ccproxy.toml", f"{SHORT}\n{THREE_PROCESSES}")
    write("ccproxy.local.toml", local)
    fleet, (mistake, *_) = read_fleet(file)
    assert text in mistake.text
    assert mistake.file.name == "ccproxy.local.toml"
    assert len(fleet.entries) >= 2
