"""Attempts from `start` to `ended`: the part of the runtime that has processes and time.

`start` queues; `pump` gives free slots to what waits: checks, intent line, spawn, pid line. What
ended is seen on its pidfd: its status is journalled *before* it is reaped, so that a kill of the
runtime at any instant loses none; then its group is killed, it is reaped, its stragglers are swept,
its logs sealed, artifacts and evidence collected, and the fact `ended` frees the slot. All that
waits for time is one timer an attempt; long work is a generator. It knows no sockets.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import ending, limits, looks, processes, protocol
from codewhale_fleet.worker.adopted import Adopted
from codewhale_fleet.worker.attempts import Attempt, Run, Waiting, is_attempt_id, kept_of
from codewhale_fleet.worker.launch import UNFOLLOWED, Launcher, Unstarted
from codewhale_fleet.worker.memory import Killer
from codewhale_fleet.worker.processes import clock as clock
from codewhale_fleet.worker.sweep import Orphans
from codewhale_fleet.worker.timers import Timers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Generator
    from select import epoll
    from typing import Any

    from codewhale_fleet.worker.asks import Asks
    from codewhale_fleet.worker.journal import Journal
    from codewhale_fleet.worker.notes import Notes
    from codewhale_fleet.worker.place import Place
    from codewhale_fleet.worker.stalls import Usage

    Work = Generator[Attempt | None, None, None]
    """Work in pieces; it waits for the end of what it yields."""
else:
    from _collections import deque

_EPOLLIN = 1
_SIGNALS = (2, 15, 9)
"""INT, TERM, KILL: the stages of an end that was asked for."""


class Execution:
    """All attempts of this host's fleet. `refusals` are lines for the managers, not facts."""

    def __init__(self, journal: Journal, place: Place, poll: epoll, notes: Notes) -> None:
        self.journal = journal
        self.runs: dict[str, Run] = {}
        self.running: dict[str, Attempt] = {}
        self.leaders: dict[int, Attempt] = {}
        self.by_pidfd: dict[int, Attempt] = {}
        self.timers = Timers()
        self.refusals: list[bytes] = []
        self.adopted = Adopted(self, notes, place.keeper)
        self.work: deque[Work] = deque()
        self.orphans = Orphans(self.running, self.leaders, journal)
        self.place = place
        self.fleet_dir = place.fleet_dir
        self._poll = poll
        self.launcher = Launcher(place.fleet_dir)
        self._ready: dict[str, Run] = {}
        self._most = max(os.sysconf("SC_OPEN_MAX") - limits.SPARE_FDS, 8)
        self.tidied = 0.0
        self.processor: Usage | None = None
        """Processor time by attempt, once somebody asks."""
        self.killer = Killer()
        self.asks: Asks | None = None
        """The door for tasks, where there is one."""

    # ---- asked by managers

    def run(self, name: str) -> Run:
        """The run of that name, made when first heard of."""
        found = self.runs.get(name)
        if found is None:
            found = self.runs[name] = Run(name)
        return found

    def start(self, attempt: str, slot: str, slots: int, plan: dict[str, Any]) -> bytes | None:
        """Queues an attempt, once; answers the refusal, if it is one."""
        if self.journal.knows(attempt):
            return None
        if not is_attempt_id(attempt):
            return protocol.refused(attempt, "attempt", "an attempt is called RUN/TASK@N")
        run = self.run(attempt[: attempt.index("/")])
        if attempt in run.waiting:
            return None
        if run.base is None or ("secrets" in plan and run.lacks(plan)):
            sentence = f"the environment values of the run {run.name} are not known here"
            return protocol.refused(attempt, "values", sentence)
        if "run_caps" in plan:
            from codewhale_fleet.worker import metering

            plan["run_ack"] = self.journal.acknowledged
            metering.hear(run, plan)
        run.add(Waiting(attempt, slot, plan), slots)
        self._ready[run.name] = run
        return None

    def interrupt(self, attempt: str, why: str, kill: bool) -> None:
        """Ends what runs, withdraws what waits, and fences what was never heard of."""
        running = self.running.get(attempt)
        if running:
            self.stop(running, why, kill)
            return
        run = self.runs.get(attempt.partition("/")[0])
        waiting = run.withdraw(attempt) if run else None
        if waiting or (not self.journal.knows(attempt) and is_attempt_id(attempt)):
            slot = waiting.slot if waiting else ""
            self._unstarted(attempt, slot, "it was withdrawn before it started", "withdrawn")

    def open_attempts(self) -> list[str]:
        """What runs, and what waits."""
        waiting = [name for run in self.runs.values() for name in run.waiting]
        return list(self.running) + waiting

    def is_idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self.running and not any(run.waiting for run in self.runs.values())

    # ---- starting

    def pump(self) -> None:
        """Gives free slots to what waits."""
        while self._ready and len(self.by_pidfd) < self._most:
            name, run = next(iter(self._ready.items()))
            taken = run.take_next()
            if taken is None:
                del self._ready[name]
            else:
                self._begin(run, *taken)

    def _begin(self, run: Run, item: Waiting, slot: str) -> None:
        plan, name, journal = self.place.home.plan(item.plan), item.attempt, self.journal
        journal.learn(name)
        if run.purse is not None and (cap := run.purse.crossed(clock(), reached=True)):
            sentence = f"the run's budget.{cap} was used up before it started"
            self._unstarted(name, slot, sentence, "budget", "run." + cap)
            run.busy.discard(slot)
            return
        try:
            if "isolate" in plan:
                from codewhale_fleet.worker import isolation

                plan = isolation.plan_of(self.place, name, plan)
            program, environment = self.launcher.prepare(run, name, plan)
            if self.asks is not None:
                environment.update(self.asks.environment(plan))
            attempt = Attempt(name, run, slot, kept_of(plan), clock())
            since, kept = attempt.since, attempt.plan
            journal.put({"f": "intent", "a": name, "s": slot, "t": since, "p": kept})
        except (Unstarted, *UNFOLLOWED) as error:
            if isinstance(error, Unstarted):
                self._unstarted(name, slot, str(error), error.why)
            else:
                self._unstarted(name, slot, f"its plan cannot be followed: {error!r}")
            run.busy.discard(slot)
            return
        if not journal.flush(spare=False):
            self._refuse_for_disk(run, name, slot)
            return
        if "secrets" in attempt.plan:
            from codewhale_fleet.worker import secrets

            secrets.tell(journal, attempt)
        try:
            pid = self.launcher.spawn(program, plan, environment, run)
        except Unstarted as reason:
            self._unstarted(name, slot, str(reason))
            run.busy.discard(slot)
            return
        journal.put({"f": "pid", "a": name, "pid": pid, "t": clock()})
        journal.flush()
        attempt.pid = pid
        self.killer.look(attempt.since)
        self.watch(attempt)

    def _refuse_for_disk(self, run: Run, name: str, slot: str) -> None:
        self.journal.drop_last()
        self.journal.forget(name)
        run.busy.discard(slot)
        sentence = "the journal of this host cannot be written: is the disk full?"
        self.refusals.append(protocol.refused(name, "disk", sentence))

    def watch(self, attempt: Attempt) -> None:
        """From now on the attempt's end is seen, and time counts for it."""
        self.running[attempt.id] = attempt
        self.leaders[attempt.pid] = attempt
        fd = attempt.pidfd = os.pidfd_open(attempt.pid, 0)
        self.by_pidfd[fd] = attempt
        self._poll.register(fd, _EPOLLIN)
        self.timers.set(attempt.id, attempt.next_due())

    def _unstarted(
        self, name: str, slot: str, sentence: str, why: str | None = None, cap: str = ""
    ) -> None:
        self.journal.learn(name)
        fields: dict[str, Any] = {"attempt": name, "slot": slot, "seconds": 0.0}
        fields["unstarted"] = sentence
        if why:
            fields["why"] = why
        if cap:
            fields["cap"] = cap
        self.journal.fact("ended", fields)

    # ---- ending

    def exited(self, attempts: list[Attempt]) -> None:
        """The pidfds of these say that their processes have ended."""
        now = clock()
        for attempt in attempts:
            if attempt.adopted:
                continue
            status = os.waitid(os.P_PID, attempt.pid, os.WEXITED | os.WNOWAIT)
            assert status is not None
            attempt.ended = now
            if status.si_code == os.CLD_EXITED:
                attempt.exit = status.si_status
            else:
                attempt.signal = status.si_status
            if not attempt.step:
                self.journal.exited(attempt)
        self.journal.flush()
        for attempt in attempts:
            if attempt.adopted:
                self.adopted.ended(attempt, now)
            else:
                self._reap(attempt)

    def _reap(self, attempt: Attempt) -> None:
        processes.send_signal(attempt.pid, 9, group=True)  # while the zombie keeps the number
        _, _, usage = os.wait4(attempt.pid, 0)
        attempt.cpu = usage.ru_utime + usage.ru_stime
        import resource  # 0.3 ms: after the first hello was sent

        # The child inherits the peak of the image that it was spawned from: up to ours, unknown.
        if usage.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
            attempt.rss_kb = usage.ru_maxrss
        self.unwatch(attempt)
        self.killer.suspect(attempt, clock())
        self.sweep(attempt)

    def unwatch(self, attempt: Attempt) -> None:
        if attempt.pidfd >= 0:
            del self.by_pidfd[attempt.pidfd]
            # Closing alone is not enough: a child that is just being spawned may hold a copy of
            # the descriptor until its exec, and its event would be taken for the next owner's.
            self._poll.unregister(attempt.pidfd)
            os.close(attempt.pidfd)
            attempt.pidfd = -1

    def sweep(self, attempt: Attempt) -> None:
        now = clock()
        if not attempt.sweep_until:
            attempt.sweep_until = now + limits.SWEEP_SECONDS
        if not self.orphans.sweep(attempt) and now < attempt.sweep_until:
            self.timers.set(attempt.id, now + attempt.sweep_delay)
            attempt.sweep_delay = min(attempt.sweep_delay * 2, 0.05)
            return
        self.timers.clear(attempt.id)
        self.advance(attempt.then or self._close(attempt))

    def advance(self, work: Work) -> None:
        """Goes on with some work until its next pause."""
        for awaited in work:
            if awaited is None:
                self.work.append(work)
            else:
                awaited.then = work
            return

    def step(self) -> None:
        """One piece of the work that takes long."""
        if self.work:
            self.advance(self.work.popleft())

    def over(self, process: Attempt, attempt: Attempt) -> None:
        """A step's process is gone, and what it left; the attempt itself goes on being closed."""
        self.leaders.pop(process.pid, None)
        self.running[attempt.id] = attempt

    def _close(self, attempt: Attempt) -> Work:
        """Seals and collects, piece by piece, has it verified, and states the end."""
        attempt.plan = self.place.home.plan(attempt.plan)
        ending.forget_secrets(attempt)  # before the steps: they get none of them
        agent: dict[str, Any] = {}
        own: dict[str, Any] = {}
        if "isolate" in attempt.plan:
            from codewhale_fleet.worker import isolation

            own = yield from isolation.finish(self, attempt)
        if attempt.adopted and "steps" in attempt.plan:
            from codewhale_fleet.worker import metering

            yield from metering.recount(self, attempt)
        if attempt.metering:
            from codewhale_fleet.worker import metering

            agent = yield from metering.finish(self, attempt)
        fields = yield from ending.fields_of(attempt, self.fleet_dir)
        if "answer" in attempt.plan and attempt.metering:
            ending.take_answer(attempt, fields, metering.answer_of(attempt), self.fleet_dir)
        if attempt.own is not None:
            agent = attempt.own.merged(agent)
            if self.asks is not None:
                self.asks.closed(attempt.id)
        if agent:
            fields["agent"] = agent
        if own:
            isolation.tell(fields, own)
        if "steps" in attempt.plan and "unstarted" not in fields:
            from codewhale_fleet.worker.steps import Steps

            yield from Steps(self, self.launcher, self.fleet_dir, attempt).perform(fields)
        ending.forget_secrets(attempt)  # those of its steps
        self.journal.fact("ended", fields)
        if attempt.run.purse is not None:
            attempt.run.purse.end(attempt.id, self.journal.n, fields)
        del self.running[attempt.id]
        if self.leaders.get(attempt.pid) is attempt:
            del self.leaders[attempt.pid]
        attempt.run.busy.discard(attempt.slot)
        self._ready[attempt.run.name] = attempt.run
        if "isolate" in attempt.plan:
            isolation.done(self, attempt)
        yield from ending.tidied(attempt, self.fleet_dir)

    # ---- time

    def due(self, now: float) -> list[str]:
        """Does what time asks for; answers the keys that are not attempts."""
        others: list[str] = []
        for key in self.timers.due(now):
            attempt = self.running.get(key)
            if attempt is None:
                others.append(key)
            elif attempt.ended:
                self.sweep(attempt)
            elif attempt.pidfd < 0:
                self.adopted.unnoted(attempt, now)
            else:
                self._tick(attempt, now)
        return others

    def _tick(self, attempt: Attempt, now: float) -> None:
        if not attempt.started and now >= attempt.since + limits.STARTED_AFTER:
            looks.outlived(self, attempt)
        if attempt.started and not attempt.confined:
            attempt.confined = True
            self.orphans.confine(attempt)
        if now >= attempt.look_at:
            looks.look(self, attempt, now)
        if attempt.stall and attempt.started and not attempt.stage and now >= attempt.stall.due:
            from codewhale_fleet.worker import stalls

            stalls.look(self, attempt, attempt.stall, now)
        if attempt.stop_at and now >= attempt.stop_at:
            attempt.stop_at = 0.0
            self.stop(attempt, attempt.stop_why, False)
        elif attempt.stage_at and now >= attempt.stage_at:
            self._next_stage(attempt, now)
        self.timers.set(attempt.id, attempt.next_due())

    def stop(self, attempt: Attempt, why: str, kill: bool, cap: str = "max_seconds") -> None:
        """Asks a running attempt to end; the first reason counts, a kill hurries.

        `cap`: which one was crossed, where the reason is the budget.
        """
        if attempt.step < 0 and why in limits.ASKED:  # our own work for it: nothing may be lost
            attempt.why = attempt.why or why
            return
        over = attempt.ended or attempt.pidfd < 0  # its number may be another's by now
        if over and not ("steps" in attempt.plan and attempt.ended and why in limits.ASKED):
            return
        if attempt.why is None or (kill and attempt.stage < 3):
            if attempt.why is None and why == "budget":
                attempt.cap = cap
            attempt.why = attempt.why or why
            if not attempt.step or attempt.why in limits.ASKED:  # a step's own limit is its own
                entry = {"f": "stop", "a": attempt.id, "why": attempt.why, "kill": kill}
                self.journal.put({**entry, "cap": attempt.cap} if attempt.cap else entry)
                self.journal.flush()  # before the signal: a runtime killed in between asks again
        if over:
            return
        if kill and attempt.stage < 3:
            attempt.stage = 2
            self._next_stage(attempt, clock())
        elif not attempt.stage:
            self._next_stage(attempt, clock())
        self.timers.set(attempt.id, attempt.next_due())

    def _next_stage(self, attempt: Attempt, now: float) -> None:
        ending.signal(attempt, _SIGNALS[attempt.stage], self.fleet_dir)
        attempt.stage += 1
        if attempt.stage == 3:
            self.orphans.kill_confined(attempt)
        attempt.stage_at = now + attempt.grace if attempt.stage < 3 else 0.0
