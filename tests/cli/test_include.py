"""What of the workspace goes with a task: a directory of its own, and nothing else in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from codewhale_fleet.engine import bundling
from codewhale_fleet.worker import bundle
from codewhale_fleet.worker.collect import Refusal as Unchosen
from codewhale_fleet.worker.git import Refusal


def tree(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{path}\n")


def laid(root: Path, *wanted: str) -> list[str]:
    """What lies where the bundle of these patterns was laid out."""
    fleet = root / ".fleet"
    target = root.parent / f"laid-{len(list(root.parent.iterdir()))}"
    bundle.lay(str(fleet), bundling.make(str(root), list(wanted), fleet), str(target))
    found = [path for path in target.rglob("*") if not path.is_dir() or path.is_symlink()]
    return sorted(str(path.relative_to(target)) for path in found)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    tree(root, "a.py", "src/b.py", "src/deep/c.py", "src/.hidden", ".git/config", "src/.git/x")
    tree(root, ".fleet/ledger", "docs/d.md")
    return root


def test_globs_files_and_whole_directories_are_taken_in(work: Path) -> None:
    assert laid(work, "*.py") == ["a.py"]
    assert laid(work, "src/**/*.py", "docs") == ["docs/d.md", "src/b.py", "src/deep/c.py"]
    assert laid(work, "src") == ["src/.hidden", "src/b.py", "src/deep/c.py"]
    everything = ["a.py", "docs/d.md", "src/.hidden", "src/b.py", "src/deep/c.py"]
    assert laid(work, ".") == everything
    assert laid(work, ".git/config") == [".git/config"]


def test_contents_modes_and_links_come_as_they_are(work: Path, tmp_path: Path) -> None:
    (work / "a.py").chmod(0o755)
    (work / "src/b.py").chmod(0o444)
    (work / "src/near").symlink_to("b.py")
    (work / "src/up").symlink_to("../a.py")
    fleet = work / ".fleet"
    digest = bundling.make(str(work), ["src", "a.py"], fleet)
    bundle.lay(str(fleet), digest, str(tmp_path / "there"), "src/empty")
    there = tmp_path / "there"
    assert (there / "a.py").stat().st_mode & 0o777 == 0o755
    assert (there / "src/b.py").stat().st_mode & 0o777 == 0o444
    assert (there / "src/near").readlink() == Path("b.py")
    assert (there / "src/up").read_text() == "a.py\n"
    assert (there / "src/empty").is_dir()
    assert bundling.make(str(work), ["a.py", "src"], fleet) == digest
    assert laid(work, "src/up") == ["src/up"]  # alone it is what it leads to


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("none/*", "matches no file"),
        ("out", "leads out of the workspace"),
        ("src/../../x", "outside the workspace"),
        ("/etc/passwd", "outside the workspace"),
        ("broken", "leads to nothing"),
        ("folder", "a directory that is not included"),
        ("fifo", "neither a file nor a link"),
        ("folder/c.py", "lies behind a link"),
        ("own", "the fleet's own"),
        (".fleet", "matches no file"),
    ],
)
def test_what_cannot_be_taken_in_says_why(work: Path, wanted: str, words: str) -> None:
    (work / "out").symlink_to("/etc/passwd")
    (work / "broken").symlink_to("nowhere")
    (work / "folder").symlink_to("src/deep")
    (work / "own").symlink_to(".fleet/ledger")
    os.mkfifo(work / "fifo")
    with pytest.raises(Unchosen, match=words):
        bundling.make(str(work), [wanted], work / ".fleet")


@pytest.mark.parametrize("name", [".env", "id_ed25519", "key.pem", ".env.local", "site.key"])
def test_what_looks_like_a_secret_goes_only_by_its_whole_name(work: Path, name: str) -> None:
    tree(work, f"conf/{name}", "conf/id_map.py", "conf/.env.example", "conf/id_rsa.pub")
    with pytest.raises(Unchosen, match=f"takes in conf/{name}, which looks like a secret"):
        laid(work, "conf")
    rest = ["conf/.env.example", "conf/id_map.py", "conf/id_rsa.pub"]
    assert laid(work, f"conf/{name}", *rest) == sorted([f"conf/{name}", *rest])
    (work / "plain").symlink_to(f"conf/{name}")
    with pytest.raises(Unchosen, match="looks like a secret"):
        laid(work, "plain")


def test_a_bundle_has_limits(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundling, "FILES", 2)
    with pytest.raises(Unchosen, match="takes in more than 2 files"):
        laid(work, "src")
    monkeypatch.setattr(bundling, "FILES", 9)
    monkeypatch.setattr(bundling, "BYTES", 9)
    with pytest.raises(Unchosen, match="bytes, more than the 9 that travel"):
        laid(work, "src")


SOME = "0" * 64


@pytest.mark.parametrize(
    ("files", "links", "words"),
    [
        ([["../x", 0o644, SOME]], [], "no path of a bundle"),
        ([["/x", 0o644, SOME]], [], "no path of a bundle"),
        ([["a//x", 0o644, SOME]], [], "no path of a bundle"),
        ([[".fleet/x", 0o644, SOME]], [], "no path of a bundle"),
        ([["x", 0o4755, SOME]], [], "the mode of x"),
        ([["x", 0o644, "../../etc/passwd"]], [], "64 hexadecimal"),
        ([["x", 0o644, SOME], ["x", 0o644, SOME]], [], "names a file twice"),
        ([["l/x", 0o644, SOME]], [["l", "a"]], "lies below a file"),
        ([], [["l", "/etc"]], "leads out"),
        ([], [["a/l", "../../etc"]], "leads out"),
        ([], [["l", "a/../../b"]], "leads out"),
        ([["x", 0o644]], [], "damaged"),
        ([["x", 0o644, SOME]], [], "has not come here"),
    ],
)
def test_no_manifest_leads_out_of_where_it_is_laid(
    tmp_path: Path, files: list[object], links: list[object], words: str
) -> None:
    from hashlib import sha256

    data = json.dumps({"files": files, "links": links}).encode()
    digest = sha256(data).hexdigest()
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / digest).write_bytes(data)
    with pytest.raises(Refusal, match=words):
        bundle.lay(str(tmp_path), digest, str(tmp_path / "there"))
    assert sorted(path.name for path in tmp_path.iterdir()) in (["inputs"], ["inputs", "there"])


def test_what_is_damaged_is_not_laid_out(work: Path, tmp_path: Path) -> None:
    fleet = work / ".fleet"
    digest = bundling.make(str(work), ["a.py"], fleet)
    kept = next(one for one in (fleet / "evidence").iterdir() if one.name != digest)
    kept.write_text("b.py\n")
    with pytest.raises(Refusal, match=r"a\.py of its bundle is damaged"):
        bundle.lay(str(fleet), digest, str(tmp_path / "there"))
