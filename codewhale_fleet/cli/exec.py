"""`fleet exec --on SELECTOR -- CMD`: one command on many workers, as one run with one answer.

Each target is a task of its own with its own receipt; the task's id is the worker's. Promises that
nothing is recorded before the request is known to be right, that an unreachable host costs its own
receipt and nothing else, and that what is printed is durable. How it looks is
`cli/exec_faces.py`'s; how targets are selected is the inventory's; from the recorded run on it is a
run like any other.
"""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from msgspec import json

from ..core.fleet_words import LOCAL
from ..errors import FleetError
from .common import EXIT_FAILED, EXIT_UNPLACED, Context, fleet_dir_of, refuse_unwritable
from .exec_targets import (
    Wish,
    is_this_machine,
    least_loaded,
    refuse_untaken,
    selected,
    tasks_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..core.spec_hosts import Worker
    from ..core.state import Run, State
    from ..engine.early import Early
    from ..ledger.store import Ledger
    from .exec_faces import Face

SHELL_SIGNS = frozenset(" \t\n|&;<>()$`\\\"'*?[#~=%{}!")
"""A single word with one of these is text for a shell."""

Again = Callable[[str], str]
"""How the same is typed for another selector."""

AT_ONCE = 128
"""Targets at work at once, where nobody says."""

SCRIPT_BYTES = 1 << 20
"""Most bytes of a script."""


def exec(
    *,
    words: list[str] | None = None,
    on: str | None = None,
    concurrency: int | None = None,
    keep_order: bool = False,
    script: str | None = None,
    one: bool = False,
    timeout: float | None = None,
    env: list[str] | None = None,
    name: str | None = None,
    ctx: Context,
) -> int:
    """Run a command on every worker that a selector means, and tell what each answered."""
    root = Path(ctx.find_root() or ctx.cwd or Path.cwd())
    if on is None:
        raise FleetError(
            "fleet exec was told nobody to run it on.",
            "fleet exec --on SELECTOR -- CMD; fleet worker list shows whom there is.",
            field="--on",
        )
    again = _typed(words or [], script, timeout, env or [])
    wish = Wish(
        command=_command(words or [], script, on),
        timeout=timeout,
        environment=_environment(env or [], again(on)),
    )
    fleet_dir = fleet_dir_of(str(root))
    refuse_unwritable(fleet_dir)
    early = None
    if on != LOCAL:
        from ..engine.early import Early

        early = Early(root, Path(fleet_dir))
    with _opened(root, Path(fleet_dir), on) as (ledger, targets):
        refuse_untaken(wish.environment, targets)
        call = Call(ctx, ledger, root, wish, targets, early)
        if script is not None:
            wish.script = call.kept(script)
        run = call.record(one, concurrency, name or _title(wish, script))
        ctx.hint = call.hint(run, on, again) or None
        return call.see_to_its_end(run, keep_order, again)


@contextmanager
def _opened(root: Path, folder: Path, on: str) -> "Iterator[tuple[Ledger, dict[str, Worker]]]":
    """The ledger, and whom the selector means.

    It is begun for a request that is right, or for what commands tell of workers: who asks at the
    same time finds that there.
    """
    from ..ledger.store import Ledger
    from ..wire import fleetfile

    file = fleetfile.read(root)
    with ExitStack() as stack:
        ledger = None
        if file.inventory or (folder / "fleet.jsonl").exists():
            ledger = stack.enter_context(Ledger.open(folder, create=True))
        targets = selected(root, file, ledger, on)
        if ledger is None:
            ledger = stack.enter_context(Ledger.open(folder, create=True))
        yield ledger, targets


# What is asked --------------------------------------------------------------------------------


def _command(words: list[str], script: str | None, on: str) -> str | list[str]:
    """The command of each task: one word that a shell would read is its text, else no shell is."""
    if script is not None:
        return [Path(script).name or "script", *words]
    if not any(word.strip() for word in words[:1]):
        raise FleetError(
            "fleet exec was given no command.",
            f"Put it behind two dashes: fleet exec --on {_quoted(on)} -- uptime",
            field="CMD",
        )
    from .each import refuse_secrets

    refuse_secrets(b"", words, "")
    if len(words) == 1 and not SHELL_SIGNS.isdisjoint(words[0]):
        return words[0]
    return words


def _environment(names: list[str], again: str) -> list[str]:
    """Names of variables that go along: set here, and none that holds a secret."""
    from ..wire.literals import name_looks_secret

    for name in names:
        if name_looks_secret(name):
            raise FleetError(
                f'--env "{name}" looks like a secret, and those do not travel as variables.',
                f"Keep it: fleet secret set {name}; then name it in secrets of a spec's task.",
                field="--env",
            )
        if not name.replace("_", "a").isalnum() or name[0].isdigit():
            raise FleetError(
                f'--env "{name}" is no name of a variable.',
                "Only the name stands here, its value comes from this shell: --env LANG",
                field="--env",
            )
        if name not in os.environ:
            raise FleetError(f'--env "{name}" is not set here.', f"{name}=… {again}", field="--env")
    return sorted(set(names))


def _quoted(text: str) -> str:
    from shlex import quote

    return quote(text)


def _typed(words: list[str], script: str | None, timeout: float | None, env: list[str]) -> Again:
    """How the same is typed for another selector."""
    given = [part for name in env for part in ("--env", name)]
    given += ["--timeout", f"{timeout:g}"] if timeout is not None else []
    given += ["--script", script] if script else []

    def typed(on: str) -> str:
        made = ["fleet", "exec", "--on", on, *given]
        return shlex.join([*made, "--", *words] if words else made)

    return typed


class Call:
    """One call of `fleet exec`, from its selector to its exit code."""

    def __init__(
        self,
        ctx: Context,
        ledger: "Ledger",
        root: Path,
        wish: Wish,
        targets: "dict[str, Worker]",
        early: "Early | None",
    ) -> None:
        self.early = early
        self.ctx = ctx
        self.ledger = ledger
        self.root = root
        self.wish = wish
        self.targets = targets

    def kept(self, script: str) -> str:
        """Keep a script under its digest."""
        from .each import named, read, refuse_secrets

        data = read(script)
        if not data or len(data) > SCRIPT_BYTES:
            what = "is empty" if not data else f"is larger than {SCRIPT_BYTES:,} bytes"
            raise FleetError(f"{named(script)} {what}.", "--script takes a script.", file=script)
        words = self.wish.command if isinstance(self.wish.command, list) else []
        refuse_secrets(data, words, script)
        from ..engine.verdicts import keep_bytes

        return keep_bytes(self.ledger, data).sha256

    def record(self, one: bool, concurrency: int | None, name: str) -> "Run":
        """Make the run: a task for each target; with `one`, for the one that has least to do."""
        from ..engine.runs import create_run

        policy, waived = b"null", list[str]()
        if (self.root / "fleet.toml").exists():
            from .trust import of_lines

            policy, waived = of_lines(self.root)
        workers = self.targets
        lean = len(workers) == 1 and is_this_machine(workers)

        def choose(state: "State") -> "tuple[list[bytes], dict[str, bytes]]":
            chosen = {least_loaded(state, workers): None} if one else workers
            here = [] if lean else [(id, json.encode(workers[id])) for id in chosen]
            return list(tasks_of(self.wish, chosen, targeted=not lean)), dict(here)

        run = create_run(
            self.ledger,
            [],
            name=name,
            max_workers=min(concurrency or AT_ONCE, 1 if one else len(workers)),
            workspace=Path(self.ctx.cwd or Path.cwd()),
            environment=self.wish.environment,
            policy=policy,
            waived=waived,
            script=self.wish.script,
            choose=choose,
        )
        return self.ledger.hydrate(run)

    def hint(self, run: "Run", on: str, again: Again) -> str:
        """The one call for all targets, for who takes one of several, or one after the other."""
        chosen, count = run.order[0].id, len(self.targets)
        if count > len(run.order):
            return f"{count:,} workers match, and --one took {chosen}; all of them: {again(on)}"
        if count > 1:
            return ""
        from .hints import seen

        return seen(str(self.ledger.dir), again("{,}").replace("'{,}'", "{,}"), chosen) or ""

    def _face(self, run: str, order: list[str], keep_order: bool) -> "Face":
        from . import exec_faces as faces

        given = (self.ctx, run, self.ledger.dir, order)
        if self.ctx.json:
            return faces.Json(*given)
        if keep_order or len(order) == 1:
            return faces.Ordered(*given, alone=len(order) == 1)
        return faces.Grouped(*given)

    def see_to_its_end(self, run: "Run", keep_order: bool, again: Again) -> int:
        """Have it carried out, and say what became of it; the exit code."""
        from ..engine.runs import asker_environment
        from ..engine.session import run_to_end
        from . import summary

        asker = asker_environment(self.wish.environment)
        face = self._face(run.id, [task.id for task in run.order], keep_order)
        if run.workers and not (self.ctx.json or self.ctx.quiet):
            from .waits import Waits

            face.waits = Waits(run.id)
        try:
            ended = run_to_end(self.ledger, run.id, asker=asker, observer=face, early=self.early)
        finally:
            face.close(self.ledger.state)
        if ended.detached:
            return 0
        run = self.ledger.hydrate(run.id)
        made = summary.answer(self.ledger.state, run, interrupted=ended.interrupted)
        if made["exit_code"] == EXIT_FAILED and unreached(run):
            made["exit_code"] = EXIT_UNPLACED
        made["next"] = _next(run, made, again)
        if self.ctx.hint:
            made["hint"] = self.ctx.hint
        face.conclude(self.ledger, run, made)
        return int(made["exit_code"])


def _next(run: "Run", made: dict[str, Any], again: Again) -> list[str]:
    """What a person may type now."""
    if run.status != "finished":
        return [f"fleet status {run.id} shows it", f"fleet resume {run.id} goes on"]
    if made["counts"].get("failed"):
        failed = [task for task in run.order if task.status == "failed"]
        away = [
            task.id
            for task in failed
            if task.source == "transport" and "it is drained" not in task.reason
        ]
        wrong = [task.id for task in failed if task.id not in set(away)]
        steps = [f"fleet explain {run.id}/{wrong[0]} says why"] if wrong else []
        if away:
            from ..views.folding import folded

            steps.append(f"fleet worker test {shlex.quote(folded(away))} says what to do")
        return [*steps, f"once more: {again(f'@failed:{run.id}')}"]
    return [f"fleet receipts {run.id} proves it"]


def _title(wish: Wish, script: str | None) -> str:
    """A name for the run, of what it executes."""
    if script is not None:
        return f"exec {Path(script).stem}"
    words = wish.command.split() if isinstance(wish.command, str) else wish.command
    return f"exec {Path(words[0]).name}" if words else "exec"


def unreached(run: "Run") -> bool:
    """Whether no target at all could be reached."""
    return all(task.status == "failed" and task.source == "transport" for task in run.order)
