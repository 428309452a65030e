"""`fleet gc` and `fleet ledger compact`: what is removed, what stays, and what is said then."""

import os
import time
from pathlib import Path

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.errors import FleetError
from codewhale_fleet.wire.ages import days, seconds_of_age

from .scene import RUN, Scene, decided, digest, the_usual

OLD = time.time() - 40 * 86_400


def a_long_time_ago(scene: Scene) -> None:
    """What is recorded from now on was so 40 days ago."""
    scene.ledger.clock = lambda: OLD


def today(scene: Scene) -> None:
    scene.ledger.clock = time.time


def old_and_new(scene: Scene) -> list[Path]:
    """A run of long ago, one of today, one that is open; the files that belong to the old one."""
    a_long_time_ago(scene)
    the_usual(scene)
    decided(scene)
    today(scene)
    for name in ("new-aaaaaa", "open-bbbbbb"):
        scene.run("lint", name=name)
        attempt = scene.place("lint", run=name)
        logs = scene.log(attempt, "kept\n")
        if name.startswith("new"):
            scene.ended(attempt, logs=logs)
            scene.finish(name)
    return [scene.ledger.dir / "logs" / RUN / f"lint.1.{stream}" for stream in ("out", "err")]


def files(scene: Scene) -> set[str]:
    return {
        str(path.relative_to(scene.root)) for path in scene.root.rglob("*") if not path.is_dir()
    }


def test_a_dry_run_says_what_the_real_one_removes_and_removes_nothing(scene: Scene) -> None:
    gone = {str(path.relative_to(scene.root)) for path in old_and_new(scene)}
    before = files(scene)
    told = scene.fleet("gc", "--dry-run")
    assert told.code == 0
    assert "Would be removed: 2 files, " in told.out and "older than 30 days" in told.out
    assert "Nothing was removed." in told.out
    planned = scene.fleet("gc", "--dry-run", "--json").json
    assert files(scene) - before <= {".fleet/cache/turn.lock"}
    done = scene.fleet("gc", "--json").json
    assert (done.pop("dry_run"), planned.pop("dry_run")) == (False, True)
    assert done.pop("before") >= planned.pop("before")
    assert done == planned
    assert (done["files"], done["runs"], done["kinds"].keys()) == (2, 1, {"logs"})
    assert done["bytes"] == done["kinds"]["logs"]["bytes"] > 0
    assert before - files(scene) == gone
    assert scene.fleet("gc").out.startswith("Nothing to remove: ")


def test_who_asks_for_what_was_removed_is_told_so(scene: Scene) -> None:
    old_and_new(scene)
    assert scene.fleet("logs", f"{RUN}/lint").out == "linting\n"
    scene.fleet("gc")
    told = scene.fleet("logs", f"{RUN}/lint")
    assert (told.code, told.out) == (2, "")
    assert f"the logs of {RUN}/lint@1 are gone: removed by gc." in told.err
    assert f"fleet receipts {RUN}/lint" in told.err
    assert scene.fleet("logs", f"{RUN}/lint", "--json").error["code"] == "gone"
    listed = scene.fleet("artifacts", RUN)
    assert listed.out.count("removed by gc") == 2
    copied = scene.fleet("artifacts", RUN, "--copy-to", str(scene.root / "to"), "--json").json
    assert [one["copy"]["problem"] for one in copied["artifacts"]] == ["removed by gc"] * 2
    assert scene.fleet("receipts", RUN).out.startswith("pass")
    assert scene.fleet("logs", "new-aaaaaa/lint").out == "kept\n"


def test_a_log_that_somebody_else_removed_is_no_empty_answer(scene: Scene) -> None:
    for path in old_and_new(scene):
        path.unlink()
    told = scene.fleet("logs", f"{RUN}/lint")
    assert told.code == 2
    assert "removed, by somebody else than gc" in told.err


def test_nothing_outside_the_fleet_goes_and_nothing_unknown(scene: Scene, tmp_path: Path) -> None:
    logs = old_and_new(scene)[0].parent
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (outside / "inner" / "precious").write_text("mine")
    (logs / "link").symlink_to(outside / "inner")
    (logs.parent / "nobody-knows").mkdir()
    (logs.parent / "nobody-knows" / "log").write_text("x")
    (scene.ledger.dir / "scratch").symlink_to(outside)
    (outside / RUN).mkdir()
    (outside / RUN / "precious").write_text("mine")
    assert scene.fleet("gc", "--older-than", "1d").code == 0
    assert not logs.exists()
    assert (outside / "inner" / "precious").read_text() == "mine"
    assert (outside / RUN / "precious").read_text() == "mine"
    assert (logs.parent / "nobody-knows" / "log").exists()


def evidence(scene: Scene, text: str) -> tuple[Path, dict[str, e.Evidence]]:
    path = scene.ledger.dir / "evidence" / digest(text)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (OLD, OLD))
    return path, {text: e.Evidence(sha256=digest(text), size=len(text))}


