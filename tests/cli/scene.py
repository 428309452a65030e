"""A fleet on disk with a story in it, made without starting a process; and `main` called here."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from codewhale_fleet.cli import main
from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.ledger.store import Ledger

RUN = "demo-abc234"
FAIL = e.Receipt(result="fail", source="task", scorer="exit_code", reason="exit 3")
PASS = e.Receipt(result="pass", scorer="exit_code")
WAITS = e.Receipt(result="partial", source="human", scorer="manual", reason="waits for a person")


@dataclass
class Told:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)

    @property
    def error(self) -> Any:
        return msgspec.json.decode(self.err)["error"]


def told(*words: str) -> Told:
    """Run a command line in this process; no traceback may appear."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        code = main(words)
    finally:
        sys.stdout, sys.stderr = before
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    assert "Traceback" not in texts[1]
    return Told(code, *texts)


class Scene:
    """A fleet below `root`; each step is one transaction. Facts are numbered as a runtime does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ledger = Ledger.open(root / ".fleet", create=True)
        self.facts = 0

    def ask(self, *commands: c.Command, by: str = "cli:user") -> None:
        with self.ledger.transaction(by) as transaction:
            for command in commands:
                transaction.submit(command)
        self.ledger.sync()

    def run(self, *tasks: str, name: str = RUN, workers: int = 2, **fields: Any) -> str:
        created = e.RunCreated(
            name=name.rpartition("-")[0],
            digest="",
            max_workers=workers,
            workspace=str(self.root),
            spec="s.toml",
            **fields,
        )
        raws = tuple(f'{{"id":"{task}","command":"true"}}'.encode() for task in tasks)
        slots = e.WorkerEnrolled(slots=workers, host="h", boot="b", cores=2)
        self.ask(
            c.CreateRun(run=name, created=created),
            c.AddTasks(run=name, tasks=raws),
            c.StartRun(run=name, count=len(tasks)),
            c.Enrol(run=name, enrolled=slots),
        )
        return name

    def place(self, task: str, slot: int = 1, run: str = RUN) -> str:
        worker = f"{run}-local-{slot}"
        self.ask(c.Place(run=run, task=task, worker=worker, boot="b", why="free slot"))
        return f"{run}/{task}@{self.ledger.state.runs[run].tasks[task].attempt}"

    def ended(self, attempt: str, receipt: e.Receipt = PASS, **fields: Any) -> None:
        self.facts += 1
        run = attempt.partition("/")[0]
        worker = self.ledger.state.runs[run].flights[attempt].worker
        fields.setdefault("exit", 0 if receipt.result == "pass" else 3)
        ended = e.AttemptEnded(
            attempt=attempt, worker=worker, src=("rt", self.facts), seconds=1.25, receipt=receipt,
            **fields,
        )  # fmt: skip
        self.ask(c.ReportEnded(ended=ended), by="manager")

    def log(self, attempt: str, text: str, stream: str = "out") -> dict[str, e.Log]:
        """Write a log as the attempt would, and answer it for `ended`."""
        run, _, rest = attempt.partition("/")
        task, _, number = rest.rpartition("@")
        path = f"logs/{run}/{task}.{number}.{stream}"
        file = self.ledger.dir / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return {stream: e.Log(path=path, size=len(text), sha256=digest(text))}

    def finish(self, run: str = RUN) -> None:
        self.ask(c.FinishRun(run=run, seconds=4.5), by="manager")

    def fleet(self, *words: str) -> Told:
        """`fleet WORDS` here."""
        return told(*words, "--dir", str(self.root))


def digest(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()


@contextmanager
def a_scene(root: Path) -> Iterator[Scene]:
    scene = Scene(root)
    try:
        yield scene
    finally:
        scene.ledger.close()


def decided(scene: Scene, result: str = "pass") -> None:
    """Somebody gives the verdict that `review` waits for; its run is over once more."""
    source = "" if result == "pass" else "human"
    receipt = e.Receipt(result=result, source=source, scorer="manual", reason="looked at it")
    scene.ask(c.Judge(run=RUN, attempt=f"{RUN}/review@1", receipt=receipt))
    scene.ask(c.FinishRun(run=RUN, seconds=4.5))


def the_usual(scene: Scene) -> None:
    """`lint` passed, `unit` failed twice, `review` waits for a person; the run is finished."""
    scene.run("lint", "unit", "review")
    lint = scene.place("lint")
    logs = {**scene.log(lint, "linting\n"), **scene.log(lint, "warn\n", "err")}
    scene.ended(lint, logs=logs)
    scene.ended(scene.place("unit"), FAIL)
    scene.ended(scene.place("review"), WAITS)
    scene.finish()
