"""What many answered is told once where it is the same, in order where asked, or line by line."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from codewhale_fleet.cli import exec_faces as faces
from codewhale_fleet.cli import summary
from codewhale_fleet.cli.common import Context
from codewhale_fleet.cli.exec_told import EXCERPT_BYTES, excerpt
from codewhale_fleet.core import events as e

from .scene import FAIL, PASS, RUN, Scene, a_scene

GONE = e.Receipt(result="fail", source="transport", reason="10.0.0.9:22 refused the connection")
Answer = tuple[str, str, e.Receipt]
Show = Callable[..., str]


@pytest.fixture
def show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Show:
    """Tells a run of these targets, each with what it answered, by one of the faces."""

    def told(
        kind: type[faces.Face],
        answers: dict[str, Answer],
        *,
        order: list[str] | None = None,
        observed: bool = True,
        finished: bool = True,
        **more: Any,
    ) -> str:
        with a_scene(Path(mkdtemp(dir=tmp_path))) as scene:
            scene.run(*answers, workers=len(answers))
            order = order or list(answers)
            ctx = Context(json=kind is faces.Json)
            face = kind(ctx, RUN, scene.ledger.dir, order, **more)
            seen = scene.ledger.state.seq
            for id, answer in answers.items():
                if answer is not UNTOLD:
                    end(scene, id, answer)
            if finished:
                scene.finish()
            run = scene.ledger.hydrate(RUN)
            if observed:
                records = [(h, one) for h, one in scene.ledger.records(RUN) if h.seq > seen]
                face.changed(scene.ledger.state, records)
            made = summary.answer(scene.ledger.state, run)
            face.conclude(scene.ledger, run, {**made, "next": ["what to type"]})
            face.close(scene.ledger.state)
        return capsys.readouterr().out

    return told


UNTOLD: Answer = ("", "", PASS)


def end(scene: Scene, id: str, answer: Answer) -> None:
    out, err, receipt = answer
    attempt = scene.place(id)
    logs = {**scene.log(attempt, out), **scene.log(attempt, err, "err")}
    scene.ended(attempt, receipt, logs=logs)


def said(out: str, err: str = "", receipt: e.Receipt = PASS) -> Answer:
    return (out, err, receipt)


def test_the_same_answer_of_many_is_told_once(show: Show) -> None:
    answers = {f"web{n:02d}": said("12.5\n") for n in range(1, 17)}
    answers["web07"] = answers["web11"] = said("12.4\n")
    assert show(faces.Grouped, answers) == (
        "all 16 hosts passed in 4.5 s   demo-abc234\n\n"
        "14 hosts: web[01-06,08-10,12-16]\n  12.5\n\n"
        "2 hosts differ: web[07,11]\n  12.4\n\n"
        "what to type\n"
    )


def test_what_failed_is_told_after_what_passed_and_who_was_not_reached_last(show: Show) -> None:
    answers = {
        "a": said("", "", GONE),
        "b": said("half\n", "broken\n", FAIL),
        "c": said("fine\n", "but slow\n"),
        "d": said(""),
    }
    assert show(faces.Grouped, answers) == (
        "2 of 4 hosts passed in 4.5 s   demo-abc234\n\n"
        "1 host: c\n  fine\n  stderr: but slow\n\n"
        "1 host differs: d\n  (no output)\n\n"
        "1 host failed (exit 3): b\n  half\n  stderr: broken\n\n"
        "1 host unreachable: a\n  a  transport: 10.0.0.9:22 refused the connection\n\n"
        "what to type\n"
    )


def test_an_answer_counts_with_its_stderr_and_its_exit_code(show: Show) -> None:
    other = e.Receipt(result="fail", source="task", scorer="exit_code", reason="exit 4")
    answers = {
        "a": said("x"), "b": said("x", "y"), "c": said("x", "", FAIL), "d": said("x", "", other),
    }  # fmt: skip
    text = show(faces.Grouped, answers)
    assert [line for line in text.splitlines() if line[:1] == "1"] == [
        "1 host: a", "1 host differs: b", "1 host failed (exit 3): c", "1 host failed (exit 4): d",
    ]  # fmt: skip


def test_a_long_answer_that_differs_little_is_told_by_its_difference(show: Show) -> None:
    lines = [f"line {n}\n" for n in range(9)]
    other = "".join([*lines[:4], "something else\n", *lines[5:]])
    answers = {"a": said("".join(lines)), "b": said("".join(lines)), "c": said(other)}
    text = show(faces.Grouped, answers)
    assert "1 host differs: c\n  -line 4\n  +something else\n\n" in text


def test_answers_of_which_no_two_are_the_same_are_told_with_their_ranges(show: Show) -> None:
    answers = {f"n{n}": said(f"up {n} days, load 0.{n}0\n") for n in range(1, 7)}
    answers["n9"] = said("rebooting\n")
    assert show(faces.Grouped, answers) == (
        "all 7 hosts passed in 4.5 s   demo-abc234\n\n"
        "6 hosts (same but for numbers): n[1-6]\n  up 1–6 days, load 0.10–0.60\n\n"
        "1 host: n9\n  rebooting\n\n"
        "what to type\n"
    )


def test_in_order_each_is_told_as_soon_as_all_before_it_are(show: Show) -> None:
    answers = {"b": said("second\n"), "c": said("third", "", FAIL), "a": said("first\n")}
    text = show(faces.Ordered, answers, order=["a", "b", "c"])
    assert text == "== a\nfirst\n== b\nsecond\n== c  failed: exit 3\nthird"


def test_one_alone_is_told_as_if_it_had_run_here(show: Show) -> None:
    assert show(faces.Ordered, {"a": said("just this\n")}, alone=True) == "just this\n"


def test_json_is_a_line_for_each_and_one_of_the_whole(show: Show) -> None:
    text = show(
        faces.Json, {"a": said("x\n"), "b": said("", "no\n", FAIL), "c": said("", "", GONE)}
    )
    a, b, c, whole = map(json.loads, text.splitlines())
    assert a["receipt"] and a["attempt"] == f"{RUN}/a@1"
    assert {key: a[key] for key in ("id", "result", "exit", "stdout", "stderr", "cut")} == {
        "id": "a", "result": "pass", "exit": 0, "stdout": "x\n", "stderr": "", "cut": {},
    }  # fmt: skip
    assert (b["result"], b["source"], b["exit"], b["stderr"]) == ("fail", "task", 3, "no\n")
    assert (c["result"], c["source"], c["reason"]) == ("fail", "transport", GONE.reason)
    assert whole["run"] == RUN and whole["counts"] == {"completed": 1, "failed": 2}


def test_what_nobody_observed_is_told_from_the_ledger(show: Show) -> None:
    answers = {"a": said("x\n"), "b": said("x\n")}
    assert "2 hosts: a,b\n  x\n" in show(faces.Grouped, answers, observed=False)


def test_who_never_ran_is_told_all_the_same(show: Show) -> None:
    text = show(faces.Json, {"a": said("x\n"), "b": UNTOLD}, finished=False)
    assert [json.loads(line).get("reason") for line in text.splitlines()[:2]] == [
        "", "it is queued",
    ]  # fmt: skip


def test_long_output_is_cut_in_its_middle_and_says_so(tmp_path: Path, show: Show) -> None:
    long = "".join(f"line {n}\n" for n in range(40_000))
    (tmp_path / "x").write_text(long)
    text, left_out = excerpt(tmp_path, e.Log(path="x", size=len(long)))
    assert len(text) < EXCERPT_BYTES + 100 and left_out == len(long) - EXCERPT_BYTES
    assert f"[... {left_out:,} bytes left out ...]" in text
    assert text.startswith("line 0\n") and text.endswith("line 39999\n")
    printed = show(faces.Grouped, {"a": said(long), "b": said(long)})
    assert f"  all of it: fleet logs {RUN}/a\n" in printed
    made = json.loads(show(faces.Json, {"a": said(long)}).splitlines()[0])
    assert made["cut"] == {"stdout": left_out}
    assert show(faces.Ordered, {"a": said(long)}, alone=True) == long
