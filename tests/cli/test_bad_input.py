"""Bad input as people meet it: a sentence, a hint, its exit code, and a whole ledger after."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from ..surroundings import NOBODY, small_disk
from . import scene
from .driver import FLEET, environment, fleet, look, spec, tasks

READERS = ["status", "inspect @last", "logs @last", "artifacts @last", "receipts", "explain @last",
           "wait @last", "ledger tail"]  # fmt: skip


def ledger_of(where: Path) -> Path:
    return where / ".fleet" / "fleet.jsonl"


def told(done: "subprocess.CompletedProcess[str]", code: int) -> tuple[str, str]:
    """The sentence and the hint; both are there, and nothing is on stdout."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    first, *rest = done.stderr.splitlines()
    assert first.startswith("fleet: ") and first.endswith((".", "?")), done.stderr
    assert rest and all(line.startswith("       ") for line in rest), done.stderr
    return first.removeprefix("fleet: "), " ".join(rest)


def refused(where: Path, line: str, code: int) -> tuple[str, str]:
    """The same of a command that is called in this process, from elsewhere."""
    words = [str(where / word) if word.endswith(".toml") else word for word in line.split()]
    made = scene.told(*words, "--dir", str(where))
    return told(subprocess.CompletedProcess(words, made.code, made.out, made.err), code)


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A fleet in which one run passed."""
    done = fleet(tmp_path, "run", spec(tmp_path, tasks("echo hello")))
    assert done.returncode == 0, done.stderr
    return tmp_path


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, for tests after which its ledger is as before."""
    where = tmp_path_factory.mktemp("kept")
    done = fleet(where, "run", spec(where, tasks("echo hello")))
    assert done.returncode == 0, done.stderr
    return where


# Specs ----------------------------------------------------------------------------------------

SPECS: list[tuple[str, bytes, str, str]] = [
    ("s.toml", b"", "s.toml:1: is empty", "at least one task"),
    ("s.toml", b"  \n\n", "s.toml:1: is empty", "at least one task"),
    ("s.toml", b'name = "\xff"\n', "s.toml:1: is not UTF-8: byte 8 is 0xff", "save it as UTF-8"),
    ("s.toml", b'[[tasks]\nid = "a"\n', "s.toml:1: is not valid TOML", "[[tasks]]"),
    ("s.json", b'[{"id": "a",}]', "s.json:1: is not valid JSON: trailing comma", "no comma before"),
    ("s.json", b"// no\n[]", "s.json:1: is not valid JSON", "JSON has no comments"),
    ("s.json", b'[{"id": "a",\n"id": "b", "command": "x"}]', "s.json:2: tasks[0].id: stands twice",
     "keep one"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "sentence", "hint"), SPECS)
def test_a_spec_that_cannot_be_read_is_told_with_its_line(
    kept: Path, name: str, data: bytes, sentence: str, hint: str
) -> None:
    before = ledger_of(kept).read_bytes()
    (kept / name).write_bytes(data)
    said, advice = told(look(kept, "run", name), 2)
    assert said.startswith(sentence)
    assert hint in advice
    assert ledger_of(kept).read_bytes() == before
    assert fleet(kept, "ledger", "verify").returncode == 0


FIELDS: list[tuple[str, str, str]] = [
    ("timeout_secnds = 5", "tasks[0].timeout_secnds", "did you mean timeout_seconds?"),
    ("max_atempts = 5", "tasks[0].max_atempts", "did you mean retry_policy.max_attempts?"),
    ("timeout_seconds = -5", "tasks[0].timeout_seconds", "must be more than 0, not -5"),
    ("retry_policy.max_attempts = -1", "tasks[0].retry_policy.max_attempts", "must be at least 1"),
    ("workspace.root = '../..'", "tasks[0].workspace.root", "would leave the workspace"),
    ("scorer = {kind = 'file_exists'}", "tasks[0].scorer.path", "needed by file_exists"),
    ("scorer = {kind = 'regex_match', path = 'f', pattern = '(['}", "tasks[0].scorer.pattern",
     "is no RE2 pattern"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "field", "words"), FIELDS)
def test_a_wrong_field_is_named_with_what_is_allowed(
    tmp_path: Path, line: str, field: str, words: str
) -> None:
    name = spec(tmp_path, f'[[tasks]]\nid = "a"\ncommand = "true"\n{line}\n')
    done = fleet(tmp_path, "check", name)
    assert done.returncode == 2
    assert f"{name}:4" in done.stdout
    assert field in done.stdout and words in done.stdout
    assert not (tmp_path / ".fleet").exists()


@pytest.mark.parametrize("name", ["a/b", "", "a b", "..\\x", "x" * 129])
def test_an_id_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "s.json").write_text(json.dumps([{"id": name, "command": "true"}]))
    done = fleet(tmp_path, "check", "s.json")
    assert done.returncode == 2
    assert "tasks[0].id" in done.stdout


def test_a_spec_over_64_mib_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.toml"
    with large.open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    said, advice = told(look(tmp_path, "run", large.name), 2)
    assert "over the limit of 64 MiB" in said
    assert "split" in advice


@pytest.mark.slow
def test_a_spec_of_100_000_tasks_is_fine(tmp_path: Path) -> None:
    many = [{"id": f"t{number}", "command": "true"} for number in range(100_000)]
    (tmp_path / "many.json").write_text(json.dumps(many))
    assert "100,000 tasks, fine" in fleet(tmp_path, "check", "many.json").stdout


# Ledgers --------------------------------------------------------------------------------------


