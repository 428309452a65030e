"""Discovery commands: run once for all who ask, kept for so long, and told of when they fail."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codewhale_fleet.engine import inventory
from codewhale_fleet.errors import FleetError
from codewhale_fleet.ledger.store import Ledger

COUNTS = "echo x >> count; cat list"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    (tmp_path / "list").write_text("web01\nweb02\n")
    return Ledger.open(tmp_path / ".fleet", create=True)


def write(root: Path, command: str = COUNTS, ttl: float = 300, name: str = "cloud") -> None:
    text = f"[inventory.{name}]\ncommand = '''{command}'''\nttl_seconds = {ttl}\n"
    (root / "fleet.toml").write_text(text)


def runs(root: Path) -> int:
    return len((root / "count").read_text().splitlines())


def ids(root: Path, ledger: Ledger | None) -> list[str]:
    return list(inventory.known(root, ledger).workers)


def test_an_answer_is_used_until_it_is_too_old(tmp_path: Path, ledger: Ledger) -> None:
    write(tmp_path)
    assert ids(tmp_path, ledger) == ids(tmp_path, ledger) == ["web01", "web02"]
    with Ledger.open(tmp_path / ".fleet") as other:
        assert ids(tmp_path, other) == ["web01", "web02"]
    assert runs(tmp_path) == 1

    now = time.time()
    ledger.clock = lambda: now + 301
    (tmp_path / "list").write_text("web03\n")
    assert ids(tmp_path, ledger) == ["web03"]
    assert runs(tmp_path) == 2


def test_another_command_is_another_question(tmp_path: Path, ledger: Ledger) -> None:
    write(tmp_path)
    ids(tmp_path, ledger)
    write(tmp_path, f"{COUNTS} | head -1")
    assert ids(tmp_path, ledger) == ["web01"]
    write(tmp_path, f"{COUNTS} | head -1", ttl=1000)
    ids(tmp_path, ledger)
    assert runs(tmp_path) == 2


def test_without_a_ledger_it_runs_and_nothing_is_kept(tmp_path: Path, ledger: Ledger) -> None:
    write(tmp_path)
    assert ids(tmp_path, None) == ids(tmp_path, None) == ["web01", "web02"]
    assert runs(tmp_path) == 2
    assert not ledger.state.inventories


def test_a_long_answer_is_kept_whole(tmp_path: Path, ledger: Ledger) -> None:
    write(tmp_path, "echo 'n[0001-3000].with.a.rather.long.name.example.com'")
    assert len(ids(tmp_path, ledger)) == 3000
    with Ledger.open(tmp_path / ".fleet") as other:
        assert len(other.state.inventories["cloud"].workers) == 3000


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo nothing; echo no key >&2; exit 3", "ended with exit status 3: no key"),
        ("exit 1", "exit status 1, and said nothing on stderr"),
        ("kill -9 $$", "ended with SIGKILL"),
        ("echo a b", 'printed "a b" on line 1'),
    ],
)
def test_a_command_that_fails_is_told_of(
    tmp_path: Path, ledger: Ledger, command: str, words: str
) -> None:
    write(tmp_path, command)
    with pytest.raises(FleetError) as caught:
        inventory.known(tmp_path, ledger)
    assert words in caught.value.sentence and "inventory cloud" in caught.value.sentence
    assert (caught.value.exit_code, caught.value.field) == (2, "inventory.cloud.command")


def test_an_older_answer_does_not_stand_in_for_one_that_failed(
    tmp_path: Path, ledger: Ledger
) -> None:
    write(tmp_path, ttl=0)
    ids(tmp_path, ledger)
    (tmp_path / "list").unlink()
    with pytest.raises(FleetError, match="exit status 1: cat: list"):
        ids(tmp_path, ledger)


def test_a_program_that_is_not_there_is_told_of(tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "fleet.toml").write_text('[inventory.a]\ncommand = ["./nothing"]\n')
    with pytest.raises(FleetError, match=r"cannot be started: \./nothing: No such file"):
        ids(tmp_path, ledger)


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "SECONDS", 0.2)
    write(tmp_path, "sleep 300 & echo $! > pid; wait")
    with pytest.raises(FleetError, match=r"had not ended after 0\.2 seconds"):
        ids(tmp_path, ledger)
    pid = int((tmp_path / "pid").read_text())
    while Path(f"/proc/{pid}/stat").exists():
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break


def test_a_command_may_not_wait_for_itself(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "echo $FLEET_INVENTORY > told")
    ids(tmp_path, ledger)
    told = (tmp_path / "told").read_text().strip()
    assert told == "cloud"
    monkeypatch.setenv(inventory.ASKING, told)
    with pytest.raises(FleetError, match="asks for inventory cloud itself"):
        ids(tmp_path, ledger)


ASKER = """
import sys
from pathlib import Path
from codewhale_fleet.engine import inventory
from codewhale_fleet.errors import FleetError
from codewhale_fleet.ledger.store import Ledger
with Ledger.open(Path(sys.argv[1]) / ".fleet") as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        print(*inventory.known(Path(sys.argv[1]), ledger).workers)
    except FleetError as error:
        print(error.sentence)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "says"),
    [
        (f"sleep 2; {COUNTS}", "web01 web02"),
        (f"sleep 2; {COUNTS}; exit 9", "exit status 9"),
    ],
)
@pytest.mark.parametrize("ttl", [300, 0])
def test_many_who_ask_at_once_get_one_answer_of_one_command(
    tmp_path: Path, ledger: Ledger, command: str, says: str, ttl: int
) -> None:
    write(tmp_path, command, ttl=ttl)
    env = {**os.environ, "PYTHONPATH": str(Path(inventory.__file__).parents[2])}
    askers = [
        subprocess.Popen(
            [sys.executable, "-c", ASKER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            text=True,
        )
        for _ in range(12)
    ]
    for asker in askers:
        assert asker.stdout and asker.stdout.readline() == "ready\n"
    for asker in askers:
        assert asker.stdin
        asker.stdin.write("\n")
        asker.stdin.flush()
    told = [asker.communicate(timeout=60)[0] for asker in askers]
    assert all(says in one for one in told), told
    assert runs(tmp_path) == 1
