"""Git in a sandboxed attempt's own worktree, and what the fleet's git does with what it left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.conftest import SANDBOX, Confiner
from tests.worker.driver import Message
from tests.worker.test_workspace import a_repository, drop, git, isolate, patch_of

pytestmark = pytest.mark.slow

ME = "git config --get user.name >/dev/null; export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b.c; \
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b.c; "


def run(manager: Confiner, name: str, text: str, kind: str = "worktree", **more: Any) -> Message:
    own = isolate(manager, name, kind, **more.pop("own", {}))
    box = {**SANDBOX, "workspace": "write", **more.pop("box", {})}
    return manager.run(name, ["sh", "-c", text], sandbox=box, **own, **more)


def files_of(root: Path) -> dict[str, tuple[int, bytes]]:
    """Everything in a repository's git directory that somebody could act by."""
    found = {}
    for path in sorted((root / ".git").rglob("*")):
        if path.is_file() and "worktrees" not in path.parts and path.name != "index":
            found[str(path)] = (path.stat().st_mode, path.read_bytes())
    return found


def test_status_add_diff_and_commit_work_in_it(manager: Confiner) -> None:
    base = a_repository(manager.root)
    git(manager.root, "gc", "-q")
    text = (
        ME + "set -e; echo new > new.txt; echo more >> a.txt; git status --short; git diff --stat; "
        "git add -A; git commit -q -m mine; git log --oneline | wc -l; git show --stat HEAD; "
        "git rm -q gone.txt; git diff --cached --stat; git cat-file -t HEAD"
    )
    before = files_of(manager.root)
    end = run(manager, "a", text)
    out = manager.out(end)
    assert end.get("exit") == 0, str(end)
    assert " M a.txt" in out and "?? new.txt" in out and "\n2\n" in out and "commit" in out
    patch = patch_of(manager, end)
    assert "+more" in patch and "b/new.txt" in patch and "deleted file" in patch
    assert end["base"] == base and "unsaved" not in end
    assert files_of(manager.root) == before
    assert git(manager.root, "fsck", "--strict") == ""
    drop(manager, end)
    assert git(manager.root, "worktree", "list").count("\n") == 1


def test_its_steps_see_the_same_repository(manager: Confiner) -> None:
    a_repository(manager.root)
    step = {"kind": "command", "out": "logs/s.out", "err": "logs/s.err"}
    step["argv"] = ["sh", "-c", "git log --oneline | wc -l; git status --short"]
    end = run(manager, "a", ME + "git commit -q --allow-empty -m x && touch y", steps=[step])
    assert manager.out(end["steps"][0]).split() == ["2", "??", "y"], end


def test_a_copy_works_too(manager: Confiner) -> None:
    a_repository(manager.root)
    end = run(manager, "a", ME + "echo x > new; git add new; git commit -q -m x", kind="copy")
    assert end["exit"] == 0 and "b/new" in patch_of(manager, end)
    assert "new" not in git(manager.root, "status", "--short")


def test_the_main_checkout_cannot_be_written_from_it(manager: Confiner) -> None:
    a_repository(manager.root)
    before = files_of(manager.root)
    tries = [
        "git config core.fsmonitor /tmp/evil",
        'echo evil > "$(git rev-parse --git-common-dir)/hooks/pre-commit"',
        'mkdir "$(git rev-parse --git-common-dir)/evil"',
        'mv "$(git rev-parse --git-dir)" "$(git rev-parse --git-common-dir)/worktrees/moved"',
        "rm -f .git", "mv .git .g", "echo gitdir: /tmp > .git",
        "git branch evil", "git tag evil", "git update-ref refs/heads/main HEAD~0 && git tag t",
        "git remote add evil /tmp", "git worktree add /tmp/w",
        f"ls {manager.root}/a.txt", f"echo evil > {manager.root}/.git/config",
        f"ln {manager.root}/.git/config here",
    ]  # fmt: skip
    text = "\n".join(f"({one}) 2>/dev/null && echo did: '{one}'" for one in tries)
    text += '\necho / > "$(git rev-parse --git-dir)/commondir"'
    end = run(manager, "a", text + f"\necho evil > {manager.root}/a.txt; true")
    assert (manager.root / "a.txt").read_text().startswith("line 0")
    assert "logs" not in end or "did:" not in manager.out(end), manager.out(end)
    assert files_of(manager.root) == before
    meta = next((manager.root / ".git/worktrees").iterdir())
    assert (meta / "commondir").read_text() == "../..\n"
    assert not (meta / "config.worktree").exists()
    assert (meta / "gitdir").read_text() == f"{manager.fleet}/{end['isolated']}/.git\n"


