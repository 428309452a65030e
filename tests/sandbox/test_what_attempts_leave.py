"""What a confined attempt leaves lying for the fleet itself to stumble over once it is over: links
where directories were, names that are no text, depths without end. Nothing outside may be read or
written for it, and everybody else's work goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.driver import fleet

pytestmark = pytest.mark.slow

POLICY = '[security_policy]\ndefault_trust_level = "sandbox"\n'
ASK = """import json, os, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect(os.environ["FLEET_SOCKET"])
head = {"a": os.environ["FLEET_ATTEMPT_ID"], "t": os.environ["FLEET_TOKEN"]}
for words in sys.argv[1:]:
    sent = words if words.startswith("!") else json.dumps({**head, **json.loads(words)})
    line.sendall(sent.removeprefix("!").encode() + b"\\n")
    print(line.recv(65536).decode(), end="")
"""


@pytest.fixture
def top() -> Iterator[Path]:
    """A workspace in a repository, beside what must stay unread and untouched."""
    place = Path(f"/var/tmp/fleet-left-{os.getpid()}")
    (place / "work").mkdir(parents=True)
    (place / "home").mkdir()
    (place / "home/key").write_text("the key of the house\n")
    (place / "work/ask.py").write_text(ASK)
    yield place
    subprocess.run(["rm", "-rf", place], check=True)


def run(top: Path, text: str, root: str = "work") -> subprocess.CompletedProcess[str]:
    """A run of one spec, with a home that is hidden from what is confined."""
    (top / root / "spec.toml").write_text(text)
    done = fleet(top / root, "run", "spec.toml", HOME=str(top / "home"))
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done


def said(top: Path, task: str, root: str = "work") -> str:
    done = fleet(top / root, "logs", f"@last/{task}")
    return done.stdout + done.stderr


def kept(top: Path, root: str = "work") -> bytes:
    """All that the fleet keeps of files."""
    places = [top / root / ".fleet/evidence", top / root / ".fleet/inputs"]
    return b"".join(path.read_bytes() for one in places if one.is_dir() for path in one.iterdir())


def test_a_link_in_the_place_of_the_scratch_directory_brings_nothing_from_outside(
    top: Path,
) -> None:
    command = (
        "F=${FLEET_SCRATCH%/scratch}; mv $F/scratch $F/old; "
        f"ln -s {top}/home $F/scratch; fleet artifact add report $FLEET_SCRATCH/key; "
        'python3 ask.py "{\\"v\\": \\"checkpoint\\", \\"path\\": \\"$FLEET_SCRATCH/key\\"}"'
    )
    run(top, f"{POLICY}[[tasks]]\nid = 'a'\ncommand = '''{command}'''\n")
    assert "a link stands in the place of its directory" in said(top, "a")
    assert b"key of the house" not in kept(top)


def test_a_link_in_the_place_of_its_workspace_opens_nothing_to_what_verifies_it(
    top: Path,
) -> None:
    work = top / "work"
    sub = work / "sub"
    sub.mkdir()
    shutil.copy(work / "ask.py", sub)
    git = ["git", "-C", work, "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    command = (
        f"cd .. && mv sub old && ln -s {top}/home sub && "
        'python3 old/ask.py "{\\"v\\": \\"checkpoint\\", \\"path\\": \\"key\\"}"'
    )
    text = f"{POLICY}[[tasks]]\nid = 'a'\ncommand = '''{command}'''\n"
    text += 'workspace = { isolation = "worktree" }\n'
    text += "verify = { steps = [{ kind = 'command', command = 'cat key; echo gone > key' }] }\n"
    run(top, text, "work/sub")
    assert "refused" in said(top, "a", "work/sub")
    assert (top / "home/key").read_text() == "the key of the house\n"
    assert "key of the house" not in said(top, "a", "work/sub")
    assert b"key of the house" not in kept(top, "work/sub")
    told = fleet(sub, "explain", "@last/a").stdout
    assert "cannot be entered" in told


def test_a_link_in_the_place_of_a_verifiers_prompt_is_not_written_through(top: Path) -> None:
    verdict = json.dumps({"verdict": "pass", "reason": "x", "quotes": ["hello"]})
    judge = json.dumps(["sh", "-c", f"cat > /dev/null; echo '{verdict}'"])
    (top / "work/fleet.toml").write_text(f"[agents.judge]\ncommand = {judge}\n")
    command = (
        "F=${FLEET_SCRATCH%/scratch}; P=$F/prompts/${FLEET_ATTEMPT_ID%%/*}; mkdir -p $P; "
        f"ln -s {top}/home/key $P/a.1.step1.md; ln -s {top}/home $F/tools; echo hello"
    )
    text = f"{POLICY}[[tasks]]\nid = 'a'\ncommand = '''{command}'''\n"
    text += "scorer = { kind = 'code_whale_verifier_prompt', prompt = 'Judge.', agent = 'judge' }\n"
    done = run(top, text)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (top / "home/key").read_text() == "the key of the house\n"


def test_directories_and_names_beyond_measure_cost_the_attempt_and_nobody_else(top: Path) -> None:
    deep = """import os
os.chdir(os.environ.get("AT", "out"))
for _ in range(2500):
    os.mkdir("d")
    os.chdir("d")
