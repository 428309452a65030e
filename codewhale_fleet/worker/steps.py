"""Verification by processes: the steps of a plan, performed where the attempt ran, after it.

Each step is a process in a session of its own, with the attempt's directory and environment, its
own logs and its own time; what it leaves behind is swept before the next one. What an agent's step
uses is the attempt's, and held by its caps while it runs. The facts of the steps stand in the
attempt's end. Promises: nothing here waits in a loop (the generator yields the
process whose end it awaits); after a step that does not pass, or once the attempt is to end, no
other step begins; a runtime that is killed meanwhile leaves steps that are performed anew, from
the first. What an answer is worth is not judged here.
"""

from __future__ import annotations

from codewhale_fleet.worker import caps, collect, ending, limits, logs, showing, verdict
from codewhale_fleet.worker.attempts import Attempt
from codewhale_fleet.worker.launch import UNFOLLOWED, Unstarted
from codewhale_fleet.worker.processes import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from codewhale_fleet.worker.execution import Execution, Work
    from codewhale_fleet.worker.launch import Launcher

_KEPT_OF_THE_ATTEMPT = ("root", "cwd", "allow", "log_limit", "log_ceiling", "grace", "fleet",
                        "sandbox")  # fmt: skip
_PASS = "pass"
_NAMED = {False: "budget.", True: "the run's budget."}
_OF_A_STEP = ("argv", "out", "err", "timeout", "secrets", "sandbox", "tools")


