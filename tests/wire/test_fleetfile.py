"""fleet.toml: known names are held, all others refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codewhale_fleet.errors import FleetError
from codewhale_fleet.wire import fleetfile
from codewhale_fleet.wire.problems import SpecProblems


def problems(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(SpecProblems) as caught:
        fleetfile.parse(text.encode())
    return [(one.line, one.field, one.message) for one in caught.value.problems]


def test_max_workers_is_read() -> None:
    assert fleetfile.parse(b"[fleet]\nmax_workers = 7\n").fleet.max_workers == 7


def test_an_empty_file_says_nothing() -> None:
    assert fleetfile.parse(b"") == fleetfile.FleetFile()


@pytest.mark.parametrize("name", list(fleetfile.NOT_YET))
def test_what_is_not_enforced_yet_is_refused_by_name(name: str) -> None:
    table, _, key = name.rpartition(".")
    text = f"[{table}]\n{key} = 1\n" if table else f"[{name}]\n"
    ((line, field, message),) = problems(text)
    assert (line, field) == (2 if "." in name else 1, name)
    assert message.startswith("not enforced yet: ")


def test_every_problem_is_told_at_once() -> None:
    found = problems("flet = 1\n[fleet]\nmax_workers = 0\nmax_wrkers = 1\n[workers]\n")
    assert [(line, field) for line, field, _ in found] == [
        (1, "flet"), (3, "fleet.max_workers"), (4, "fleet.max_wrkers"), (5, "workers"),
    ]  # fmt: skip
    assert "did you mean max_workers?" in found[2][2]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("true", "must be an integer"),
        ('"4"', "must be an integer"),
        ("1.5", "must be an integer"),
        ("[]", "must be an integer"),
        ("129", "at most 128"),
        ("-1", "at least 1"),
    ],
)
def test_max_workers_is_a_whole_number_from_1_to_128(value: str, words: str) -> None:
    ((line, field, message),) = problems(f"fleet.max_workers = {value}\n")
    assert (line, field) == (1, "fleet.max_workers")
    assert words in message


def test_retention_is_in_days_and_for_ever_where_nothing_is_said() -> None:
    read = fleetfile.parse(b"[retention]\nfiles_days = 0.5\n").retention
    assert (read.files_days, read.detail_days) == (0.5, None)
    ((_, field, message),) = problems("[retention]\ndetail_days = 0\n")
    assert (field, message) == ("retention.detail_days", "must be more than 0, not 0")


def test_the_room_of_the_disk_is_in_megabytes() -> None:
    read = fleetfile.parse(b"disk.stop_below_mb = 5\n").disk
    assert (read.warn_below_mb, read.stop_below_mb) == (None, 5)
    ((line, field, _),) = problems("[disk]\n\nwarn_below_mb = -1\n")
    assert (line, field) == (3, "disk.warn_below_mb")


def test_broken_toml_has_its_line() -> None:
    assert problems("[fleet]\nmax_workers =\n")[0][0] == 2


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused_in_a_sentence(data: bytes) -> None:
    try:
        fleetfile.parse(data)
    except FleetError as error:
        assert error.sentence
