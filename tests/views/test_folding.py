"""Names become patterns that stand for them and for nobody else; the same answers are told once."""

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codewhale_fleet.views.folding import (
    Groups,
    Spread,
    difference,
    folded,
    is_scattered,
    natural,
)


def unfolded(pattern: str) -> list[str]:
    """The names that patterns stand for, read with the eyes of a person."""
    made = []
    for one in re.findall(r"(?:\[[^]]*\]|[^,\[])+", pattern):
        pieces = re.split(r"\[([^]]*)\]", one)
        choices = [[word] for word in pieces]
        for at in range(1, len(pieces), 2):
            choices[at] = [number for part in pieces[at].split(",") for number in span(part)]
        made += ["".join(parts) for parts in product(*choices)]
    return made


def span(part: str) -> list[str]:
    first, dash, last = part.partition("-")
    if not dash:
        return [first]
    width = len(first) if first.startswith("0") else 0
    return [str(number).zfill(width) for number in range(int(first), int(last) + 1)]


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        ([], ""),
        (["web07"], "web07"),
        ([f"web{n:02d}" for n in range(1, 49)], "web[01-48]"),
        (["web8", "web9", "web10"], "web[8-10]"),
        (["web08", "web09", "web10"], "web[08-10]"),
        (["web1", "web01", "web2"], "web[01,1-2]"),
        (["web31", "web07", "db", "web08"], "db,web[07-08,31]"),
        (["db", "local"], "db,local"),
        ([f"r{r}-n{n:02d}.x" for r in (1, 2) for n in range(1, 11)], "r[1-2]-n[01-10].x"),
        (["a1b1", "a1b2", "a2b1"], "a1b[1-2],a2b1"),
        (["10.0.0.7", "10.0.0.8"], "10.0.0.[7-8]"),
        (["n099", "n100"], "n[099-100]"),
        (["n99", "n100"], "n[99-100]"),
    ],
)
def test_names_are_written_as_a_person_would(names: list[str], pattern: str) -> None:
    assert folded(names) == pattern


name = st.one_of(
    st.from_regex(r"\A[a-z]{0,2}[0-9]{1,3}(-[a-b][0-9]{1,2})?(\.x)?\Z"),
    st.sampled_from(["local", "db", "00", "0", "a.b_c-d"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(name, max_size=30))
def test_a_pattern_stands_for_exactly_the_names_that_were_folded(names: list[str]) -> None:
    assert sorted(unfolded(folded(names))) == sorted(set(names))


@settings(max_examples=25, deadline=None)
@given(st.lists(name, max_size=30), st.randoms())
def test_the_order_of_names_changes_nothing(names: list[str], chance: object) -> None:
    mixed = list(names)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    assert folded(mixed) == folded(names)


def test_ten_thousand_names_are_one_pattern() -> None:
    assert folded(f"host{n:05d}" for n in range(10_000)) == "host[00000-09999]"


def test_names_are_sorted_as_people_count() -> None:
    assert sorted(["n10", "n9", "n09", "a", "n1x"], key=natural) == ["a", "n1x", "n09", "n9", "n10"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3)), max_size=20))
def test_everybody_is_in_the_one_group_of_his_answer(answers: list[tuple[int]]) -> None:
    groups: Groups[tuple[int]] = Groups()
    for number, answer in enumerate(answers):
        groups.add(f"n{number}", answer)
    ordered = groups.ordered()
    assert {n: g.key for g in ordered for n in g.names} == {
        f"n{number}": answer for number, answer in enumerate(answers)
    }
    assert len({group.key for group in ordered}) == len(ordered)
    sizes = [len(group.names) for group in ordered]
    assert sizes == sorted(sizes, reverse=True)


def test_texts_that_differ_in_numbers_only_are_one_text_with_ranges() -> None:
    spread = Spread("up 12 days, load 0.10, 3 users\n")
    spread.take("up 12 days, load 0.84, 1 users\n")
    assert spread.text() == "up 12 days, load 0.10–0.84, 1–3 users\n"


def test_what_is_part_of_a_word_or_of_a_version_is_no_number() -> None:
    words = Spread.words_of("nginx 1.24.0 on web01, up 3 days\n")
    assert words == Spread.words_of("nginx 1.24.0 on web01, up 4 days\n")
    assert words != Spread.words_of("nginx 1.26.0 on web01, up 3 days\n")
    assert words != Spread.words_of("nginx 1.24.0 on web02, up 3 days\n")


@settings(max_examples=40, deadline=None)
@given(st.text("a1.- 2:\n", max_size=20))
def test_a_text_alone_is_told_as_it_is(text: str) -> None:
    assert Spread(text).text() == text


def test_ranges_are_for_answers_of_which_hardly_two_are_the_same() -> None:
    assert is_scattered(46, 50)
    assert not is_scattered(2, 50)
    assert not is_scattered(2, 2)


def test_a_text_is_told_by_its_difference_where_that_is_shorter() -> None:
    many = [f"line {n}" for n in range(50)]
    other = [*many[:20], "other", *many[21:], "more"]
    assert difference("\n".join(other), "\n".join(many)) == ["-line 20", "+other", "+more"]
    assert difference("a\nb\nc\n", "x\ny\nz\n") == []
    assert difference("a\n", "b\n") == []
    assert difference("x\n" * 70_000, "y\n" * 70_000) == []
