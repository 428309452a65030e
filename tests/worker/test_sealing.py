"""Logs of attempts with secrets, as a real runtime keeps them: what is shown never holds one."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.worker.logs import read_log
from tests.faults.disk_small import fill, small_disk
from tests.worker.driver import RUN, Manager

pytestmark = pytest.mark.slow

VALUE = "tok-4f9A/x+Q7zz=y9-planted"
OTHER = "another/planted+value"
SECRETS = {"API_TOKEN": VALUE, "OTHER": OTHER}
FORMS = (VALUE, OTHER, base64.b64encode(VALUE.encode()).decode()[:-4], VALUE.encode().hex())


def give(manager: Manager, secrets: dict[str, str] | None = None) -> None:
    values = {"base": {"PATH": os.environ["PATH"], "HOME": str(manager.root)}, "allowed": {}}
    given = {**values, "secrets": SECRETS if secrets is None else secrets}
    manager.line.say({"m": "environment", "run": RUN, "umask": 0o022, "values": given})


def planned(*, file: bool = False) -> list[dict[str, Any]]:
    return [{"key": "API_TOKEN", "source": "env", "as": "API_TOKEN", "file": file}]


def leaks(manager: Manager) -> list[str]:
    """Files of the fleet in which a value stands, in one form or another."""
    return [
        str(path.relative_to(manager.fleet))
        for path in sorted(manager.fleet.rglob("*"))
        if path.is_file() and any(form.encode() in path.read_bytes() for form in FORMS)
    ]


def until_raw(manager: Manager, name: str, size: int) -> Path:
    """Waits for nothing: the task has said in a fifo that it has written."""
    raw = manager.fleet / f"logs/{RUN}/{name}.out.raw"
    assert raw.stat().st_size >= size
    return raw


PRINT = (
    "import os,sys,base64,json\n"
    "v=os.environ['API_TOKEN']\n"
    "print('plain',v); print(json.dumps({'k':v+chr(10)})); print(v.encode().hex())\n"
    "print(base64.b64encode(b'ab'+v.encode()).decode(), file=sys.stderr)\n"
)


def test_a_log_is_sealed_without_the_value_and_its_figures_are_those_of_what_is_shown(
    manager: Manager,
) -> None:
    give(manager)
    end = manager.run_python("a", PRINT, secrets=planned())
    out, err = manager.out(end), manager.out(end, "err")
    assert out == (
        'plain [redacted:API_TOKEN]\n{"k": "[redacted:API_TOKEN]\\n"}\n[redacted:API_TOKEN]\n'
    )
    assert "[redacted:API_TOKEN]" in err
    log = end["logs"]["out"]
    assert log["path"] == f"logs/{RUN}/a.1.out" and log["redacted"] == 3
    assert log["size"] == len(out) and log["dropped"] == 0
    assert log["sha256"] == hashlib.sha256(out.encode()).hexdigest()
    assert leaks(manager) == [] and not list(manager.fleet.rglob("*.raw*"))


def test_a_run_without_secrets_knows_nothing_of_it(manager: Manager) -> None:
    end = manager.run_python("a", "print('tok')")
    assert set(end["logs"]["out"]) == {"path", "size", "dropped", "sha256"}
    maps = Path(f"/proc/{manager.pid}/maps").read_text()
    assert "redaction" not in maps
    assert manager.out(end) == "tok\n"


def test_what_a_task_writes_is_shown_while_it_runs_but_never_the_value(manager: Manager) -> None:
    give(manager)
    up, go = manager.fifo("up"), manager.fifo("go")
    code = (
        "import os,sys,time\nv=os.environ['API_TOKEN']\n"
        "sys.stdout.write('first line\\n'+v[:9]); sys.stdout.flush()\n"
        f"open({str(up)!r},'w').write('1'); open({str(go)!r}).read(1)\n"
        "sys.stdout.write(v[9:]+' after\\n'); sys.stdout.flush()\n"
        f"open({str(up)!r},'w').write('2'); open({str(go)!r}).read(1)\n"
    )
    attempt = manager.start_python("a", code, secrets=planned())
    shown = manager.fleet / f"logs/{RUN}/a.1.out"
    for said, wanted in (("1", b"first line\n"), ("2", b"[redacted:API_TOKEN] after\n")):
        assert manager.says("up") == said
        until(lambda wanted=wanted: shown.exists() and shown.read_bytes().endswith(wanted))  # type: ignore[misc]
        assert VALUE[:9].encode() not in shown.read_bytes()
        with go.open("wb", buffering=0) as file:
            file.write(b"x")
    end = manager.end_of(attempt)
    assert manager.out(end) == "first line\n[redacted:API_TOKEN] after\n"


def until(is_so: Any) -> None:
    """Polls a file, for which there is no event that this process could wait for."""
    import time

    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_long_log_loses_its_middle_and_no_half_of_a_value_is_left(manager: Manager) -> None:
    give(manager)
    code = (
        "import os,sys\nv=os.environ['API_TOKEN'].encode()\n"
        "block=(v+b' x'*7+b'\\n')*997\n"
        "for i in range(130): os.write(1, block)\n"
    )
    end = manager.run_python("a", code, secrets=planned())
    log = end["logs"]["out"]
    path = manager.fleet / log["path"]
    kept, dropped = read_log(path, marker=False)
    assert log["dropped"] == dropped > 0
    assert log["size"] == path.stat().st_size == len(kept) + dropped
    assert log["sha256"] == hashlib.sha256(kept).hexdigest()
    whole = b"[redacted:API_TOKEN]" + b" x" * 7
    odd = {line for line in kept.split(b"\n") if line != whole}
    assert len(odd) <= 3, odd
    assert not any(VALUE[at : at + 7].encode() in line for line in odd for at in range(19)), odd
    assert leaks(manager) == []


@pytest.mark.parametrize("when", ["while it runs", "while it is sealed"])
def test_a_killed_runtime_is_followed_by_one_that_seals(manager: Manager, when: str) -> None:
    give(manager)
    up, go = manager.fifo("up"), manager.fifo("go")
    code = (
        "import os,sys\nv=os.environ['API_TOKEN']\n"
        "print((v+' and more of it\\n')*20000, end='', flush=True)\n"
        f"open({str(up)!r},'w').write('1'); open({str(go)!r}).read(1)\n"
    )
    attempt = manager.start_python("a", code, secrets=planned(), log_limit=8 << 20)
    manager.until_up("up")
    if when == "while it is sealed":
        with go.open("wb", buffering=0) as file:
            file.write(b"x")
        manager.kill_runtime()
    else:
        manager.kill_runtime()
        with go.open("wb", buffering=0) as file:
            file.write(b"x")
    end = manager.end_of(attempt)
    assert manager.out(end) == "[redacted:API_TOKEN] and more of it\n" * 20000
    assert leaks(manager) == [] and not list(manager.fleet.rglob("*.raw*"))


def test_without_the_values_a_log_is_withheld_until_they_come_again(manager: Manager) -> None:
    give(manager)
    up, go = manager.fifo("up"), manager.fifo("go")
    code = (
        PRINT + f"sys.stdout.flush(); open({str(up)!r},'w').write('1'); open({str(go)!r}).read(1)\n"
    )
    attempt = manager.start_python("a", code, secrets=planned())
    manager.until_up("up")
    raw = until_raw(manager, "a.1", 100)
    keeper, runtime = manager.keeper, manager.pid
    manager.kill(keeper)
    manager.kill(runtime)
    with go.open("wb", buffering=0) as file:
        file.write(b"x")
    manager.epoch += 1
    manager.dial()
    end = manager.end_of(attempt)
    assert end["logs"]["out"]["withheld"] == raw.stat().st_size
    assert raw.stat().st_mode & 0o077 == 0
    shown = manager.fleet / f"logs/{RUN}/a.1.out"
    assert not shown.exists() or VALUE.encode() not in shown.read_bytes()
    give(manager)
    until(lambda: not raw.exists())
    assert shown.read_text().startswith("plain [redacted:API_TOKEN]\n")
    assert leaks(manager) == []


def test_on_a_full_disk_a_log_is_withheld_until_there_is_room(tmp_path: Path) -> None:
    lines = 20_000
    code = (
        "import os\nline = f\"{os.environ['API_TOKEN']} and so on, {'x' * 40}\"\n"
        f"for _ in range({lines}): print(line)\n"
        "import sys; sys.stdout.flush()\n"
        "open('up', 'w').write('up'); open('go').readline()\n"
    )
    with small_disk(tmp_path / "small", "tmpfs", 4 << 20) as folder:
        (folder / "work").mkdir()
        manager = Manager(folder / "work")
        give(manager)
        for name in ("up", "go"):
            manager.fifo(name)
        attempt = manager.start("a", [sys.executable, "-c", code], secrets=planned())
        manager.until_up("up")
        ballast = fill(folder, leave=128 * 1024)
        (manager.root / "go").write_text("go\n")
        end = manager.end_of(attempt)
        assert end["exit"] == 0 and end["logs"]["out"]["withheld"] > lines * 60, end
        assert leaks(manager) == [f"logs/{RUN}/a.1.out.raw"]
        ballast.unlink()
        give(manager)  # as they come with a manager, or with `fleet resume`
        until(lambda: not leaks(manager))
        shown = (manager.fleet / f"logs/{RUN}/a.1.out").read_bytes()
        assert shown.count(b"[redacted:API_TOKEN] and so on") == lines
        manager.finish()


def test_evidence_is_kept_without_the_value_and_says_whose_it_was(manager: Manager) -> None:
    give(manager)
    end = manager.run_python(
        "a",
        "import os; open('made','w').write('has '+os.environ['API_TOKEN'])",
        secrets=planned(),
        evidence=[{"path": "made", "cap": 1000}],
    )
    kept = end["evidence"]["made"]
    assert kept["redacted"] == ["API_TOKEN"]
    data = (manager.fleet / "evidence" / kept["sha256"]).read_bytes()
    assert data == b"has [redacted:API_TOKEN]" and kept["size"] == len(data)
    assert leaks(manager) == []
    assert VALUE in (manager.root / "made").read_text()


def test_an_artifact_whose_name_holds_a_value_is_refused_by_name(manager: Manager) -> None:
    give(manager, {"API_TOKEN": "planted-in-a-name"})
    end = manager.run_python(
        "a",
        "import os; open('x-'+os.environ['API_TOKEN'],'w').write('')",
        secrets=planned(),
        artifacts={"report": ["x-*"]},
        expected=["report"],
    )
    [said] = end["artifact_errors"]
    assert said == "report: x-[redacted:API_TOKEN]: its name holds the secret API_TOKEN"
    assert end["missing"] == ["report"] and "planted-in-a-name" not in str(manager.line.heard)


def test_words_of_steps_are_kept_without_the_value(manager: Manager) -> None:
    give(manager)
    stem = f"logs/{RUN}/step1"
    words = 'echo "{\\"verdict\\": \\"fail\\", \\"reason\\": \\"saw $API_TOKEN\\"}"; exit 1'
    step = {"kind": "command", "argv": ["sh", "-c", words], "out": f"{stem}.out"}
    step = {**step, "err": f"{stem}.err", "secrets": planned()}
    end = manager.run("a", ["true"], steps=[step])
    [told] = end["steps"]
    kept = (manager.fleet / "evidence" / told["verdict"]["sha256"]).read_text()
    assert kept == '{"verdict": "fail", "reason": "saw [redacted:API_TOKEN]"}'
    assert leaks(manager) == [] and not list(manager.fleet.rglob("*.raw*"))


def test_what_an_agent_says_of_itself_is_told_without_the_value(manager: Manager) -> None:
    give(manager)
    usage = {"note": [{"path": "note"}], "error": [{"path": "error"}], "session": [{"path": "s"}]}
    code = (
        "import os,json\nv=os.environ['API_TOKEN']\n"
        "print(json.dumps({'note': 'x'*190+v, 'error': 'bad '+v, 's': v}))\n"
    )
    end = manager.run_python("a", code, secrets=planned(), usage=usage)
    agent = end["agent"]
    assert (
        agent["error"] == "bad [redacted:API_TOKEN]" and agent["session"] == "[redacted:API_TOKEN]"
    )
    assert VALUE[:5] not in agent["note"]
    assert leaks(manager) == []


def test_sealing_is_python_3_9(tmp_path: Path) -> None:
    import ast

    folder = Path(sys.modules["codewhale_fleet"].__path__[0]) / "worker"
    for name in ("redaction", "needles", "escapes", "sealing", "screening"):
        ast.parse((folder / f"{name}.py").read_text(), feature_version=(3, 9))
