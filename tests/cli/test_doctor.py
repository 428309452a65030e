"""Is this machine fit, and if not, what to do."""

import json
from pathlib import Path

from codewhale_fleet.cli import doctor

from .driver import fleet

NFS = "36 35 98:0 / / rw - ext4 /dev/root rw\n40 36 0:44 / /home rw - nfs4 server:/home rw\n"


def test_a_fit_machine_is_told_line_by_line(tmp_path: Path) -> None:
    done = fleet(tmp_path, "doctor")
    assert done.returncode == 0, done.stdout
    for name in ("python", "platform", "file system", "free disk", "locks", "sync", "holes",
                 "sockets", "processes", "on PATH"):  # fmt: skip
        assert f" {name} " in done.stdout
    assert "All is well" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_same_in_json(tmp_path: Path) -> None:
    fleet(tmp_path, "init")
    made = json.loads(fleet(tmp_path, "doctor", "--json").stdout)
    assert made["ok"] is True
    states = {check["name"]: check["state"] for check in made["checks"]}
    assert states["fleet"] == "ok"
    assert set(states.values()) <= {"ok", "note"}


def test_a_damaged_ledger_is_one_bad_line_and_exit_code_1(tmp_path: Path) -> None:
    fleet(tmp_path, "init")
    (tmp_path / ".fleet" / "fleet.jsonl").write_text("garbage\n")
    done = fleet(tmp_path, "doctor")
    assert done.returncode == 1
    assert "bad  fleet " in done.stdout
    assert "1 to do" in done.stdout


def test_a_wrong_fleet_toml_is_one_bad_line(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text("[fleet\n")
    done = fleet(tmp_path, "doctor")
    assert done.returncode == 1
    assert "fleet.toml:1" in done.stdout


def test_a_network_file_system_is_refused_with_what_to_do() -> None:
    check = doctor.file_system(Path("/home"), NFS)
    assert (check.state, check.seen) == ("bad", "nfs4 at /home")
    assert "dir: /local/path" in check.advice


def test_an_old_python_is_told() -> None:
    assert doctor.python((3, 10, 4)).state == "bad"
    assert doctor.python((3, 13, 0)).state == "ok"


def test_another_platform_is_told() -> None:
    assert doctor.platform("darwin").state == "bad"


def test_missing_programs_are_a_remark_only() -> None:
    states = {check.name: check.state for check in doctor.programs("/nonexistent")}
    assert states["not on PATH"] == "note"


def test_what_goes_wrong_in_a_check_is_its_answer() -> None:
    def broken() -> doctor.Check:
        raise OSError(38, "Function not implemented")

    assert doctor.tried("holes", broken).state == "bad"


def test_too_little_room_is_told_by_the_limit_that_stops_runs(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text("[disk]\nstop_below_mb = 900000000\n")
    assert fleet(tmp_path, "init").returncode == 0
    told = fleet(tmp_path, "doctor")
    assert "nothing starts below 900,000,000 MB (disk.stop_below_mb)" in told.stdout
    assert told.returncode != 0
