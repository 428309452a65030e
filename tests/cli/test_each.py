"""A line, a task."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codewhale_fleet.cli import each
from codewhale_fleet.core.tasks import decode_task
from codewhale_fleet.errors import FleetError

from .driver import fleet


def made(data: bytes, *command: str) -> list[tuple[str, object]]:
    lines = each.lines_of(data, "list")
    found = [decode_task(raw) for raw in each.expand(lines, list(command), "list")]
    return [(task.id, task.command) for task in found]


def test_a_line_replaces_the_braces_wherever_they_stand() -> None:
    assert made(b"a\nb\n", "cp", "{}", "old-{}.{}") == [
        ("line-00001", ["cp", "a", "old-a.a"]),
        ("line-00002", ["cp", "b", "old-b.b"]),
    ]


def test_without_braces_the_line_becomes_the_last_argument() -> None:
    assert made(b"a b", "wc", "-c") == [("line-00001", ["wc", "-c", "a b"])]


def test_blank_lines_are_skipped_and_ids_count_the_lines_of_the_file() -> None:
    assert [name for name, _ in made(b"\n  \nx\r\n\ny", "true")] == ["line-00003", "line-00005"]


def test_a_line_keeps_its_blanks_and_loses_its_carriage_return() -> None:
    assert made(b"  x \r\n", "true") == [("line-00001", ["true", "  x "])]


word = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
line = word.filter(lambda text: text.strip() and not set(text) & {"\n", "\r"})


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(word, st.just("{}"), st.just("a{}b{}")), min_size=1, max_size=4), line)
def test_any_line_arrives_in_its_argument_as_it_was(command: list[str], text: str) -> None:
    words = command if any("{}" in one for one in command) else [*command, "{}"]
    encoded = text.encode()
    if encoded.isspace():
        return
    assert made(encoded, *command) == [("line-00001", [one.replace("{}", text) for one in words])]


def test_tasks_are_sparse_json() -> None:
    (raw,) = each.expand(iter([(7, 'say "hi"')]), ["echo"])
    assert json.loads(raw) == {"id": "line-00007", "command": ["echo", 'say "hi"']}


@pytest.mark.parametrize(
    ("data", "says", "number"),
    [
        (b"ok\nbad \xff\n", "not UTF-8: line 2 has byte 0xff at column 5", 2),
        (b"ok\n\nnul\0here\n", "NUL byte in line 3", 3),
        (b"x" * 131_072, "line 1 has 131,072 bytes", 1),
    ],
)
def test_a_line_that_no_program_can_take_is_named(data: bytes, says: str, number: int) -> None:
    with pytest.raises(FleetError) as caught:
        made(data, "true")
    assert says in caught.value.sentence
    assert caught.value.line == number
    assert caught.value.hint


def test_the_longest_argument_that_linux_takes_is_taken(tmp_path: Path) -> None:
    done = fleet(tmp_path, "run", "--each", "-", "--", "true", given=b"x" * 131_071)
    assert done.returncode == 0, done.stderr


def test_a_list_over_64_mib_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "list").open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(FleetError, match="larger than 64 MiB"):
        each.tasks_of(str(tmp_path / "list"), ["true"])


def test_a_hundred_thousand_lines_become_a_hundred_thousand_tasks(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("".join(f"{number}\n" for number in range(100_000)))
    raw = each.tasks_of(str(tmp_path / "list"), ["true", "{}"])
    assert len(raw) == 100_000
    assert raw[-1] == b'{"id":"line-100000","command":["true","99999"]}'


@pytest.mark.parametrize(
    ("data", "words", "says"),
    [
        (b"a\nb ghp_abcdefghijklmnopqrstuvwxyz0123456789\n", ["echo"], "line 2 of list holds what"),
        (b"a\n", ["curl", "-HAuthorization: Bearer abcdef0123456789"], "the command holds what"),
    ],
)
def test_what_is_plainly_a_secret_may_not_stand_in_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list").write_bytes(data)
    with pytest.raises(FleetError, match=says) as caught:
        each.tasks_of("list", words)
    assert "fleet secret set KEY" in caught.value.hint


def test_an_empty_list_is_no_mistake_and_records_nothing(tmp_path: Path) -> None:
    done = fleet(tmp_path, "run", "--each", "-", "--", "true")
    assert done.returncode == 0
    assert "no lines" in done.stderr
    assert not (tmp_path / ".fleet").exists()


def test_no_shell_ever_reads_a_line(tmp_path: Path) -> None:
    nasty = b"$(touch owned); touch owned & `touch owned` > owned\n"
    done = fleet(tmp_path, "run", "--each", "-", "--json", "--", "printf", "%s", given=nasty)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "owned").exists()
    run = json.loads(done.stdout)["run"]
    log = tmp_path / ".fleet" / "logs" / run / "line-00001.1.out"
    assert log.read_bytes() == nasty.rstrip(b"\n")


def test_tasks_run_in_the_directory_of_the_asker(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    assert fleet(tmp_path, "init").returncode == 0
    done = fleet(below, "run", "--each", "-", "--", "touch", given=b"here\n")
    assert done.returncode == 0, done.stderr
    assert (below / "here").exists()
    assert not (below / ".fleet").exists()


def test_a_missing_list_is_answered_with_the_nearest_names(tmp_path: Path) -> None:
    (tmp_path / "hosts.txt").touch()
    done = fleet(tmp_path, "run", "--each", "host.txt", "--", "true")
    assert done.returncode == 2
    assert "there is no file host.txt" in done.stderr
    assert "hosts.txt" in done.stderr


def test_each_without_a_command_shows_how_to_give_one(tmp_path: Path) -> None:
    done = fleet(tmp_path, "run", "--each", "-")
    assert done.returncode == 2
    assert "-- wc -l {}" in done.stderr


def test_what_is_for_specs_only_is_refused(tmp_path: Path) -> None:
    done = fleet(
        tmp_path, "run", "--each", "-", "--allow-unenforced", "needs", "--", "true", given=b"x\n"
    )
    assert done.returncode == 2
    assert "--allow-unenforced is for specs" in done.stderr


def test_a_byte_order_mark_belongs_to_no_line() -> None:
    assert list(each.lines_of(b"\xef\xbb\xbfa\r\nb\n", "-")) == [(1, "a"), (2, "b")]
