import os
import subprocess
from pathlib import Path

import pytest

from codewhale_fleet.errors import Damaged, FleetError, Refused
from codewhale_fleet.ledger import place
from codewhale_fleet.ledger.place import check_mount, find_fleet_dir, kind_of_mount
from codewhale_fleet.ledger.store import Ledger

from .builders import a_ledger, beat

MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /home rw - nfs4 server:/home rw
31 30 0:41 / /home/me/local rw - xfs /dev/vdb rw
32 22 0:42 / /mnt/with\040space rw - cifs //server/share rw
33 22 0:43 / /mnt/c rw - 9p drvfs rw
34 22 0:44 / /over rw - ext4 /dev/vdc rw
35 34 0:45 / /over rw - nfs server:/over rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/x", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/work", "nfs4"),
        ("/home/me/local/work", "xfs"),
        ("/homestead", "ext4"),
        ("/mnt/with space/a", "cifs"),
        ("/mnt/c/Users", "9p"),
        ("/over/x", "nfs"),
    ],
)
def test_the_deepest_and_latest_mount_tells_the_file_system(path: str, kind: str) -> None:
    assert kind_of_mount(Path(path), MOUNTS) == kind


def test_a_network_file_system_is_refused_with_what_to_write(tmp_path: Path) -> None:
    mounts = f"30 22 0:40 / {tmp_path} rw - nfs4 server:/home rw\n"
    with pytest.raises(Refused, match="lies on nfs4") as found:
        check_mount(tmp_path, mounts)
    assert "dir: /local/path" in found.value.hint
    check_mount(tmp_path, MOUNTS)
    check_mount(tmp_path, "")


def test_a_fleet_file_names_the_directory(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".fleet").write_text("dir: ../elsewhere/fleet\n")
    ledger = Ledger.open(tmp_path / "work" / ".fleet", create=True)
    assert ledger.dir.resolve() == tmp_path / "elsewhere" / "fleet"
    assert Ledger.open(tmp_path / "work" / ".fleet").state.fleet == ledger.state.fleet
    (tmp_path / "work" / ".fleet").write_text("what is this\n")
    with pytest.raises(FleetError, match='not one that says "dir: PATH"'):
        Ledger.open(tmp_path / "work" / ".fleet")


def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    a_ledger(tmp_path).close()
    assert os.geteuid() == 0, "this test gives a directory away: run it as root"
    os.chown(tmp_path / ".fleet", 1234, 1234)
    for create in (False, True):
        with pytest.raises(Refused, match=r"belongs to another user \(uid 1234\)") as found:
            Ledger.open(tmp_path / ".fleet", create=create)
        assert found.value.exit_code == 4


def test_a_directory_that_was_opened_to_others_is_closed_again(tmp_path: Path) -> None:
    a_ledger(tmp_path).close()
    (tmp_path / ".fleet").chmod(0o755)
    Ledger.open(tmp_path / ".fleet")
    assert (tmp_path / ".fleet").stat().st_mode & 0o777 == 0o700


def test_an_unreadable_directory_is_a_sentence(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from codewhale_fleet.errors import FleetError
from codewhale_fleet.ledger.store import Ledger
os.setgid(1234); os.setuid(1234)
try:
    Ledger.open(Path(sys.argv[1]))
except FleetError as error:
    print(error.sentence)
"""
    a_ledger(tmp_path).close()
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    (tmp_path / ".fleet").chmod(0)
    os.chown(tmp_path / ".fleet", 1234, 1234)
    done = subprocess.run(
        ["python3", "-c", script, str(tmp_path / ".fleet")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(_paths())},
    )
    assert "can't be read: you lack the permission" in done.stdout, done.stderr


def _paths() -> list[str]:
    import msgspec

    return [str(Path(__file__).parents[2]), str(Path(msgspec.__file__).parents[1])]


def test_a_read_only_directory_can_be_read_and_not_written(tmp_path: Path) -> None:
    a_ledger(tmp_path).close()
    folder = tmp_path / ".fleet"
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        ledger = Ledger.open(folder)
        assert ledger.state.runs["r0"].result == "completed"
        with pytest.raises(Damaged, match="can't be written: Read-only file system"):
            beat(ledger)
        ledger.settle()
        ledger.close()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_the_fleet_is_that_of_the_nearest_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_fleet_dir(deep) is None
    (tmp_path / "a" / ".fleet").mkdir()
    assert find_fleet_dir(deep) == tmp_path / "a" / ".fleet"
    (tmp_path / "a" / "b" / "fleet.toml").touch()
    assert find_fleet_dir(deep) == tmp_path / "a" / "b" / ".fleet"


@pytest.mark.parametrize("border", ["git", "home", "mount"])
def test_the_search_ends_at_a_border(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, border: str
) -> None:
    (tmp_path / ".fleet").mkdir()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_fleet_dir(deep) == tmp_path / ".fleet"
    if border == "git":
        (tmp_path / "a" / ".git").touch()
    elif border == "home":
        monkeypatch.setenv("HOME", str(tmp_path / "a"))
    else:
        monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "a")
    assert find_fleet_dir(deep) is None
    (tmp_path / "a" / ".fleet").mkdir()
    assert find_fleet_dir(deep) == tmp_path / "a" / ".fleet"


def test_what_another_user_owns_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".fleet").mkdir()
    (tmp_path / "a" / ".fleet").mkdir(parents=True)
    os.chown(tmp_path / "a" / ".fleet", 1234, 1234)
    assert find_fleet_dir(tmp_path / "a") == tmp_path / ".fleet"


def test_the_mounts_of_this_machine_can_be_read() -> None:
    assert place.kind_of_mount(Path("/proc"), place.read_mounts()) == "proc"
