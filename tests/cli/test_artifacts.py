import os
from pathlib import Path

from codewhale_fleet.core import events as e

from .scene import Scene, digest


def a_report(scene: Scene) -> None:
    scene.run("a")
    attempt = scene.place("a")
    (scene.root / "out").mkdir()
    (scene.root / "out" / "r.md").write_text("report\n")
    kept = scene.ledger.dir / "evidence" / digest("proof")
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("proof")
    report = e.Artifact(
        kind="report", path="out/r.md", sha256=digest("report\n"), mime="text/markdown", size=7
    )
    scene.ended(
        attempt,
        logs=scene.log(attempt, "hello\n"),
        artifacts=[report],
        evidence={"out/proof.txt": e.Evidence(sha256=digest("proof"), size=5)},
    )
    scene.finish()


def test_logs_artifacts_and_evidence_are_listed_with_size_and_digest(scene: Scene) -> None:
    a_report(scene)
    out = scene.fleet("artifacts", "@last").out.splitlines()
    evidence = f".fleet/evidence/{digest('proof')}"
    width = len(evidence)
    assert out[:3] == [
        f"a@1  log       {'.fleet/logs/demo-abc234/a.1.out':<{width}}  6 bytes  "
        f"{digest('hello' + chr(10))[:12]}",
        f"a@1  report    {'out/r.md':<{width}}  7 bytes  {digest('report' + chr(10))[:12]}",
        f"a@1  evidence  {evidence}  5 bytes  {digest('proof')[:12]}  of out/proof.txt",
    ]
    assert out[-1] == "To take them along: fleet artifacts demo-abc234 --copy-to DIR"


def test_files_can_be_taken_along(scene: Scene, tmp_path: Path) -> None:
    a_report(scene)
    told = scene.fleet("artifacts", "@last/a", "--copy-to", str(tmp_path / "to"))
    assert (told.code, told.out.splitlines()[-1]) == (0, f"Copied to {tmp_path}/to")
    copied = {
        str(path.relative_to(tmp_path / "to")): path.read_text()
        for path in (tmp_path / "to").rglob("*")
        if path.is_file()
    }
    assert copied == {
        "a.1/log/a.1.out": "hello\n",
        "a.1/report/out/r.md": "report\n",
        "a.1/evidence/out/proof.txt": "proof",
    }


def test_a_file_that_changed_since_or_is_gone_is_said_and_fails(scene: Scene) -> None:
    a_report(scene)
    (scene.root / "out" / "r.md").write_text("forged\n")
    (scene.ledger.dir / "logs" / "demo-abc234" / "a.1.out").unlink()
    told = scene.fleet("artifacts", "@last", "--copy-to", str(scene.root / "to"))
    assert told.code == 1
    assert "not as it was  out/r.md" in told.out
    assert "it has changed since the attempt ended" in told.out
    assert "no such file or directory" in told.out


def test_a_link_or_a_pipe_that_took_the_place_of_a_file_is_not_copied(scene: Scene) -> None:
    a_report(scene)
    there = scene.root / "out" / "r.md"
    for put, why in (
        (lambda: there.symlink_to("/etc/passwd"), "outside the workspace"),
        (lambda: os.mkfifo(there), "it is no regular file"),
    ):
        there.unlink()
        put()
        told = scene.fleet("artifacts", "@last", "--copy-to", str(scene.root / "to"))
        assert told.code == 1 and why in told.out
        assert not (scene.root / "to/a.1/report/out/r.md").exists()


def test_a_task_without_files_says_so(scene: Scene) -> None:
    scene.run("a")
    assert scene.fleet("artifacts", "a").out == (
        "demo-abc234/a has left no files yet.\n\nTo see why: fleet explain demo-abc234/a\n"
    )