class Steps:
    """The steps of one attempt that has ended."""

    def __init__(
        self, execution: Execution, launcher: Launcher, fleet_dir: str, attempt: Attempt
    ) -> None:
        self._execution = execution
        self._launcher = launcher
        self._fleet_dir = fleet_dir
        self._attempt = attempt

    def perform(self, fields: dict[str, Any]) -> Work:
        """Performs what is due, and tells of it in the fields of the attempt's end."""
        attempt = self._attempt
        self._execution.leaders.pop(attempt.pid, None)  # the number may be a step's by now
        told: list[dict[str, Any]] = []
        try:
            for number, step in enumerate(attempt.plan["steps"], 1):
                if attempt.why or not _is_due(step, fields):
                    break
                used = caps.used_by({**fields, "steps": told})
                answer = yield from self._one(number, step, fields, used)
                told.append(answer)
                if not _goes_on(step, answer):
                    break
        except UNFOLLOWED as error:
            told.append({"kind": "command", "unstarted": f"it cannot be followed: {error!r}"})
        for answer in told:
            answer.pop("word", None)
        if told:
            fields["steps"] = told
        if attempt.why:
            fields["why"] = attempt.why
        if attempt.stragglers:
            fields["stragglers"] = attempt.stragglers

    def _one(
        self, number: int, step: dict[str, Any], fields: dict[str, Any], used: caps.Figures
    ) -> Generator[Attempt | None, None, dict[str, Any]]:
        answer: dict[str, Any] = {"kind": step["kind"]}
        plan = self._plan(number, step)
        if "usage" in plan:
            from codewhale_fleet.worker import metering

            if cap := metering.spent(self._attempt, used, clock()):
                words = f"{_NAMED[cap.startswith('run.')]}{cap.removeprefix('run.')} was used up"
                answer.update(why="budget", cap=cap, unstarted=words + " before it began")
                return answer
        if step["kind"] == "agent":
            seen = showing.shown(self._attempt.id, self._attempt.plan, fields, self._fleet_dir)
            if self._attempt.redactor is not None:
                seen = self._attempt.redactor.text(seen)
            answer["seen"] = collect.keep(seen.encode(), self._store)
            plan["prompt"] = {**step["prompt"], "text": step["prompt"]["text"] + seen}
        try:
            process = self._spawn(number, plan)
        except (Unstarted, OSError) as error:
            answer["unstarted"] = str(error)
            return answer
        if process.metering:
            metering.begin_step(self._execution, self._attempt, process, used)
        yield process
        self._execution.over(process, self._attempt)
        ending.forget_secrets(process)
        self._attempt.stragglers += process.stragglers
        if process.why in limits.ASKED:
            self._attempt.why = self._attempt.why or process.why
        answer["seconds"] = round(max(process.ended - process.since, 0.0), 6)
        if process.exit is not None:
            answer["exit"] = process.exit
        else:
            answer["signal"] = process.signal
        if process.why:
            answer["why"] = process.why
        if process.cap:
            answer["cap"] = process.cap
        text = ""
        if process.metering:
            facts = yield from metering.finish(self._execution, process)
            if facts:
                answer["agent"] = facts
            reader = process.metered.reader if process.metered else None
            text = reader.answer if reader is not None else ""
        answer.update((yield from ending.logs_of(process, self._fleet_dir)))
        plan = process.plan
        if "sandbox" in plan:
            from codewhale_fleet.worker import confining

            confining.tell(self._fleet_dir, process, answer)
            confining.forget(self._fleet_dir, plan)
        self._read(step, plan, text, answer)
        return answer

    @property
    def _store(self) -> str:
        return f"{self._fleet_dir}/evidence"

    def _plan(self, number: int, step: dict[str, Any]) -> dict[str, Any]:
        mine = self._attempt.plan
        plan = {name: mine[name] for name in _KEPT_OF_THE_ATTEMPT if name in mine}
        plan.update((name, step[name]) for name in _OF_A_STEP if name in step)
        plan["env"] = {**mine.get("env", {}), **step.get("env", {}), "FLEET_STEP": str(number)}
        plan["allow"] = [*mine.get("allow", ()), *step.get("allow", ())]
        if step["kind"] == "agent" and step.get("usage"):
            plan["usage"], plan["answer"] = step["usage"], True
        if self._attempt.secrets_dir:
            plan["secrets_dir"] = f"{self._attempt.secrets_dir}/step{number}"
        if "sandbox" in plan or "tools" in plan:
            plan["own"] = mine["out"].removeprefix("logs/").removesuffix(".out")
            if "isolate" in mine:
                from codewhale_fleet.worker import isolation

                plan.update(isolation.inside(mine, self._fleet_dir))
        return plan

    def _spawn(self, number: int, plan: dict[str, Any]) -> Attempt:
        attempt = self._attempt
        for stream in ("out", "err"):  # of steps that a killed runtime had begun
            self._launcher.clear_log(plan[stream])
            if attempt.hides:
                self._launcher.clear_log(f"{plan[stream]}.raw")
        program, environment = self._launcher.prepare(attempt.run, attempt.id, plan)
        process = Attempt(attempt.id, attempt.run, attempt.slot, plan, clock())
        process.step = number
        if plan.get("secrets"):
            from codewhale_fleet.worker import secrets

            secrets.tell(self._execution.journal, process)
        process.pid = self._launcher.spawn(program, plan, environment, attempt.run)
        self._execution.journal.swept(process.pid)  # its note is not that of an attempt
        self._execution.watch(process)
        return process

    def _read(
        self, step: dict[str, Any], plan: dict[str, Any], text: str, answer: dict[str, Any]
    ) -> None:
        """Keeps the verdict in what was written; `text` is what an agent's stream answers."""
        if step["kind"] == "command":
            self._read_command(plan, answer)
            return
        if not step.get("usage"):
            text = self._tail(plan["out"], limits.ANSWER_BYTES)
        kept = text.strip()[-limits.ANSWER_BYTES :]
        answer["word"] = verdict.word_of(verdict.anywhere(kept))
        if kept:
            answer["verdict"] = collect.keep(kept.encode("utf-8", "replace"), self._store)

    def _read_command(self, plan: dict[str, Any], answer: dict[str, Any]) -> None:
        """Keeps the verdict that its output ends with; of a failure without one, its last words."""
        kept = verdict.at_the_end(self._tail(plan["out"], limits.ANSWER_BYTES))
        if kept is not None:
            answer["word"] = verdict.word_of(kept)
        elif answer.get("exit") == 0:
            answer["word"] = _PASS
            return
        else:
            ends = [self._tail(plan[stream], limits.LAST_WORDS_BYTES) for stream in ("out", "err")]
            words = "\n".join(end.strip() for end in ends if end.strip())
            kept = f"{words}\n{verdict.LAST_WORDS}" if words else ""
        if kept:
            answer["verdict"] = collect.keep(kept.encode("utf-8", "replace"), self._store)

    def _tail(self, path: str, most: int) -> str:
        """The end of a log."""
        try:
            data = logs.read_log(f"{self._fleet_dir}/{path}", most, marker=False)[0]
        except OSError:
            return ""
        return data.decode("utf-8", "replace")


def _is_due(step: dict[str, Any], fields: dict[str, Any]) -> bool:
    """Can what it would say still matter?"""
    failed = fields.get("exit") != 0 or (fields.get("agent") or {}).get("error")
    if step.get("needs_exit_zero") and failed:
        return False
    evidence = fields.get("evidence") or {}
    return not any(
        evidence.get(path, {}).get("error") not in (None, "", "too large")
        for path in step.get("needs_files") or ()
    )


def _goes_on(step: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Does another step follow?"""
    if answer.get("why") or answer.get("unstarted"):
        return False
    if step["kind"] == "agent" and answer.get("exit") != 0:
        return False
    return bool(answer.get("word") == _PASS)
