import pytest

from codewhale_fleet.views.units import duration, many, one_line, size


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 ms"),
        (0.04, "40 ms"),
        (4.2, "4.2 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (190, "3 min"),
        (7800, "2 h 10 min"),
        (7200, "2 h"),
        (3 * 86400, "3 d"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_an_exact_time_keeps_its_seconds() -> None:
    assert duration(552, exact=True) == "9 min 12 s"


def test_sizes_and_numbers_have_their_nouns() -> None:
    assert [size(812), size(4.2 * 2**20), size(3 * 2**40)] == ["812 bytes", "4.2 MiB", "3.0 TiB"]
    assert [many(1, "task"), many(2000, "task")] == ["1 task", "2,000 tasks"]


def test_text_of_others_comes_to_one_line_without_control_characters() -> None:
    assert one_line("a\n  b\x1b[31m") == "a b?[31m"
