"""What a hot command may import: each module is paid for by each of five hundred callers.

A command has a budget of public modules (what those import of their own private parts changes with
the Python), a few above the count on the day it was written, and none may have what nobody needs
there. A budget that is overdrawn says by how much, and which modules were not there on that day.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from codewhale_fleet.cli import app

from .driver import REPOSITORY, environment, fleet, spec, tasks
from .scene import Scene

NEVER = {
    "argparse", "ast", "asyncio", "click", "concurrent", "ctypes", "dis", "email", "hmac", "http",
    "inspect", "logging", "multiprocessing", "rich", "secrets", "shutil", "ssl", "subprocess",
    "tempfile", "typer", "typing_extensions", "watchfiles",
}  # fmt: skip
"""What no hot command needs where nothing is followed and nothing is drawn."""

BEGINS = {"run", "exec", "resume", "interrupt", "restart", "stop", "pause"}
"""Commands that may have to be the manager."""

FARTHER = {"cli.app", "wire.specfile", "engine.manager", "engine.session", "socket"}
"""What a command that only reads has no use for."""

BUDGETS = {
    "status --json": 97,
    "status": 99,
    "status @last": 101,
    "inspect @last": 108,
    "inspect @last/a": 109,
    "logs @last/a": 106,
    "explain @last/a": 109,
    "receipts": 106,
    "artifacts @last": 106,
    "wait @last/a": 98,
    "run tasks.toml": 144,
    "run tasks.toml --json": 144,
    "run tasks.toml --detach": 136,
    "run --each tasks.toml -- true": 132,
    "exec --on local --json -- true": 150,
    "exec --on local -- true": 153,
    "resume @last --json": 131,
    "interrupt @last/b": 132,
    "restart @last/b": 132,
    "pause @last": 131,
    "stop @last": 131,
}
"""Command line -> public modules that it may import, the interpreter's own start not counted."""

KNOWN = """
    array bisect cli cli.artifacts cli.common cli.controls cli.each cli.explain cli.faces
    cli.hints cli.history cli.hot cli.inspect cli.interrupt cli.live cli.logs cli.names cli.pause
    cli.receipts cli.restart cli.resume cli.run cli.status cli.stop cli.summary cli.table cli.wait
    cli.words codewhale_fleet collections collections.abc contextlib copyreg core
    core.alert_words core.asks core.backoff core.claims core.commands core.controls core.decide
    core.duties core.events core.evolve core.fleet_words core.greeting core.liveness core.load
    core.parts core.patches
    core.placement core.rebuild core.replay core.spec core.spec_hosts core.state core.summary
    core.summed core.tally core.task_words core.tasks core.usage core.verdicts datetime decimal
    engine engine.asking engine.callers engine.clock engine.controls engine.disk engine.facts
    engine.handover engine.hearing engine.housekeeping engine.launch engine.link engine.manager
    engine.runs engine.session engine.signals engine.sockets engine.waiting enum errno errors fcntl
    fnmatch functools gc hashlib heapq hosts hosts.local ipaddress itertools keyword ledger
    ledger.cache ledger.fold ledger.glance ledger.heal ledger.lock ledger.place ledger.reader
    ledger.record ledger.rows ledger.segments ledger.skim ledger.snapshot ledger.store
    ledger.stretches ledger.watermark math mmap msgspec msgspec.inspect msgspec.json
    msgspec.msgpack msgspec.structs msgspec.toml msgspec.yaml ntpath numbers operator pathlib
    platform random re reprlib scoring scoring.exit_code select selectors signal socket string
    struct textwrap tomllib types typing typing.io typing.re urllib urllib.parse uuid views
    views.asking views.explain views.explain_run views.inspect views.receipts views.sentences
    views.status views.timeline views.units views.usage warnings wire wire.aliases wire.literals
    wire.parse wire.problems wire.repeats wire.settle wire.specfile wire.unenforced wire.validate
    worker worker.codec worker.limits worker.logs worker.starting zlib
"""
"""What hot commands imported on the day the budgets were written: only to say what is new."""

CODE = """
import sys
before = set(sys.modules)
from codewhale_fleet.cli import main
code = main(sys.argv[1:])
sys.stdout.flush()
found = [name for name in sys.modules if name not in before]
import json
sys.stderr.write("\\n" + json.dumps(found))
sys.exit(code)
"""