"""
    names = """import os
os.chdir("out")
for at in range(2500):
    os.symlink(f"l{at + 1}", f"l{at}")
open(b"\\xff.txt", "w").close()
"""
    (top / "work/deep.py").write_text(deep)
    (top / "work/names.py").write_text(names)
    text = POLICY
    for name, command in {
        "deep": "python3 deep.py",
        "names": 'python3 names.py; python3 ask.py \'{"v": "checkpoint", "path": "out/l0"}\' '
        '\'{"v": "artifact", "kind": "report", "path": "out/l0"}\'',
        "scratch": "AT=$FLEET_SCRATCH python3 deep.py",
    }.items():
        text += f"[[tasks]]\nid = '{name}'\ncommand = {json.dumps(command)}\n"
        if name != "scratch":
            text += "workspace = { writable_paths = ['out'] }\n"
            text += "artifacts = { report = ['out/**/*.txt', 'out/l0'] }\n"
    run(top, text)
    told = fleet(top / "work", "explain", "@last/deep").stdout
    assert "directories lie more than 100 deep in each other" in told
    told = fleet(top / "work", "explain", "@last/names").stdout
    assert "?.txt: its name is no UTF-8" in told
    assert said(top, "names").count("refused") == 2
    passed = fleet(top / "work", "receipts", "@last", "--json").stdout
    assert {one["task_id"]: one["result"] for one in json.loads(passed)["receipts"]} == {
        "deep": "fail", "names": "fail", "scratch": "pass",
    }  # fmt: skip
    errors = top / "work/.fleet/runtime/runtime.err"
    assert errors.read_text() == "", "the runtime was never killed by it"
    until = time.monotonic() + 20
    while (left := list((top / "work/.fleet/attempts").glob("*/*"))) and time.monotonic() < until:
        fleet(top / "work", "status")
    assert not left


def test_requests_that_are_no_json_are_refused_and_the_runtime_lives(top: Path) -> None:
    odd = ['!{"a":"x"', "![1,", "!nul", "!" + "[" * 3000, '!"\\ud800', '!{"a" "b"}', "!1e999", "!-"]
    words = " ".join(f"'{one}'" for one in odd)
    command = json.dumps(f"python3 ask.py {words}")
    done = run(top, f'{POLICY}[[tasks]]\nid = "a"\ncommand = {command}\n')
    assert done.returncode == 0, said(top, "a")
    assert said(top, "a").count("refused") == len(odd)
    assert (top / "work/.fleet/runtime/runtime.err").read_text() == ""


def test_a_writable_path_that_became_a_link_into_git_is_refused(top: Path) -> None:
    work = top / "work"
    subprocess.run(["git", "-C", work, "init", "-q"], check=True)
    text = POLICY + "[[tasks]]\nid = 'a'\ncommand = '''ln -s ../.git/hooks out/sub; exit 1'''\n"
    text += "workspace = { writable_paths = ['out'] }\n"
    run(top, text)
    text = POLICY + "[[tasks]]\nid = 'b'\ncommand = '''echo x > out/sub/pre-commit'''\n"
    text += "workspace = { writable_paths = ['out', 'out/sub'] }\n"
    assert run(top, text).returncode == 1
    assert "leads into .git" in fleet(work, "explain", "@last/b").stdout
    assert not (work / ".git/hooks/pre-commit").exists()


def test_stores_of_secrets_are_empty_also_where_the_home_is_the_workspace(top: Path) -> None:
    home, value = top / "home", "a value that nobody was granted"
    stores = (".config/codewhale-fleet/secrets", ".local/share/python_keyring",
              ".local/share/keyrings")  # fmt: skip
    for store in stores:
        (home / store).mkdir(parents=True, mode=0o700)
        (home / store / "KEY").write_text(value)
    looks = "; ".join(f"cat {store}/KEY; echo x > {store}/NEW" for store in stores)
    tasks = f"[[tasks]]\nid = 'a'\ncommand = '''{looks}; cat key'''\n"
    tasks += "workspace = { writable_paths = ['.'] }\n"
    for head in (POLICY, ""):
        run(top, head + tasks, "home")
        assert value not in said(top, "a", "home")
        assert "the key of the house" in said(top, "a", "home")
        assert not [store for store in stores if (home / store / "NEW").exists()]


def test_a_git_that_a_task_put_on_the_path_makes_no_directories(top: Path) -> None:
    work = top / "work"
    for words in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm",
                                   "x", "--allow-empty"]):  # fmt: skip
        subprocess.run(["git", "-C", work, *words], check=True)
    (work / "bin").mkdir()
    (work / "bin/git").write_text(f'#!/bin/sh\necho x >> {top}/home/ran\nexec /usr/bin/git "$@"\n')
    (work / "bin/git").chmod(0o755)
    (work / "spec.toml").write_text(
        f"{POLICY}[[tasks]]\nid = 'a'\ncommand = 'touch made'\n"
        'workspace = { isolation = "worktree" }\n'
    )
    path = f"{work}/bin:{os.environ['PATH']}"
    done = fleet(work, "run", "spec.toml", PATH=path, HOME=str(top / "home"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (top / "home/ran").exists()
