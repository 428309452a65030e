"""When a directory counts as a copy, and what a restart of the machine has lost."""

from codewhale_fleet.core import commands as c
from codewhale_fleet.core.state import Flight, Manager, Run, State
from codewhale_fleet.engine.facts import lost_on_takeover, was_copied


def known(boot: str = "b1") -> State:
    manager = Manager(epoch=1, pid=1, host="h", boot=boot, device=5, inode=7, ts="")
    run = Run(id="r", name="r", seq=1, ts="", max_workers=1, workspace="/w", status="running")
    run.flights["r/a@1"] = Flight(task="a", worker="r-local-1", boot=boot, ts="")
    return State(fleet="fl-1", manager=manager, runs={"r": run}, open_runs={"r": run})


def test_the_same_directory_in_the_same_boot_loses_nothing() -> None:
    assert list(lost_on_takeover(known(), "b1", 5, 7)) == []


def test_another_inode_or_device_is_a_copy_and_loses_what_is_in_flight() -> None:
    for device, inode in ((5, 8), (6, 7)):
        renamed, lost = lost_on_takeover(known(), "b1", device, inode)
        assert isinstance(renamed, c.Copied) and renamed.fleet.startswith("fl-")
        assert renamed.fleet != "fl-1" and isinstance(lost, c.ReportLost)
        assert lost.why == "the fleet directory was copied or restored"


def test_a_device_number_that_changes_with_a_restart_is_no_copy() -> None:
    (lost,) = lost_on_takeover(known(), "b2", 6, 7)
    assert isinstance(lost, c.ReportLost) and lost.why == "the machine was restarted"
    assert not was_copied(State(), "b1", 1, 1)