def test_the_fleets_git_runs_nothing_that_the_attempt_wrote(
    manager: Confiner, tmp_path: Path
) -> None:
    """Filters and drivers that name a program below the checkout, which the attempt replaces."""
    root = manager.root
    (root / "tools").mkdir()
    (root / "tools/clean").write_text("#!/bin/sh\ncat\n")
    (root / "tools/clean").chmod(0o755)
    (root / ".gitattributes").write_text("*.txt filter=own diff=own\n")
    a_repository(root)
    for key in ("filter.own.clean", "filter.own.smudge", "diff.own.textconv", "diff.own.command"):
        git(root, "config", key, "./tools/clean")
    canary = tmp_path / "canary"
    home = tmp_path / "home/secret"
    home.write_text("hidden\n")
    evil = f"#!/bin/sh\nid > {canary}\ncat {home} {manager.fleet}/fleet.jsonl >&2\n"
    evil += f"echo x > {root}/evil; cat; cat {home}\n"
    text = f"cat > tools/clean <<'E'\n{evil}E\necho changed >> a.txt; echo new > new.txt"
    for kind in ("worktree", "copy"):
        end = run(manager, kind, text, kind=kind)
        assert end.get("exit") == 0, str(end)
        assert not canary.exists() and not (root / "evil").exists(), kind
        patch = patch_of(manager, end)
        assert "+changed" in patch and "hidden" not in patch
        own = {"continue": f"evidence/{next(a['sha256'] for a in end['artifacts'])}"}
        again = run(manager, f"{kind}-again", "cat a.txt", kind=kind, own={**own, "continues": "x"})
        assert not canary.exists() and not (root / "evil").exists(), kind
        drop(manager, again)
        drop(manager, end)
        assert not canary.exists() and not (root / "evil").exists(), kind


def test_a_poisoned_index_and_poisoned_objects_do_not_change_its_patch(manager: Confiner) -> None:
    """Assumed-unchanged entries, objects under another's name, alternates of the attempt's."""
    a_repository(manager.root)
    tree = git(manager.root, "rev-parse", "HEAD^{tree}").strip()
    text = f"""
        git update-index --assume-unchanged a.txt; git update-index --skip-worktree run.sh
        objects="$(git rev-parse --git-common-dir)/objects"
        mkdir -p "$objects/{tree[:2]}"
        printf 'tree 0\\0' | /usr/bin/env python3 -c 'import sys,zlib
sys.stdout.buffer.write(zlib.compress(sys.stdin.buffer.read()))' > "$objects/{tree[:2]}/{tree[2:]}"
        echo /tmp > "$objects/info/alternates"
        echo hidden change >> a.txt; echo other >> run.sh
    """
    end = run(manager, "a", text)
    patch = patch_of(manager, end)
    assert "+hidden change" in patch and "+other" in patch
    assert patch.count("diff --git") == 2 and "unsaved" not in end
    git(manager.root, "apply", "--check", given=patch.encode())


def test_what_git_ignores_is_in_its_patch_where_it_was_added_by_force(manager: Confiner) -> None:
    a_repository(manager.root)
    end = run(manager, "a", "echo x > made.o; echo y > other.o; git add -f made.o")
    patch = patch_of(manager, end)
    assert "b/made.o" in patch and "other.o" not in patch


def test_no_file_called_like_the_fleets_directory_comes_back(manager: Confiner) -> None:
    a_repository(manager.root)
    text = "mkdir sub; echo 'dir: /tmp' > .fleet; echo 'dir: /tmp' > sub/.fleet; echo x > kept.txt"
    patch = patch_of(manager, run(manager, "a", text))
    assert "kept.txt" in patch and ".fleet" not in patch


def test_in_a_shared_workspace_the_repository_can_be_read_and_not_written(
    manager: Confiner,
) -> None:
    a_repository(manager.root)
    (manager.root / "fleet.toml").write_text("[fleet]\n")
    before = files_of(manager.root)
    tries = ["git config a.b c", "git commit -q --allow-empty -m x", "mv .git .g", "rm -rf .git",
             "echo x > .git/hooks/post-commit", "echo x > fleet.toml", "mv fleet.toml x",
             "mv .fleet f", "rm -rf .fleet"]  # fmt: skip
    text = "git status --short && echo new > new\n" + "\n".join(
        f"({one}) 2>/dev/null && echo did: '{one}'" for one in tries
    )
    end = manager.confined("a", text + "\ntrue", box={"workspace": "write"})
    assert "did:" not in manager.out(end), manager.out(end)
    assert (manager.root / "new").exists() and files_of(manager.root) == before
    assert (manager.root / "fleet.toml").read_text() == "[fleet]\n"
    assert (manager.fleet / "runtime").is_dir() and list((manager.fleet / "logs").iterdir())