INSIDE = {
    "ask": "ask Which? --timeout 0",
    "progress": "progress 40 linking",
    "checkpoint": "checkpoint note",
    "artifact add": "artifact add note note.md",
    "usage add": "usage add --tokens-in 1",
    "data put": "data put x 1 --tags a=b",
    "data get": "data get x",
    "data list": "data list --json",
    "data query": "data query a=b",
    "data delete": "data delete x",
    "secret get": "secret get KEY",
}
"""Commands of tasks, each as a task calls it."""
INSIDE_MOST = 15
"""Public modules that each may import."""


def imported(scene: Scene, line: str) -> set[str]:
    """The public modules that a command imports; ours without the package's name."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *line.split()],
        cwd=scene.root, env=environment(), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode in (0, 1, 3), done.stderr
    names = json.loads(done.stderr[done.stderr.rindex("\n[") :])
    public = {name for name in names if not name.startswith("_") and "._" not in name}
    return {name.removeprefix("codewhale_fleet.") for name in public}


def prepare(scene: Scene) -> None:
    """An open run: `a` has passed and has a log, `b` and `c` are queued; and a spec of one task."""
    scene.run("a", "b", "c")
    attempt = scene.place("a")
    scene.ended(attempt, logs=scene.log(attempt, "hello\n"))
    spec(scene.root, tasks("true"))


def test_every_command_of_the_table_has_a_budget() -> None:
    assert {line.split()[0] for line in BUDGETS} | set(INSIDE) == set(app.HOT)


@pytest.mark.parametrize("line", BUDGETS)
def test_a_hot_command_keeps_to_its_import_budget(scene: Scene, line: str) -> None:
    prepare(scene)
    found = imported(scene, line)
    unwanted = NEVER if line.split()[0] in BEGINS else NEVER | FARTHER
    assert not {name.partition(".")[0] for name in found} & unwanted | found & unwanted
    new = (
        ", ".join(sorted(found - set(KNOWN.split()))) or "nothing; it takes more of what others had"
    )
    assert len(found) <= BUDGETS[line], (
        f"fleet {line} imports {len(found)} modules, its budget is {BUDGETS[line]}. New: {new}"
    )


def test_an_unchanged_status_imports_nothing_but_itself(scene: Scene) -> None:
    prepare(scene)
    imported(scene, "status --json")
    assert imported(scene, "status --json") == {
        "codewhale_fleet", "errors", "cli", "cli.hot", "cli.table", "cli.common", "cli.status",
        "ledger", "ledger.cache",
    }  # fmt: skip


def test_an_unchanged_status_for_people_needs_no_msgspec_and_no_ledger(scene: Scene) -> None:
    prepare(scene)
    imported(scene, "status")
    found = imported(scene, "status")
    assert not {name.partition(".")[0] for name in found} & (NEVER | {"msgspec", "pathlib"})
    assert {name for name in found if name.startswith("ledger")} == {"ledger", "ledger.cache"}


def test_a_command_of_a_task_imports_next_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("note")
    (tmp_path / "code.py").write_text(CODE.replace("sys.argv[1:]", "sys.argv[1].split()"))
    script = "; ".join(
        f"PYTHONPATH={REPOSITORY} {sys.executable} code.py '{line}'" for line in INSIDE.values()
    )
    text = tasks(script) + 'secrets = ["KEY"]\n'
    fleet(tmp_path, "run", spec(tmp_path, text), KEY="value")
    told = fleet(tmp_path, "logs", "@last/t1").stderr.splitlines()
    found = [set(json.loads(line)) for line in told if line.startswith("[")]
    assert len(found) == len(INSIDE), told
    for line, modules in zip(INSIDE, found, strict=True):
        public = {name for name in modules if not name.startswith("_") and "._" not in name}
        ours = {name.partition(".")[0] for name in public}
        assert not ours & (NEVER | {"msgspec", "socket", "typer", "json", "pathlib"}), line
        assert len(public) <= INSIDE_MOST, (line, sorted(public))


def test_what_msgspec_does_without_can_be_imported_afterwards(scene: Scene) -> None:
    code = (
        "from codewhale_fleet.cli.common import import_msgspec; import_msgspec(); import sys\n"
        "assert 'msgspec' in sys.modules and 'typing_extensions' not in sys.modules\n"
        "import typer, typing_extensions"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())
