"""Directories of their own for attempts: real git, real files, a real runtime."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.worker.removing import remove
from tests.worker.driver import RUN, Manager, Message, is_alive

pytestmark = pytest.mark.slow

WHO = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgSign=false")


def git(where: Path, *words: str, given: bytes | None = None) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(
        ["git", *WHO, "-c", "protocol.file.allow=always", *words],
        cwd=where,
        env=env,
        input=given,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, (words, done.stderr.decode())
    return done.stdout.decode()


def a_repository(root: Path) -> str:
    """One commit of four files, which it answers."""
    git(root, "init", "-q", "-b", "main")
    (root / "a.txt").write_text("".join(f"line {number}\n" for number in range(20)))
    (root / "gone.txt").write_text("to be deleted\n")
    (root / "old name.txt").write_text("".join(f"kept {number}\n" for number in range(50)))
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / ".gitignore").write_text("*.o\n.env\n.fleet\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "base")
    return git(root, "rev-parse", "HEAD").strip()


def isolate(manager: Manager, name: str, kind: str = "worktree", **more: Any) -> dict[str, Any]:
    """The part of a plan that asks for a directory of its own."""
    stem = name.replace("@", ".") if "@" in name else f"{name}.1"
    relative = f"worktrees/{RUN}/{stem}"
    own = {"kind": kind, "from": str(manager.root), "directory": relative, **more}
    there = str(manager.fleet / relative)
    return {"isolate": own, "root": there, "cwd": there}


def run(manager: Manager, name: str, text: str, kind: str = "worktree", **more: Any) -> Message:
    own = isolate(manager, name, kind, **more.pop("own", {}))
    return manager.run(name, ["sh", "-c", text], **own, **more)


def patch_of(manager: Manager, end: Message) -> str:
    found = [one for one in end.get("artifacts", ()) if one["kind"] == "patch"]
    if not found:
        return ""
    data: bytes = (manager.fleet / "evidence" / found[0]["sha256"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == found[0]["sha256"]
    assert len(data) == found[0]["size"]
    return data.decode("utf-8", "replace")


def drop(manager: Manager, end: Message) -> None:
    """Ask for the removal, and wait until the runtime has nothing open."""
    word = {"m": "drop", "attempt": end["attempt"], "directory": end["isolated"]}
    manager.line.say(word, word)
    directory = manager.fleet / end["isolated"]
    wait_until_gone(manager, directory)


def wait_until_gone(manager: Manager, directory: Path) -> None:
    for _ in range(2000):
        manager.line.say({"m": "ping"})
        manager.line.hear(lambda m: m.get("m") == "pong")
        try:
            names = os.listdir(directory.parent)  # noqa: PTH208
        except FileNotFoundError:  # that of its run went with it
            return
        beside = [name for name in names if name.startswith(directory.name)]
        if not beside:
            return
    raise AssertionError(f"still there: {beside}")


@pytest.fixture
def repo(manager: Manager) -> Manager:
    a_repository(manager.root)
    return manager


CHANGES = """
echo more >> a.txt
rm gone.txt
mv 'old name.txt' 'new name.txt'
printf '\\000\\001\\002binary' > b.bin
chmod +x run.sh
mkdir -p deep/er; echo new > deep/er/file
ln -s a.txt link
echo noise > x.o
"""


@pytest.mark.parametrize("kind", ["worktree", "copy"])
def test_what_an_attempt_changes_is_in_its_patch_and_nowhere_else(repo: Manager, kind: str) -> None:
    before = {path.name: path.read_bytes() for path in repo.root.iterdir() if path.is_file()}
    end = run(repo, "t", CHANGES, kind)
    assert end["exit"] == 0 and "unsaved" not in end
    text = patch_of(repo, end)
    for words in (
        "rename from old name.txt", "rename to new name.txt", "deleted file mode 100644",
        "GIT binary patch", "old mode 100644\nnew mode 100755", "new file mode 120000", "+more",
        "+++ b/deep/er/file",
    ):  # fmt: skip
        assert words in text, (words, text)
    assert "x.o" not in text
    after = {path.name: path.read_bytes() for path in repo.root.iterdir() if path.is_file()}
    assert after == before
    status = git(repo.root, "status", "--porcelain")
    assert status == ""
    git(repo.root, "apply", "--binary", "--check", "-", given=evidence(repo, end))


def evidence(manager: Manager, end: Message) -> bytes:
    digest = next(one["sha256"] for one in end["artifacts"] if one["kind"] == "patch")
    return (manager.fleet / "evidence" / str(digest)).read_bytes()


def test_the_base_is_the_commit_and_the_program_is_where_its_files_are(repo: Manager) -> None:
    base = git(repo.root, "rev-parse", "HEAD").strip()
    end = run(repo, "t", "pwd; git rev-parse HEAD; git status --porcelain")
    assert end["base"] == base and end["isolated"] == f"worktrees/{RUN}/t.1"
    assert repo.out(end) == f"{repo.fleet}/worktrees/{RUN}/t.1\n{base}\n"
    assert patch_of(repo, end) == ""
    assert end.get("artifacts") is None


# Which repositories, and which not ------------------------------------------------------------


def refused(manager: Manager, kind: str = "worktree", **more: Any) -> str:
    end = run(manager, "refused", "touch ran", kind, **more)
    assert "exit" not in end and "signal" not in end and "artifacts" not in end
    assert not (manager.root / "ran").exists()
    wait_until_gone(manager, manager.fleet / f"worktrees/{RUN}/refused.1")
    return str(end["unstarted"])


def test_a_plain_folder_is_no_repository_and_can_be_copied(manager: Manager) -> None:
    (manager.root / "file").write_text("1\n")
    (manager.root / "sub").mkdir()
    assert "is in no git repository" in refused(manager)
    end = run(manager, "t", "ls -A; echo 2 > file; pwd", "copy")
    assert manager.out(end) == f"file\nsub\n{manager.fleet}/worktrees/{RUN}/t.1\n"
    assert "-1\n+2\n" in patch_of(manager, end)
    assert (manager.root / "file").read_text() == "1\n"


def test_a_repository_without_commits_is_refused_in_a_sentence(manager: Manager) -> None:
    git(manager.root, "init", "-q")
    assert "has no commit yet: commit something" in refused(manager)


def test_a_bare_repository_is_refused_in_a_sentence(repo: Manager) -> None:
    git(repo.root, "clone", "-q", "--bare", ".", "bare.git")
    own = {"from": str(repo.root / "bare.git")}
    assert "bare, without files to work on" in refused(repo, own=own)


def test_without_git_the_host_is_to_blame(repo: Manager) -> None:
    from codewhale_fleet.worker.git import Refusal, begin

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("codewhale_fleet.worker.git.DEFAULT_PATH", "/nowhere")
        patched.setenv("PATH", "/nowhere")
        with pytest.raises(Refusal, match=r"^spawn: isolation needs git"):
            begin(["version"])


def test_a_shallow_repository_is_isolated_like_any_other(repo: Manager) -> None:
    (repo.root / "a.txt").write_text("two\n")
    git(repo.root, "commit", "-q", "-am", "two")
    git(repo.root, "clone", "-q", "--depth", "1", f"file://{repo.root}", "shallow")
    end = run(repo, "t", "cat a.txt; echo 3 > a.txt", own={"from": str(repo.root / "shallow")})
    assert repo.out(end) == "two\n" and "+3" in patch_of(repo, end)


def test_what_is_not_committed_is_not_in_it_and_that_is_said(repo: Manager) -> None:
    (repo.root / "a.txt").write_text("dirty\n")
    end = run(repo, "t", "head -1 a.txt")
    assert repo.out(end) == "line 0\n"
    assert "1 changed file of" in end["notes"][0] and "not in it" in end["notes"][0]
    end = run(repo, "u", "head -1 a.txt", "copy")
    assert repo.out(end) == "dirty\n" and "notes" not in end
    assert (repo.root / "a.txt").read_text() == "dirty\n"


def test_files_that_git_does_not_have_are_brought_in_where_the_task_names_them(
    repo: Manager,
) -> None:
    (repo.root / ".env").write_text("SECRET=1\n")
    (repo.root / "notes").mkdir()
    (repo.root / "notes" / "in.md").write_text("read this\n")
    (repo.root / "unnamed").write_text("x")
    own = {"include": [".env", "notes/in.md", "a.txt", "not there"]}
    end = run(repo, "t", "cat .env notes/in.md; ls unnamed; echo more >> notes/in.md", own=own)
    assert repo.out(end) == "SECRET=1\nread this\n" and "No such file" in repo.out(end, "err")
    text = patch_of(repo, end)
    assert ".env" not in text and " read this\n+more\n" in text and "new file" not in text
    assert "required files are missing" in refused(repo, required_files=["not there"])


def test_a_named_file_that_leads_out_of_the_workspace_is_refused(repo: Manager) -> None:
    (repo.root / "out").symlink_to("/etc")
    assert "lies outside the workspace" in refused(repo, own={"include": ["out/hostname"]})


def test_a_workspace_below_the_top_of_its_repository(repo: Manager) -> None:
    (repo.root / "pkg" / "src").mkdir(parents=True)
    (repo.root / "pkg" / "src" / "x.py").write_text("1\n")
    git(repo.root, "add", "-A")
    git(repo.root, "commit", "-q", "-m", "pkg")
    own = {"from": str(repo.root / "pkg"), "cwd": "src"}
    end = run(
        repo, "t", "pwd; echo 2 > x.py; echo r > ../report", own=own, artifacts={"r": ["report"]},
        evidence=[{"path": "src/x.py"}],
    )  # fmt: skip
    assert repo.out(end) == f"{repo.fleet}/worktrees/{RUN}/t.1/pkg/src\n"
    assert "--- a/pkg/src/x.py" in patch_of(repo, end)
    assert [one["path"] for one in end["artifacts"]] == ["report", "t.1.patch"]
    assert end["evidence"]["src/x.py"]["size"] == 2
    (repo.root / "new").mkdir()
    assert "is not in the commit" in refused(repo, own={"from": str(repo.root / "new")})


def test_submodules_are_not_checked_out_and_that_is_said(repo: Manager) -> None:
    other = repo.root / "other"
    other.mkdir()
    a_repository(other)
    git(repo.root, "submodule", "add", "-q", f"file://{other}", "lib")
    git(repo.root, "commit", "-q", "-m", "lib")
    end = run(repo, "t", "ls lib | wc -l; echo 1 >> a.txt")
    assert repo.out(end).strip() == "0"
    assert "submodules are not checked out in it: lib" in end["notes"]
    text = patch_of(repo, end)
    assert "a.txt" in text and "lib" not in text and "unsaved" not in end
    drop(repo, end)
    end = run(repo, "u", "echo mine > lib/work.txt")
    assert end["exit"] == 0 and "what lies in submodules (lib) is not in its" in end["unsaved"]
    assert (repo.fleet / end["isolated"] / "lib/work.txt").read_text() == "mine\n"


def test_a_repository_made_inside_is_not_in_the_patch_and_the_directory_is_kept(
    repo: Manager,
) -> None:
    who = "-c user.name=t -c user.email=e"
    text = f"git init -q in; cd in; echo 1 > f; git add f; git {who} commit -qm 1"
    end = run(repo, "t", text)
    assert (
        end["exit"] == 0 and "repositories" in end["unsaved"] and end["isolated"] in end["unsaved"]
    )
    assert (repo.fleet / end["isolated"] / "in" / "f").exists()


def test_commits_and_a_ruined_index_of_the_attempt_are_changes_like_others(repo: Manager) -> None:
    commit = "git -c user.name=t -c user.email=e commit -qam c"
    end = run(repo, "t", f"echo 1 >> a.txt; {commit}; echo 2 >> a.txt")
    assert "+1\n+2\n" in patch_of(repo, end)
    end = run(repo, "u", "echo 1 >> a.txt; echo bad > $(git rev-parse --git-dir)/index")
    assert "+1\n" in patch_of(repo, end)
    end = run(repo, "v", "echo 1 >> a.txt; rm .git; git init -q")
    assert "+1\n" in patch_of(repo, end)
    drop(repo, end)
    assert git(repo.root, "worktree", "list").count("\n") == 3
    end = run(repo, "w", "cd ..; rm -rf w.1")
    assert "its directory was removed" in end["unsaved"]


def test_an_artifact_outlives_the_directory_whatever_it_is(repo: Manager) -> None:
    text = """
        mkdir out; echo fine > out/fine; mkfifo out/fifo; ln -s /etc/hostname out/leak
        ln -s fine out/inside; ln -s /dev/zero out/device
    """
    end = run(repo, "t", text, artifacts={"all": ["out/*"]}, expected=["all", "patch"])
    kept = {one["path"]: one["sha256"] for one in end["artifacts"] if one["kind"] == "all"}
    assert kept.keys() == {"out/fine", "out/inside"} and "missing" not in end
    errors = " ".join(end["artifact_errors"])
    assert "out/fifo: unreadable: it is no regular file" in errors
    assert "out/leak: outside" in errors and "out/device: outside" in errors
    drop(repo, end)
    assert (repo.fleet / "evidence" / kept["out/fine"]).read_text() == "fine\n"


def test_a_copy_shares_nothing_and_follows_nothing(manager: Manager, tmp_path: Path) -> None:
    root = manager.root
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine\n")
    (root / "link").symlink_to(outside)
    (root / "file").write_text("1\n")
    os.link(root / "file", root / "hard")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(root / "s"))
        end = run(manager, "t", "ls; echo 2 > file; cat hard; rm -rf link; stat -c %h file", "copy")
    assert manager.out(end) == "file\nhard\nlink\n1\n1\n"
    assert (outside / "precious").exists() and (root / "hard").read_text() == "1\n"
    assert "not copied, neither files nor directories: fifo, s" in end["notes"]
    assert "links in it lead out of it: link" in end["notes"]
    assert "deleted file mode 120000" in patch_of(manager, end)
    drop(manager, end)
    assert (outside / "precious").exists()


def test_a_repository_in_a_copy_is_its_own(repo: Manager) -> None:
    before = git(repo.root, "rev-parse", "HEAD")
    who = "-c user.name=t -c user.email=e"
    text = f"echo 1 >> a.txt; git {who} commit -qam c; git log --oneline | wc -l"
    end = run(repo, "t", text, "copy")
    assert repo.out(end).strip() == "2" and "+1\n" in patch_of(repo, end)
    assert git(repo.root, "rev-parse", "HEAD") == before
    below = repo.root / "below"
    below.mkdir()
    (below / "f").write_text("1\n")
    end = run(repo, "u", "git status", "copy", own={"from": str(below)})
    assert "not a git repository" in repo.out(end, "err")


# However it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "more", "why"),
    [
        ("exit 3", {}, None),
        ("kill -9 $$", {}, None),
        ("sleep 1000", {"timeout": 0.6}, "timeout"),
    ],
)
def test_work_that_failed_is_not_lost(
    repo: Manager, text: str, more: dict[str, Any], why: str | None
) -> None:
    end = run(repo, "t", f"echo partial >> a.txt; {text}", **more)
    assert end.get("why") == why and end.get("exit") != 0
    assert "+partial" in patch_of(repo, end)
    assert (repo.fleet / end["isolated"] / "a.txt").exists()


def test_interrupted_work_is_not_lost_and_its_program_gets_the_signal(repo: Manager) -> None:
    repo.fifo("ready")
    text = f"trap 'echo asked; exit 7' INT; echo partial >> a.txt; echo x > {repo.root}/ready"
    own = isolate(repo, "t")
    attempt = repo.start("t", ["sh", "-c", f"{text}; while :; do sleep 0.01; done"], **own)
    repo.says("ready")
    repo.line.say({"m": "interrupt", "attempt": attempt, "why": "interrupted"})
    end = repo.end_of(attempt)
    assert (end["why"], end["exit"], repo.out(end)) == ("interrupted", 7, "asked\n")
    assert "+partial" in patch_of(repo, end)


def test_verification_sees_the_directory_and_the_patch(repo: Manager) -> None:
    def step(number: int, text: str, **more: Any) -> dict[str, Any]:
        stem = f"logs/{RUN}/step{number}"
        where = {"out": f"{stem}.out", "err": f"{stem}.err"}
        return {"kind": "command", "argv": ["sh", "-c", text], **where, **more}

    prompt = {"text": "Judge.\n", "path": f"prompts/{RUN}/p.md", "stdin": True}
    steps = [step(1, "pwd; tail -1 a.txt"), step(2, "cat", kind="agent", prompt=prompt)]
    end = run(repo, "t", "echo changed >> a.txt", steps=steps)
    assert repo.out(end["steps"][0]) == f"{repo.fleet}/{end['isolated']}\nchanged\n"
    seen = (repo.fleet / "evidence" / end["steps"][1]["seen"]["sha256"]).read_text()
    assert "+changed" in seen and "patch t.1.patch" in seen


def test_the_next_attempt_goes_on_from_the_patch_of_the_last(repo: Manager) -> None:
    (repo.root / ".env").write_text("1\n")
    own = {"include": [".env"]}
    text = "printf '\\000\\377' > b.bin; echo half >> a.txt; rm gone.txt; echo 2 >> .env; exit 1"
    end = run(repo, "t@1", text, own=own)
    kept = next(one["sha256"] for one in end["artifacts"] if one["kind"] == "patch")
    git(repo.root, "commit", "-q", "--allow-empty", "-m", "meanwhile")
    more = {"continue": f"evidence/{kept}", "continues": f"{RUN}/t@1", "base": end["base"]}
    text = "echo $FLEET_CONTINUES; tail -1 a.txt; cat .env; ls gone.txt; echo rest >> a.txt"
    after = run(repo, "t@2", text, own={**own, **more})
    assert repo.out(after) == f"{RUN}/t@1\nhalf\n1\n2\n" and after["base"] == end["base"]
    assert "+half\n+rest\n" in patch_of(repo, after) and "GIT binary" in patch_of(repo, after)
    (repo.root / "a.txt").unlink()
    end = run(repo, "t@3", "true", "copy", own=more)
    assert "had changed does not fit any more" in end["unstarted"]


@pytest.mark.parametrize("kind", ["worktree", "copy"])
def test_a_later_attempt_goes_on_in_the_directory_of_an_earlier_one(
    repo: Manager, kind: str
) -> None:
    first = run(repo, "t@1", "echo half >> a.txt; echo made > a.o; exit 1", kind)
    own = {"directory": first["isolated"], "again": True}
    text = "pwd; echo $FLEET_CONTINUES; cat a.o; tail -1 a.txt; echo rest >> a.txt"
    second = run(repo, "t@2", text, kind, own=own)
    assert second["isolated"] == first["isolated"] and second["base"] == first["base"]
    place = repo.fleet / first["isolated"]  # which was not dropped: it is another's by now
    assert repo.out(second) == f"{place}\n{RUN}/t@1\nmade\nhalf\n"
    assert "+half\n+rest\n" in patch_of(repo, second)
    third = repo.run("t@3", ["./nowhere"], **isolate(repo, "t@3", kind, **own))
    assert "its program ./nowhere does not exist" in third["unstarted"]
    assert (place / "a.o").read_text() == "made\n"
    other = run(repo, "u@1", "true", kind, own=own)
    assert "is not as an earlier attempt of this task left it" in other["unstarted"]
    remove(str(place))
    kept = next(one["sha256"] for one in second["artifacts"] if one["kind"] == "patch")
    more = {"continue": f"evidence/{kept}", "continues": f"{RUN}/t@2"}
    last = run(repo, "t@4", "pwd; tail -1 a.txt; ls a.o", kind, own={**own, **more})
    assert repo.out(last) == f"{place}\nrest\n"  # made anew, of the patch


def test_a_program_that_is_not_there_is_told_as_without_isolation(repo: Manager) -> None:
    own = isolate(repo, "t")
    end = repo.run("t", ["./nowhere"], **own)
    assert "its program ./nowhere does not exist" in end["unstarted"] and "exit" not in end
    (repo.root / "bad.sh").write_text("#!/no/such/interpreter\n")
    (repo.root / "bad.sh").chmod(0o755)
    git(repo.root, "add", "-A")
    git(repo.root, "commit", "-q", "-m", "bad")
    end = repo.run("u", ["./bad.sh"], **isolate(repo, "u"))
    assert "the interpreter that its first line names" in end["unstarted"]
    wait_until_gone(repo, repo.fleet / f"worktrees/{RUN}/u.1")
    assert git(repo.root, "worktree", "list").count("\n") == 1


def test_names_that_are_no_text_and_a_fleet_of_its_own(repo: Manager) -> None:
    os.mkfifo(os.fsencode(repo.root) + b"/f\xff\n")
    text = "rm .gitignore; mkdir .fleet; echo bad > .fleet/fleet.jsonl; "
    text += "printf x > \"$(printf 'a\\377b')\""
    for kind in ("worktree", "copy"):
        end = run(repo, kind, text, kind)
        assert "unsaved" not in end
        patch = evidence(repo, end)
        assert b"fleet.jsonl" not in patch and b"+++ b/a\xffb" in patch
    assert any("f??" in note for note in end["notes"])


# Removal --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["worktree", "copy"])
def test_a_directory_goes_whole_and_git_forgets_it(repo: Manager, kind: str) -> None:
    end = run(repo, "t", "mkdir ro; echo 1 > ro/f; chmod 500 ro; git branch mine", kind)
    drop(repo, end)
    wait_until_gone(repo, repo.fleet / "worktrees")
    assert git(repo.root, "worktree", "list").count("\n") == 1
    assert not (repo.root / ".git" / "worktrees").exists()
    assert git(repo.root, "status", "--porcelain") == ""


def test_nothing_else_goes_whatever_is_asked(repo: Manager, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "t.1").mkdir(parents=True)
    (outside / "t.1" / "precious").write_text("mine")
    (repo.fleet / "worktrees").mkdir()
    (repo.fleet / "worktrees" / "linked").symlink_to(outside)
    (repo.fleet / "worktrees" / RUN).mkdir()
    (repo.fleet / "worktrees" / RUN / "l.1").symlink_to(outside / "t.1")
    places = (
        "worktrees/linked/t.1", "../outside/t.1", "worktrees/../../outside", str(outside / "t.1"),
        "logs", "worktrees", f"worktrees/{RUN}/..", "", f"worktrees/{RUN}/l.1",
    )  # fmt: skip
    for number, directory in enumerate(places):
        repo.line.say({"m": "drop", "attempt": f"{RUN}/t{number}@1", "directory": directory})
    wait_until_gone(repo, repo.fleet / "worktrees" / RUN / "l.1")
    assert run(repo, "u", "true")["exit"] == 0
    assert [path.name for path in outside.rglob("*")] == ["t.1", "precious"]
    assert (repo.root / "a.txt").exists()


# At once, and after a crash -------------------------------------------------------------------


def test_twenty_at_once_in_one_repository(repo: Manager) -> None:
    names = [f"t{number}" for number in range(20)]
    started = [
        repo.start(name, ["sh", "-c", f"echo {name} >> a.txt"], slots=20, slot=number + 1,
                   **isolate(repo, name))
        for number, name in enumerate(names)
    ]  # fmt: skip
    ends = [repo.end_of(attempt) for attempt in started]
    for name, end in zip(names, ends, strict=True):
        assert end.get("exit") == 0, end
        assert f"+{name}\n" in patch_of(repo, end)
    assert git(repo.root, "worktree", "list").count("\n") == 21
    for end in ends:
        repo.line.say({"m": "drop", "attempt": end["attempt"], "directory": end["isolated"]})
    for end in ends:
        wait_until_gone(repo, repo.fleet / end["isolated"])
    assert git(repo.root, "worktree", "list").count("\n") == 1
    git(repo.root, "fsck", "--no-dangling")


def slow_git(repo: Manager, verb: str) -> None:
    """A git on PATH that, asked for `verb`, says so in a fifo and waits for a word in another."""
    bin = repo.root.parent / "bin"
    bin.mkdir()
    real = shutil.which("git")
    repo.fifo("asked")
    repo.fifo("go")
    (bin / "git").write_text(
        f'#!/bin/sh\ncase " $* " in *" {verb} "*) echo $$ > {repo.root}/asked; '
        f'read line < {repo.root}/go;; esac\nexec {real} "$@"\n'
    )
    (bin / "git").chmod(0o755)
    repo.environ({"PATH": f"{bin}:{os.environ['PATH']}", "HOME": str(repo.root)})


def go(repo: Manager) -> None:
    (repo.root / "go").write_text("go\n")


def test_a_runtime_killed_while_a_directory_is_made_goes_on_with_it(repo: Manager) -> None:
    slow_git(repo, "reset")
    attempt = repo.start("t", ["sh", "-c", "echo mine >> a.txt; exit 4"], **isolate(repo, "t"))
    repo.says("asked")
    repo.line.say({"m": "ping"})
    repo.line.hear(lambda m: m.get("m") == "pong")
    repo.kill_runtime()
    go(repo)
    end = repo.end_of(attempt)
    assert end["exit"] == 4 and "+mine" in patch_of(repo, end) and "unsaved" not in end


def test_a_runtime_killed_while_the_patch_is_made_makes_it_again(repo: Manager) -> None:
    slow_git(repo, "diff-index")
    attempt = repo.start("t", ["sh", "-c", "echo mine >> a.txt; exit 4"], **isolate(repo, "t"))
    repo.says("asked")
    repo.kill_runtime()
    git_of_old = repo.says("asked")
    assert git_of_old
    go(repo)
    end = repo.end_of(attempt)
    assert end["exit"] == 4 and "+mine" in patch_of(repo, end) and "unsaved" not in end
    beside = sorted(path.name for path in (repo.fleet / "worktrees" / RUN).iterdir())
    assert [name for name in beside if not name.startswith("t.1")] == []


def test_an_interrupt_while_the_patch_is_made_loses_nothing(repo: Manager) -> None:
    slow_git(repo, "diff-index")
    attempt = repo.start("t", ["sh", "-c", "echo mine >> a.txt"], **isolate(repo, "t"))
    repo.says("asked")
    repo.line.say({"m": "interrupt", "attempt": attempt, "why": "interrupted", "kill": True})
    repo.line.say({"m": "ping"})
    repo.line.hear(lambda m: m.get("m") == "pong")
    go(repo)
    assert "+mine" in patch_of(repo, repo.end_of(attempt))


def test_a_time_limit_holds_while_the_directory_is_made(repo: Manager) -> None:
    slow_git(repo, "reset")
    attempt = repo.start("t", ["touch", "ran"], timeout=0.4, grace=0.2, **isolate(repo, "t"))
    pid = int(repo.says("asked"))
    end = repo.end_of(attempt)
    assert end["why"] == "timeout" and not is_alive(pid)
    wait_until_gone(repo, repo.fleet / f"worktrees/{RUN}/t.1")
    assert git(repo.root, "worktree", "list").count("\n") == 1


def test_what_makes_the_directory_can_be_killed_and_is_told(repo: Manager) -> None:
    slow_git(repo, "reset")
    attempt = repo.start("t", ["touch", "ran"], **isolate(repo, "t"))
    pid = int(repo.says("asked"))
    shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)
    end = repo.end_of(attempt)
    assert "could not be made" in end["unstarted"] and not (repo.root / "ran").exists()


@pytest.mark.parametrize("kind", ["worktree", "copy"])
def test_holes_of_any_size_stay_with_their_directory_and_hold_nobody_up(
    repo: Manager, kind: str
) -> None:
    name = "ho*le [x] ü"
    text = f"truncate -s 300G a.txt '{name}'; echo 1 > hole; echo 2 > small; rm gone.txt"
    end = run(repo, "t", text, kind)
    files = [line for line in patch_of(repo, end).splitlines() if line.startswith("diff ")]
    assert [line.rpartition("b/")[2] for line in files] == ["gone.txt", "hole", "small"]
    assert f"files above 1,073,741,824 bytes ({name}, a.txt) are not in" in end["unsaved"]


def test_a_patch_that_is_too_long_stays_with_its_directory(
    repo: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codewhale_fleet.worker import limits, patching, workspace

    end = run(repo, "t", "seq 1000 > long; exit 1")
    directory = str(repo.fleet / end["isolated"])
    monkeypatch.setattr(limits, "PATCH_BYTES", 1000)
    patching.patch(directory)
    record = workspace.read_record(directory)
    assert "more than the 1,000 that are kept of one" in record["unsaved"]
    assert Path(directory + ".patch").stat().st_size == record["patch"] > 1000


def test_what_was_cut_off_in_an_earlier_boot_is_ended_once_whoever_is_killed(
    repo: Manager,
) -> None:
    first = run(repo, "t", "echo half > part; echo said; exit 3")
    own = {**isolate(repo, "u"), "isolate": {**isolate(repo, "t")["isolate"]}}
    plan = repo.plan(f"{RUN}/u@1", ["never", "run"], **own, steps=[{"kind": "command"}])
    plan["out"] = first["logs"]["out"]["path"]
    word = {"m": "cut-off", "attempt": f"{RUN}/u@1", "slot": f"{RUN}-local-1", "plan": plan}
    repo.line.say(word, word)
    repo.line.say({"m": "ping"})
    repo.line.hear(lambda m: m.get("m") == "pong")
    repo.kill_runtime()
    repo.line.say(word)
    end = repo.end_of(f"{RUN}/u@1")
    assert (end["why"], end["unknown"], end["seconds"]) == ("restarted", True, 0.0)
    assert "+half" in patch_of(repo, end) and "steps" not in end
    assert repo.out(end) == "said\n"
    repo.line.say({"m": "ping"})
    repo.line.hear(lambda m: m.get("m") == "pong")
    told = {m["n"] for line in repo._lines for m in line.heard if m.get("attempt") == f"{RUN}/u@1"}
    assert told == {end["n"]}
