"""`fleet apply`, and runs whose attempts have directories of their own: typed, with real git."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..worker.test_workspace import a_repository, git
from .driver import FLEET, environment, fleet, spec

pytestmark = pytest.mark.slow


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    root.mkdir()
    a_repository(root)
    return root


def task(text: str, id: str = "t", kind: str = "worktree", more: str = "") -> str:
    return (
        f"[[tasks]]\nid = {json.dumps(id)}\ncommand = {json.dumps(text)}\n"
        f'workspace = {{ isolation = "{kind}" }}\n{more}\n'
    )


def ran(where: Path, *tasks: str, code: int = 0) -> None:
    done = fleet(where, "run", spec(where, "".join(tasks)))
    assert done.returncode == code, done.stdout + done.stderr


def answer(where: Path, *words: str, code: int = 0) -> Any:
    done = fleet(where, "apply", *words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def files(root: Path) -> dict[str, tuple[str, int]]:
    """What lies there: content, or where a link leads, and mode."""
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in (".git", ".fleet")]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for path in (Path(folder, name) for name in (*names, *links)):
            name = str(path.relative_to(root))
            if name not in (".git", "tasks.toml"):
                link = path.is_symlink()
                text = str(path.readlink()) if link else path.read_bytes().decode("latin-1")
                found[name] = (text, path.lstat().st_mode)
    return found


CHANGES = """
echo more >> a.txt; rm gone.txt; mv 'old name.txt' 'new name.txt'; printf '\\000\\377' > b.bin
chmod +x run.sh; mkdir -p deep; echo new > 'deep/fi le'; ln -s a.txt link; : > empty; echo > 'q"t'
"""


@pytest.mark.parametrize("kind", ["worktree", "copy"])
def test_all_that_an_attempt_changed_comes_into_the_checkout_once(repo: Path, kind: str) -> None:
    ran(repo, task(CHANGES + "cp -a . ../../../wanted", kind=kind))
    before = files(repo)
    assert answer(repo, "@last/t", "--check")["how"] == "applied"
    assert files(repo) == before
    first = answer(repo, "@last/t")
    assert (first["how"], len(first["files"]), first["conflicts"]) == ("applied", 9, [])
    wanted = files(repo / ".fleet" / "wanted")
    assert files(repo) == wanted
    assert answer(repo, "@last/t")["how"] == "already"
    assert answer(repo, "@last/t@1", "--3way")["how"] == "already"
    assert files(repo) == wanted
    assert git(repo, "diff", "--cached", "--name-only") == ""


def test_a_plain_folder_gets_it_too_although_it_lies_in_a_repository(tmp_path: Path) -> None:
    a_repository(tmp_path)
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "f").write_text("1\n")
    ran(plain, task("echo 2 > f; echo 3 > g", kind="copy"))
    told = fleet(plain, "apply", "@last/t")
    assert told.returncode == 0 and "applied: 2 files." in told.stdout
    assert (plain / "f").read_text() == "2\n" and (plain / "g").read_text() == "3\n"


def test_a_folder_outside_of_any_repository(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1\n2\n")
    (tmp_path / "g").write_text("1\n")
    ran(tmp_path, task("echo 3 >> f; rm g", kind="copy"))
    (tmp_path / "f").write_text("other\n")
    refused = answer(tmp_path, "@last/t", code=4)
    assert [one["path"] for one in refused["conflicts"]] == ["f"]
    assert (tmp_path / "g").exists()
    (tmp_path / "f").write_text("1\n2\n")
    assert answer(tmp_path, "@last/t")["how"] == "applied"
    assert not (tmp_path / "g").exists() and answer(tmp_path, "@last/t")["how"] == "already"


def test_a_workspace_below_the_top_gets_its_files_where_they_belong(repo: Path) -> None:
    below = repo / "pkg"
    below.mkdir()
    (below / "f").write_text("1\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "pkg")
    for kind, id in (("worktree", "w"), ("copy", "c")):
        ran(below, task(f"echo {id} > {id}.new; echo {id} >> f", id=id, kind=kind))
        assert answer(below, f"@last/{id}")["how"] == "applied"
        assert (below / f"{id}.new").read_text() == f"{id}\n"
        git(repo, "checkout", "-q", "pkg/f")


def test_a_mode_alone_is_seen_and_set(repo: Path) -> None:
    ran(repo, task("chmod +x run.sh"))
    assert answer(repo, "@last/t")["how"] == "applied"
    assert os.access(repo / "run.sh", os.X_OK)
    assert answer(repo, "@last/t")["how"] == "already"


def test_what_does_not_fit_is_told_by_file_and_hunk_and_nothing_changes(repo: Path) -> None:
    edit = "sed -i 's/^line 1$/one/; s/^line 18$/eighteen/' a.txt; echo more >> run.sh; rm gone.txt"
    ran(repo, task(edit))
    text = (repo / "a.txt").read_text()
    (repo / "a.txt").write_text(text.replace("line 18\n", "otherwise\n"))
    (repo / "gone.txt").write_text("changed\n")
    before = files(repo)
    told = fleet(repo, "apply", "@last/t")
    assert told.returncode == 4 and files(repo) == before
    lines = [" ".join(line.split()) for line in told.stdout.splitlines()]
    assert lines[0].endswith("does not fit: nothing was changed.")
    assert any(line.startswith("a.txt hunk 2 of 2 @@ -16,5 +16,5 @@") for line in lines), lines
    assert any(line.startswith("gone.txt") for line in lines)
    assert answer(repo, "@last/t", "--3way", code=4)["how"] == "refused"
    assert files(repo) == before


def test_what_can_be_merged_is_merged_where_that_is_asked_for(repo: Path) -> None:
    ran(repo, task("sed -i 's/^line 10$/ten/' a.txt"))
    text = (repo / "a.txt").read_text()
    (repo / "a.txt").write_text(text.replace("line 7\n", "seven\n"))
    git(repo, "commit", "-q", "-am", "meanwhile")
    (repo / "run.sh").write_text("dirty\n")
    refused = answer(repo, "@last/t", code=4)
    assert refused["mergeable"] and refused["conflicts"][0]["path"] == "a.txt"
    assert "line 10" in (repo / "a.txt").read_text()
    assert answer(repo, "@last/t", "--3way", "--check")["how"] == "merged"
    assert "line 10" in (repo / "a.txt").read_text()
    assert answer(repo, "@last/t", "--3way")["how"] == "merged"
    merged = (repo / "a.txt").read_text()
    assert "ten\n" in merged and "seven\n" in merged
    assert git(repo, "diff", "--cached", "--name-only") == ""
    assert (repo / "run.sh").read_text() == "dirty\n"


def test_only_what_passed_is_applied_without_a_persons_word(repo: Path) -> None:
    ran(repo, task("echo half >> a.txt; exit 3"), task("true", id="nothing"), code=1)
    told = fleet(repo, "apply", "@last/t")
    assert told.returncode == 4 and "has not passed: exit 3." in told.stderr
    assert "--unpassed" in told.stderr
    assert answer(repo, "@last/t", "--unpassed")["how"] == "applied"
    assert (repo / "a.txt").read_text().endswith("half\n")
    told = fleet(repo, "apply", "@last/nothing")
    assert told.returncode == 0 and "there is nothing to apply" in told.stdout


def test_what_has_no_patch_is_refused_in_a_sentence(repo: Path) -> None:
    ran(repo, '[[tasks]]\nid = "plain"\ncommand = "true"\n', task("echo 1 >> a.txt"))
    told = fleet(repo, "apply", "@last/plain")
    assert told.returncode == 4 and "had no directory of its own" in told.stderr
    assert fleet(repo, "apply", "@last").returncode == 2
    for kept in (repo / ".fleet" / "evidence").iterdir():
        kept.unlink()
    told = fleet(repo, "apply", "@last/t")
    assert told.returncode == 2 and "is gone: removed by gc" in told.stderr


def test_a_patch_does_not_go_through_a_link_out_of_the_workspace(
    repo: Path, tmp_path: Path
) -> None:
    ran(repo, task("mkdir d; echo 1 > d/f"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (repo / "d").symlink_to(outside)
    refused = answer(repo, "@last/t", code=4)
    assert "beyond a symbolic link" in json.dumps(refused["conflicts"])
    assert list(outside.iterdir()) == []


# Runs -----------------------------------------------------------------------------------------


def test_what_passed_goes_and_what_failed_stays_until_gc(repo: Path) -> None:
    good, bad = task("echo 1 >> a.txt", "good"), task("echo 2 >> a.txt; exit 1", "bad")
    ran(repo, good, bad, code=1)
    place = repo / ".fleet" / "worktrees"
    run = next(iter(place.iterdir()))
    fleet(repo, "run", spec(repo, '[[tasks]]\nid = "x"\ncommand = "true"\n', "next.toml"))
    assert (run / "bad.1" / "a.txt").exists()
    dry = json.loads(fleet(repo, "gc", "--older-than", "0s", "--dry-run", "--json").stdout)
    assert dry["kinds"]["worktrees"]["files"] >= 5 and (run / "bad.1").exists()
    assert fleet(repo, "gc", "--older-than", "0s").returncode == 0
    assert not place.exists()
    assert git(repo, "worktree", "list").count("\n") == 1
    assert fleet(repo, "artifacts", "@last").returncode == 0


def test_a_retry_that_continues_is_told_of_it(repo: Path) -> None:
    text = 'test -n "$FLEET_CONTINUES" && { cat half; exit 0; }; echo done so far > half; exit 1'
    more = (
        "retry_policy = { max_attempts = 2, initial_backoff_seconds = 0.1, continue = true }\n"
        'expected_artifacts = ["patch"]'
    )
    for kind in ("worktree", "copy"):
        ran(repo, task(text, kind=kind, more=more))
        assert fleet(repo, "logs", "@last/t").stdout == "done so far\n"
        assert answer(repo, "@last/t", "--check")["attempt"] == 2


def test_work_that_ended_while_no_manager_lived_comes_back(repo: Path) -> None:
    for name in ("up", "go"):
        os.mkfifo(repo / name)
    text = f"echo 1 >> a.txt; echo up > {repo}/up; read line < {repo}/go"
    line = [*FLEET, "run", spec(repo, task(text))]
    with subprocess.Popen(line, cwd=repo, env=environment(), stderr=subprocess.DEVNULL) as child:
        assert (repo / "up").read_text() == "up\n"
        child.kill()
    (repo / "go").write_text("go\n")
    for name in ("up", "go"):
        (repo / name).unlink()
    assert fleet(repo, "resume", "@last").returncode == 0
    assert answer(repo, "@last/t")["how"] == "applied"
    assert (repo / "a.txt").read_text().endswith("\n1\n")


def test_an_agents_next_attempt_is_told_that_the_files_are_as_they_were(repo: Path) -> None:
    agent = 'cat > prompt.md; echo 1 >> a.txt; test -n "$FLEET_CONTINUES"'
    (repo / "fleet.toml").write_text(
        f'[agents.stand-in]\ncommand = ["sh", "-c", {json.dumps(agent)}]\nusage = "none"\n'
    )
    text = (
        '[[tasks]]\nid = "t"\nagent = "stand-in"\ninstructions = "Do it."\n'
        'workspace = { isolation = "worktree" }\nscorer = { kind = "exit_code" }\n'
        "retry_policy = { max_attempts = 2, initial_backoff_seconds = 0.1, continue = true }\n"
    )
    ran(repo, text)
    fleet(repo, "apply", "@last/t")
    assert "The files are as the attempt before left them" in (repo / "prompt.md").read_text()
    assert (repo / "a.txt").read_text().endswith("\n1\n1\n")


def test_continue_without_isolation_is_refused(tmp_path: Path) -> None:
    text = '[[tasks]]\nid = "t"\ncommand = "true"\nretry_policy = { continue = true }\n'
    told = fleet(tmp_path, "check", spec(tmp_path, text))
    assert told.returncode == 2 and "needs workspace.isolation" in told.stdout + told.stderr


def test_isolated_tasks_do_not_wait_for_each_others_paths(repo: Path) -> None:
    """Each waits until both run; without isolation the second would never begin."""
    ask = f"{sys.executable} -m codewhale_fleet data"
    meet = (
        f"{ask} put {{0}} here && for i in $(seq 100); do "
        f"{ask} get {{1}} 2>/dev/null && exit 0; sleep 0.1; done; exit 1"
    )
    both = ""
    for id, mine, other in (("a", "one", "two"), ("b", "two", "one")):
        both += task(meet.format(mine, other), id=id).replace(
            'isolation = "worktree"', 'isolation = "worktree", writable_paths = ["."]'
        )
    ran(repo, both)


def test_a_dirty_checkout_is_noted_once_for_the_run(repo: Path) -> None:
    (repo / "a.txt").write_text("dirty\n")
    done = fleet(repo, "run", spec(repo, task("true", "a") + task("true", "b")))
    assert (done.stdout + done.stderr).count("not committed, and not in it") == 1
    shown = fleet(repo, "inspect", "@last/a@1").stdout
    assert "own directory" in shown and "1 changed file" in shown
    assert "1 changed file" in fleet(repo, "explain", "@last/a").stdout


def test_a_directory_that_a_dead_manager_left_goes_with_the_next(repo: Path) -> None:
    from codewhale_fleet.worker import workspace

    ran(repo, task("echo 1 >> a.txt; exit 1", "bad"), code=1)
    run = next(iter((repo / ".fleet" / "worktrees").iterdir()))
    record = workspace.read_record(str(run / "bad.1"))
    ran(repo, '[[tasks]]\nid = "good"\ncommand = "true"\n')
    newest = json.loads(fleet(repo, "status", "--json").stdout)["runs"][0]
    name = newest.get("run") or newest["id"]
    left = repo / ".fleet" / "worktrees" / name
    left.mkdir(exist_ok=True)
    git(repo, "worktree", "add", "-q", "--detach", str(left / "good.1"))
    meta = (left / "good.1" / ".git").read_text().strip().removeprefix("gitdir: ")
    made = {**record, "attempt": f"{name}/good@1", "meta": meta, "patch": 0, "unsaved": ""}
    workspace.write_record(str(left / "good.1"), made)
    ran(repo, '[[tasks]]\nid = "x"\ncommand = "true"\n')
    for _ in range(1000):  # the runtime does it by itself
        if not left.exists():
            break
        fleet(repo, "status")
    assert not left.exists() and (run / "bad.1").exists()
    assert git(repo, "worktree", "list").count("\n") == 2