def test_evidence_stays_as_long_as_a_younger_run_refers_to_it(scene: Scene) -> None:
    paths = [evidence(scene, text) for text in ("old", "shared", "young")]
    (old, of_old), (shared, of_shared), (young, of_young) = paths
    for name, kept in ((RUN, {**of_old, **of_shared}), ("new-aaaaaa", {**of_shared, **of_young})):
        a_long_time_ago(scene) if name == RUN else today(scene)
        scene.run("a", name=name)
        scene.ended(scene.place("a", run=name), evidence=kept)
        scene.finish(name)
    scene.run("a", name="open-bbbbbb")
    told = scene.fleet("gc")
    assert "Not looked at: evidence, because a run is open." in told.out
    assert old.exists()
    scene.ask(c.StopRun(run="open-bbbbbb", reason="enough"))
    scene.finish("open-bbbbbb")
    assert scene.fleet("gc", "--json").json["kinds"] == {"evidence": {"files": 1, "bytes": 4096}}
    assert (old.exists(), shared.exists(), young.exists()) == (False, True, True)


def test_fleet_toml_says_how_old_is_old(scene: Scene) -> None:
    old_and_new(scene)
    (scene.root / "fleet.toml").write_text("[retention]\nfiles_days = 50\ndetail_days = 60\n")
    assert "more than 50 days ago" in scene.fleet("gc").out
    assert "more than 60 days ago" in scene.fleet("ledger", "compact").out
    assert scene.fleet("gc", "--older-than", "39d").out.startswith("Removed: 2 files")


@pytest.mark.parametrize("words", [("gc",), ("ledger", "compact")])
@pytest.mark.parametrize("age", ["", "3", "-1d", "1y", "30 d", "99999999d", "d"])
def test_what_is_no_age_is_refused(scene: Scene, words: tuple[str, ...], age: str) -> None:
    the_usual(scene)
    told = scene.fleet(*words, f"--older-than={age}")
    assert told.code == 2
    assert f'"{age}" is no age.' in told.err
    with pytest.raises(FleetError):
        seconds_of_age(age)


def test_ages_are_read_and_said() -> None:
    assert [seconds_of_age(text) for text in ("45s", "1.5h", "30d", "2w")] == [
        45.0, 5400.0, 30 * 86_400.0, 14 * 86_400.0,
    ]  # fmt: skip
    assert [days(one) for one in (86_400.0, 30 * 86_400.0)] == ["1 day", "30 days"]


# Compaction -----------------------------------------------------------------------------------


def test_every_face_says_that_the_detail_was_dropped(scene: Scene) -> None:
    old_and_new(scene)
    before = scene.fleet("receipts", RUN, "--json").json
    told = scene.fleet("ledger", "compact")
    assert told.out.startswith("Compacted: 8 records of 1 run dropped, ")
    said = f"its detail was dropped by compaction on {time.strftime('%Y-%m-%d', time.gmtime())}"
    for words in (
        ("status",),
        ("receipts", RUN),
        ("inspect", RUN),
        ("inspect", f"{RUN}/unit"),
        ("inspect", f"{RUN}/unit@1"),
        ("explain", RUN),
        ("explain", f"{RUN}/unit"),
        ("artifacts", RUN),
    ):
        told = scene.fleet(*words)
        assert said in " ".join(told.out.split()), words
        assert told.code == 0
    after = scene.fleet("receipts", RUN, "--json").json
    assert said == after.pop("compacted")
    for one in (*before["receipts"], *after["receipts"]):
        assert one.pop("artifacts") is not None
    assert after == before
    for command in ("resume", "restart"):
        told = scene.fleet(command, RUN, *(["--failed"] if command == "resume" else []))
        assert told.code == 4
        assert f"{RUN} can't go on: {said}." in told.err
    assert scene.fleet("logs", f"{RUN}/lint").out == "linting\n", "files have a time of their own"
    scene.fleet("gc")
    assert "removed by gc" in scene.fleet("logs", f"{RUN}/lint").err
    assert "(2 segments (1 compacted), " in scene.fleet("ledger", "verify").out
    assert scene.fleet("ledger", "compact").out.startswith("Nothing to compact: ")
    assert scene.fleet("ledger", "compact", "--json").json["segments"] == []


def test_a_ledger_that_compaction_can_not_read_is_left_as_it_is(scene: Scene) -> None:
    old_and_new(scene)
    assert scene.ledger.rotate_if_due(1)
    path = scene.ledger.dir / "segments" / "000001.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"exit":3', b'"exit":4', 1))
    changed = path.read_bytes()
    assert changed != data
    told = scene.fleet("ledger", "compact")
    assert told.code == 5
    assert path.read_bytes() == changed
    assert sorted(path.name for path in path.parent.iterdir()) == ["000001.jsonl"]
