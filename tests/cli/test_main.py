"""Mistakes become sentences with an exit code; nobody ever sees a traceback."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.cli import app, hot, main, status
from codewhale_fleet.errors import Damaged, FleetError

from .driver import FLEET, environment, fleet
from .scene import Scene, the_usual, told


def test_a_mistake_is_a_sentence_and_an_indented_hint(tmp_path: Path) -> None:
    made = told("status", "--dir", str(tmp_path))
    assert made.code == 2
    assert made.out == ""
    assert made.err == (
        f"fleet: there is no fleet in {tmp_path}/.fleet.\n       To begin one here: fleet init\n"
    )


def test_verbose_adds_what_the_exit_code_says(tmp_path: Path) -> None:
    made = told("status", "-v", "--dir", str(tmp_path))
    assert made.err.endswith("       exit code 2: the request is wrong\n")


def test_with_json_a_mistake_is_one_object_on_stderr(tmp_path: Path) -> None:
    made = told("status", "--json", "--dir", str(tmp_path))
    assert (made.code, made.out) == (2, "")
    assert made.error == {
        "code": "no_fleet",
        "message": f"there is no fleet in {tmp_path}/.fleet.",
        "hint": "To begin one here: fleet init",
        "field": None,
        "file": None,
        "line": None,
    }


@pytest.mark.parametrize(
    ("line", "sentence", "hint"),
    [
        ("statsu", "no such command 'statsu'. Did you mean 'status'", "fleet --help"),
        ("run --ech x", "no such option: --ech", "fleet run --help"),
        ("inspect", "missing argument 'ID'.", "fleet inspect --help"),
        ("run s -j 0", "invalid value for '--max-workers' / '-j'", "fleet run --help"),
        ("ledger", "fleet ledger needs a command.", "fleet ledger --help"),
        ("run --each f echo -n {}", "no such option: -n", "-- CMD {}"),
    ],
)
def test_a_wrong_command_line_says_what_and_where_to_look(
    line: str, sentence: str, hint: str
) -> None:
    made = told(*line.split())
    assert made.code == 2
    assert made.err.startswith(f"fleet: {sentence}")
    assert hint in made.err.splitlines()[1]
    as_json = told(*line.split(" "), "--json")
    assert as_json.error["code"] == "usage"


def broken(error: BaseException) -> Any:
    def status(**_: Any) -> int:
        raise error

    return status


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (FleetError("no.", "do this"), 2, "fleet: no.\n       do this\n"),
        (Damaged("it lies."), 5, "fleet: it lies.\n"),
        (FileNotFoundError(2, "No such file", "x.toml"), 2, "fleet: x.toml: no such file.\n"),
        (OSError(28, "No space left on device", "/w"), 5, "fleet: /w: no space left on device.\n"),
        (
            PermissionError(13, "Permission denied", "/a b"),
            2,
            "fleet: /a b: permission denied.\n"
            "       To see which directory keeps you out: namei -l '/a b'\n",
        ),
        (PermissionError(13, "Permission denied"), 2, "fleet: the system: permission denied.\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
        (ValueError("boom"), 70, "fleet: this is a mistake in fleet itself (ValueError: boom).\n"),
        (RecursionError("deep"), 70, "fleet: this is a mistake in fleet itself"),
    ],
)
def test_whatever_goes_wrong_ends_in_a_sentence_and_its_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    monkeypatch.setattr(status, "status", broken(error))
    made = told("status")
    assert made.code == code
    assert made.err.startswith(words)
    if not words:
        assert made.err == ""


def test_a_traceback_is_shown_only_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "status", broken(ValueError("boom")))
    assert "issue tracker" in told("status").err
    done = subprocess.run(
        [sys.executable, "-c",
         "from codewhale_fleet.cli import main, status\n"
         "status.status = lambda **_: 1 / 0\nraise SystemExit(main(['status']))"],
        env=environment(FLEET_DEBUG="1"), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 70
    assert "ZeroDivisionError: division by zero\nfleet: this is a mistake" in done.stderr


def test_other_platforms_are_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    code = main(["status"])
    assert code == 4


def test_control_characters_of_others_never_reach_the_terminal(tmp_path: Path) -> None:
    made = told("inspect", "a\x1b]0;title\x07", "--dir", str(tmp_path))
    assert "\x1b" not in made.err and "\x07" not in made.err


def test_names_that_are_not_utf8_are_no_reason_to_fall_over(tmp_path: Path) -> None:
    (tmp_path / ".fleet").mkdir()
    done = subprocess.run(
        [*FLEET, b"inspect", b"caf\xe9"], cwd=tmp_path, env=environment(), capture_output=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"fleet: ")


def test_a_reader_that_leaves_is_no_mistake(scene: Scene) -> None:
    the_usual(scene)
    done = subprocess.run(
        [sys.executable, "-m", "codewhale_fleet", "receipts"],
        cwd=scene.root, env=environment(), stdout=closed_pipe(), stderr=subprocess.PIPE,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, b"")


def closed_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_a_full_disk_under_the_answer_is_a_sentence(scene: Scene) -> None:
    the_usual(scene)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "codewhale_fleet", "receipts"],
            cwd=scene.root, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 5
    assert done.stderr.startswith("fleet: the answer: no space left on device.")


def test_ctrl_c_ends_a_command_that_only_watches_with_130(scene: Scene) -> None:
    scene.run("a")
    process = subprocess.Popen(
        [*FLEET, "status", "--watch", "--json"],
        cwd=scene.root, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, b"")


def test_both_readers_lead_to_the_same_command(scene: Scene) -> None:
    scene.run("a")
    quick = scene.fleet("status", "--json").json
    slow = told("--json", "--dir", str(scene.root), "status").json
    assert quick == slow
    assert hot.read(["--json", "status"]) is None


def test_help_of_every_command_has_an_example_that_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in app.DECLARED:
        assert main([*name.split(), "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        example = text.rpartition("Example: fleet ")[2].partition(" > ")[0]
        example = example.partition(" For many at once: ")[0]
        call = app.read(shlex.split(example))
        assert isinstance(call, hot.Call)
        assert call.name == name.strip("_")


def test_fleet_alone_says_what_it_can_do_and_its_version(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    for name in {command.split()[0] for command in app.HOT}:
        assert f"\n  {name} " in text
    assert "manager" not in text
    assert "..." not in text.partition("Commands:")[2]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fleet 0.")


def test_the_program_answers_as_a_module_too(tmp_path: Path) -> None:
    assert fleet(tmp_path, "--version").stdout.startswith("fleet 0.")


@pytest.mark.parametrize("closed", ["1", "2", "1 2", "0 1 2"])
def test_a_closed_standard_stream_never_becomes_the_ledger(tmp_path: Path, closed: str) -> None:
    shut = " ".join(f"{number}>&-" for number in closed.split())
    command = f'exec "{sys.executable}" -m codewhale_fleet run --each list -- echo {{}} {shut}'
    (tmp_path / "list").write_text("a\nb\n")
    done = subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, timeout=60)
    assert done.returncode == 0
    for line in (tmp_path / ".fleet" / "fleet.jsonl").read_bytes().splitlines():
        assert line.startswith(b'{"k":"')