def append(where: Path, **changes: object) -> bytes:
    """Append a sealed record like the last one, with changes; the whole file's bytes."""
    path = ledger_of(where)
    lines = path.read_bytes().splitlines()
    found = {**json.loads(lines[-1]), "seq": len(lines) + 1, **changes}
    del found["c"]
    body = json.dumps(found, separators=(",", ":")).encode()[:-1]
    chain = crc32(body, int(lines[-1][-10:-2], 16))
    with path.open("ab") as file:
        file.write(body + b',"c":"%08x"}\n' % chain)
    (where / ".fleet" / "synced").unlink()
    return path.read_bytes()


@pytest.mark.parametrize("changes", [{"k": "moon.landed"}, {"v": 99}])
def test_an_event_of_a_newer_version_is_refused_with_5(
    used: Path, changes: dict[str, object]
) -> None:
    whole = append(used, **changes)
    for line in [*READERS, "run tasks.toml", "resume @last"]:
        said, _ = refused(used, line, 5)
        assert said.startswith("this ledger was made by a newer version of fleet"), line
    assert ledger_of(used).read_bytes() == whole


def test_a_ledger_of_a_newer_format_is_refused_with_5(used: Path) -> None:
    path = ledger_of(used)
    whole = b'{"k":"fleet.initialized","seq":1,"d":{"fleet":"f","format":2},"hash":"blake3"}\n' * 3
    path.write_bytes(whole)
    (used / ".fleet" / "synced").unlink()
    for line in [*READERS, "run tasks.toml"]:
        said, _ = refused(used, line, 5)
        assert "made by a newer version of fleet: its format is 2" in said, line
    assert path.read_bytes() == whole


def test_a_damaged_ledger_is_refused_with_5_by_every_command(used: Path) -> None:
    path = ledger_of(used)
    first, second, *rest = path.read_bytes().splitlines(keepends=True)
    whole = b"".join([first, second.replace(b"a", b"b", 1), *rest])
    path.write_bytes(whole)
    for line in [*READERS, "run tasks.toml", "resume @last"]:
        said, advice = refused(used, line, 5)
        assert "damaged" in said, line
        assert "fleet ledger " in advice, line
    assert fleet(used, "ledger", "verify").returncode == 5
    assert path.read_bytes() == whole


# Rights and room ------------------------------------------------------------------------------


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A directory that other users can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


def own(where: Path) -> tuple[str, ...]:
    """Give a directory to the user that commands are then run as; the wrapper that does that."""
    if os.geteuid():
        return ()
    for path in [where, *where.rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    return NOBODY


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    "line",
    [
        *(pytest.param(line, marks=pytest.mark.slow) for line in [*READERS[1:], "resume @last"]),
        READERS[0],
        "run tasks.toml",
        "doctor",
    ],
)
def test_another_users_fleet_is_refused_with_4(theirs: Path, line: str) -> None:
    spec(theirs, tasks("true"))
    assert fleet(theirs, "init").returncode == 0
    before = ledger_of(theirs).read_bytes()
    said, _ = told(fleet(theirs, *line.split(), before=NOBODY), 4)
    assert f"{theirs}/.fleet belongs to another user" in said
    assert ledger_of(theirs).read_bytes() == before


def test_a_fleet_that_may_not_be_written_records_no_run(theirs: Path) -> None:
    spec(theirs, tasks("true"))
    assert fleet(theirs, "init").returncode == 0
    before = ledger_of(theirs).read_bytes()
    wrapper = own(theirs)
    (theirs / ".fleet").chmod(0o500)
    said, advice = told(fleet(theirs, "run", "tasks.toml", before=wrapper), 5)
    (theirs / ".fleet").chmod(0o700)
    assert said == f"{theirs}/.fleet can't be written: you lack the permission."
    assert f"chmod u+rwx {theirs}/.fleet" in advice
    assert ledger_of(theirs).read_bytes() == before
    assert fleet(theirs, "ledger", "verify", before=wrapper).returncode == 0


@pytest.mark.slow
def test_a_directory_that_may_not_be_entered_is_told_with_how_to_see_why(theirs: Path) -> None:
    inner = theirs / "closed"
    inner.mkdir()
    spec(inner, tasks("true"))
    wrapper = own(theirs)
    inner.chmod(0o000)
    try:
        for line in ["status", "run closed/tasks.toml", "init", "doctor"]:
            words = [*line.split(), "--dir", "closed"]
            said, advice = told(fleet(theirs, *words, before=wrapper), 2)
            assert "closed" in said
            assert "namei -l" in advice or "ls -ld" in advice
    finally:
        inner.chmod(0o700)


def test_init_on_a_full_disk_leaves_no_half_written_file(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    fill = "cd disk; head -c 100000 /dev/zero > fill 2>&-; run; ls -A >&2;"
    wrapper = small_disk("disk", "64k", fill)
    done = fleet(tmp_path, "init", before=wrapper)
    assert done.returncode == 5, done.stderr
    assert "fleet.toml cannot be written: no space left on device." in done.stderr
    assert "df " in done.stderr
    assert done.stderr.splitlines()[-1] == "fill"


# Readers that leave ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["status --watch", pytest.param("status --watch --json", marks=pytest.mark.slow)]
)
def test_watching_ends_when_its_reader_leaves(kept: Path, line: str) -> None:
    watching = subprocess.Popen(
        [*FLEET, *line.split()], cwd=kept, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stdout is not None and watching.stderr is not None
    assert watching.stdout.readline()
    watching.stdout.close()
    assert watching.wait(timeout=30) == 141
    assert watching.stderr.read() == ""
    watching.stderr.close()
