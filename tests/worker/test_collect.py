"""Artifacts and evidence: found, checked, hashed; nothing outside the workspace."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.worker import collect, limits
from tests.worker.driver import Manager


def result(work: Any) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value


def artifacts_of(root: Path, **patterns: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = result(
        collect.artifacts({"root": str(root), "artifacts": patterns, "expected": list(patterns)})
    )
    return found


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.md", ["a.md"]),
        ("*.md", ["a.md", "b.md"]),
        ("out/*.txt", ["out/x.txt"]),
        ("*/*.txt", ["out/x.txt"]),
        ("**/*.txt", ["out/deep/y.txt", "out/x.txt"]),
        ("**", ["a.md", "b.md", "out/deep/y.txt", "out/x.txt"]),
        ("out/**/*", ["out/deep/y.txt", "out/x.txt"]),
        (".h*", [".hidden"]),
        ("[ab].md", ["a.md", "b.md"]),
        ("./out//x.txt", ["out/x.txt"]),
    ],
)
def test_patterns_match_as_in_a_shell(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    make(tmp_path, "a.md", "b.md", ".hidden", "out/x.txt", "out/deep/y.txt", ".git/c.txt")
    found = artifacts_of(tmp_path, kind=[pattern])
    assert sorted(entry["path"] for entry in found["artifacts"]) == expected


def test_an_artifact_has_kind_path_digest_mime_and_size(tmp_path: Path) -> None:
    make(tmp_path, "report.md", "data.json", "page.html", "plain")
    found = artifacts_of(tmp_path, report=["report.md"], rest=["data.json", "page.html", "plain"])
    assert found["artifacts"][0] == {
        "kind": "report",
        "path": "report.md",
        "sha256": hashlib.sha256(b"report.md").hexdigest(),
        "mime": "text/markdown",
        "size": 9,
    }
    assert [entry["mime"] for entry in found["artifacts"][1:]] == [
        "application/json",
        "text/html",
        "application/octet-stream",
    ]


def test_an_expected_kind_without_a_file_is_missing(tmp_path: Path) -> None:
    make(tmp_path, "a.md")
    assert artifacts_of(tmp_path, report=["a.md"], patch=["*.patch"])["missing"] == ["patch"]


def test_nothing_outside_the_workspace_is_an_artifact(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "work"
    make(tmp_path, "outside/secret.md", "work/inside.md")
    (root / "link.md").symlink_to(outside / "secret.md")
    (root / "linked").symlink_to(outside)
    (root / "fine.md").symlink_to("inside.md")

    for pattern in ("link.md", "linked/secret.md", "linked/*.md", "linked/**/*.md"):
        found = artifacts_of(root, kind=[pattern])
        assert found["missing"] == ["kind"] and "artifacts" not in found
        assert "outside the workspace" in found["artifact_errors"][0]
    for pattern in ("../outside/*.md", str(outside / "*.md"), "a/../../outside/secret.md"):
        found = artifacts_of(root, kind=[pattern])
        assert found["artifact_errors"] == [
            f"kind: the pattern {pattern} leads outside the workspace"
        ]
    assert artifacts_of(root, kind=["fine.md"])["artifacts"][0]["path"] == "fine.md"


def test_only_regular_files_are_artifacts(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    found = artifacts_of(tmp_path, kind=["*"])
    assert found["artifact_errors"] == ["kind: pipe: unreadable: it is no regular file"]


def test_the_number_and_the_size_of_artifacts_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, *(f"{number}.md" for number in range(5)))
    monkeypatch.setattr(limits, "ARTIFACT_FILES", 3)
    found = artifacts_of(tmp_path, kind=["*.md"])
    assert len(found["artifacts"]) == 3 and "more than 3 files" in found["artifact_errors"][0]
    monkeypatch.setattr(limits, "ARTIFACT_BYTES", 5)
    found = artifacts_of(tmp_path, kind=["0.md", "1.md"])
    assert len(found["artifacts"]) == 1 and "exceed 5 bytes" in found["artifact_errors"][0]


def test_evidence_is_kept_by_its_digest(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "big.txt")
    (tmp_path / "link").symlink_to("/etc/hostname")
    wanted = [
        {"path": "a.txt", "cap": 100},
        {"path": "big.txt", "cap": 6},
        {"path": "none.txt"},
        {"path": "link"},
        {"path": "../x"},
        {"path": "."},
    ]
    store = tmp_path / "store"
    plan = {"root": str(tmp_path), "evidence": wanted}
    found = result(collect.evidence(plan, str(store)))["evidence"]

    digest = hashlib.sha256(b"a.txt").hexdigest()
    assert found["a.txt"] == {"sha256": digest, "size": 5}
    assert (store / digest).read_text() == "a.txt"
    assert (store / digest).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in store.iterdir()] == [digest]
    assert found["big.txt"] == {"error": "too large"}
    assert found["none.txt"] == {"error": "missing"}
    assert found["link"] == found["../x"] == {"error": "outside the workspace"}
    assert found["."] == {"error": "unreadable: it is a directory"}


def test_an_end_carries_artifacts_and_evidence(manager: Manager) -> None:
    end = manager.run(
        "a",
        ["sh", "-c", "mkdir out; echo done > out/report.md; echo '{}' > result.json"],
        artifacts={"report": ["out/*.md"], "patch": ["*.patch"]},
        expected=["report", "patch"],
        evidence=[{"path": "result.json", "cap": 1000}, {"path": "gone", "cap": 1000}],
    )
    assert [entry["path"] for entry in end["artifacts"]] == ["out/report.md"]
    assert end["missing"] == ["patch"]
    kept = end["evidence"]["result.json"]
    assert (manager.fleet / "evidence" / kept["sha256"]).read_text() == "{}\n"
    assert end["evidence"]["gone"] == {"error": "missing"}


def test_a_large_artifact_does_not_hold_up_others(manager: Manager) -> None:
    attempt = manager.start(
        "big", ["truncate", "-s", "80M", "big"], artifacts={"data": ["big"]}, slots=4
    )
    others = [manager.start(f"t{number}", ["true"], slots=4) for number in range(3)]
    for other in others:
        manager.end_of(other)
    assert manager.end_of(attempt)["artifacts"][0]["size"] == 80 * 1024 * 1024
