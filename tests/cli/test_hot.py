"""One declaration, two readers: the table says what Typer says, and costs nothing to import."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codewhale_fleet.cli import app, hot, tables
from codewhale_fleet.cli.table import COMMANDS

from .driver import REPOSITORY


def test_the_table_is_what_the_declarations_make_of_it() -> None:
    assert tables.TABLE.read_text() == tables.render(), "run scripts/command-table"


def test_the_frequent_commands_stand_in_the_table() -> None:
    assert tuple(COMMANDS) == app.HOT


_SPELLINGS = sorted({spelling for _, options, _ in COMMANDS.values() for spelling in options})
_WORDS = st.one_of(
    st.sampled_from(_SPELLINGS),
    st.sampled_from(["-", "--", "@last", "a", "r/t@1", "", "3", "0", "007", "1.5", "-1", "1e3"]),
    st.sampled_from(
        [
            "--help",
            "--max-workers=4",
            "-j4",
            "-j0",
            "-j=4",
            "-jd",
            "--name=x=y",
            "-qv",
            "--nope",
            "--dir=",
        ]
    ),
    st.integers(0, 300).map(str),
    st.text(max_size=4),
)
_LINES = st.tuples(st.sampled_from(app.HOT), st.lists(_WORDS, max_size=7)).map(
    lambda parts: [*parts[0].split(), *parts[1]]
)


@settings(max_examples=100, deadline=None)
@given(_LINES)
def test_where_the_quick_reader_answers_it_answers_what_typer_does(argv: list[str]) -> None:
    read_alike(argv)


@pytest.mark.slow
@settings(max_examples=600, deadline=None)
@given(_LINES)
def test_of_six_hundred_lines_the_quick_reader_answers_what_typer_does(argv: list[str]) -> None:
    read_alike(argv)


def read_alike(argv: list[str]) -> None:
    quick = hot.read(argv)
    if quick is not None:
        assert quick == app.read(argv)


@pytest.mark.parametrize(
    "line",
    [
        "run s.toml",
        "run s.toml --max-workers 4 --json",
        "run --each - -j 8 -- grep -n {} file",
        "run s.toml -j4",
        "resume @last -j128",
        "run s.toml --label a=b --label c=d --name=x --detach",
        "status",
        "status --json",
        "status @last --watch",
        "inspect r/t@2",
        "logs r/t -f --attempt 2 --stderr",
        "explain @last --dir /tmp",
        "receipts",
        "artifacts @last --copy-to out",
        "wait a b c --timeout 1.5",
        "resume @last --failed -q",
    ],
)
def test_ordinary_spellings_are_read_quickly(line: str) -> None:
    assert hot.read(line.split()) is not None


@pytest.mark.parametrize(
    "line",
    ["", "check s.toml", "run --help", "run s -j0", "run s -j129", "run s -j=4", "run s -j4x",
     "status -w3", "status --jso", "inspect", "wait", "run -j 0 s", "logs -f",
     "status -wq", "wait a --timeout", "receipts a b", "run s --max-workers x"],
)  # fmt: skip
def test_anything_unusual_is_left_to_typer(line: str) -> None:
    assert hot.read(line.split()) is None


def test_the_scripts_interpreter_flags_do_not_matter() -> None:
    done = subprocess.run(
        [REPOSITORY / "scripts" / "command-table", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
