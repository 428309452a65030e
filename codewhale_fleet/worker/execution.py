"""Attempts from `start` to `ended`: the part of the runtime that has processes and time.

Theory of operation. `start` queues; `pump` gives free slots to what waits: checks, intent line,
spawn, pid line. A process that ended is seen on its pidfd: its status is journalled *before* it
is reaped, so that a kill of the runtime at any instant loses none; then its group is killed, it
is reaped, its stragglers are swept, its logs sealed, artifacts and evidence collected, and the
fact `ended` frees the slot. All that waits for time is one timer an attempt. Work that takes
long (hashing) is a generator, advanced between wake-ups.

It knows no sockets: what is to be told are the journal's facts and `refusals`.
"""

from __future__ import annotations

import os
import time

from codewhale_fleet.worker import ending, limits, processes, protocol
from codewhale_fleet.worker.attempts import Attempt, Run, Waiting, is_attempt_id, kept_of
from codewhale_fleet.worker.launch import Launcher, Unstarted
from codewhale_fleet.worker.memory import Killer
from codewhale_fleet.worker.sweep import Orphans
from codewhale_fleet.worker.timers import Timers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Generator
    from select import epoll
    from typing import Any

    from codewhale_fleet.worker.journal import Journal
    from codewhale_fleet.worker.notes import Notes
    from codewhale_fleet.worker.place import Place
    from codewhale_fleet.worker.stalls import Stall, Usage
else:
    from _collections import deque

_EPOLLIN = 1
_SIGNALS = (2, 15, 9)
"""INT, TERM, KILL: the stages of an end that was asked for."""


def clock() -> float:
    """Seconds since boot, suspended time included: the one clock of this runtime."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


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
        self.keeper_lives = True
        self.work: deque[Generator[None, None, None]] = deque()
        self.orphans = Orphans(self.running, self.leaders, journal)
        self._place = place
        self._notes = notes
        self._fleet_dir = place.fleet_dir
        self._poll = poll
        self._launcher = Launcher(place.fleet_dir)
        self._ready: dict[str, Run] = {}
        self._most = max(os.sysconf("SC_OPEN_MAX") - limits.SPARE_FDS, 8)
        self._tidied = 0.0
        self._usage: Usage | None = None
        self._killer = Killer()

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
        if run.base is None:
            sentence = f"the environment values of the run {run.name} are not known here"
            return protocol.refused(attempt, "values", sentence)
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
        plan, name, journal = self._place.home.plan(item.plan), item.attempt, self.journal
        journal.learn(name)
        try:
            program, environment = self._launcher.prepare(run, name, plan)
            attempt = Attempt(name, run, slot, kept_of(plan), clock())
            kept, since = attempt.plan, attempt.since
            journal.put({"f": "intent", "a": name, "s": slot, "t": since, "p": kept})
        except (Unstarted, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            known = isinstance(error, Unstarted)
            sentence = str(error) if known else f"its plan cannot be followed: {error!r}"
            self._unstarted(name, slot, sentence)
            run.busy.discard(slot)
            return
        if not journal.flush(spare=False):
            self._refuse_for_disk(run, name, slot)
            return
        try:
            pid = self._launcher.spawn(program, plan, environment)
        except Unstarted as reason:
            self._unstarted(name, slot, str(reason))
            run.busy.discard(slot)
            return
        journal.put({"f": "pid", "a": name, "pid": pid, "t": clock()})
        journal.flush()
        attempt.pid = pid
        self._killer.look(attempt.since)
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

    def _unstarted(self, name: str, slot: str, sentence: str, why: str | None = None) -> None:
        self.journal.learn(name)
        fields: dict[str, Any] = {"attempt": name, "slot": slot, "seconds": 0.0}
        fields["unstarted"] = sentence
        if why:
            fields["why"] = why
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
            self.journal.exited(attempt)
        self.journal.flush()
        for attempt in attempts:
            if attempt.adopted:
                self._adopted_ended(attempt, now)
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
        self._unwatch(attempt)
        self._killer.suspect(attempt, clock())
        self._sweep(attempt)

    def _unwatch(self, attempt: Attempt) -> None:
        if attempt.pidfd >= 0:
            del self.by_pidfd[attempt.pidfd]
            # Closing alone is not enough: a child that is just being spawned may hold a copy of
            # the descriptor until its exec, and its event would be taken for the next owner's.
            self._poll.unregister(attempt.pidfd)
            os.close(attempt.pidfd)
            attempt.pidfd = -1

    def _adopted_ended(self, attempt: Attempt, now: float) -> None:
        self._unwatch(attempt)
        if attempt.ended:
            return
        if attempt.keeper_reaps:
            self.timers.set(attempt.id, now + limits.NOTE_SECONDS)
        else:  # nobody saw its status
            self.end_adopted(attempt, now)

    def _unnoted(self, attempt: Attempt, now: float) -> None:
        """The keeper has told nothing of an end: it has not come to it, or its disk was full."""
        facts = processes.facts_of(attempt.pid)
        if facts and facts.parent == self._place.keeper:
            self.timers.set(attempt.id, now + limits.NOTE_SECONDS)
            return
        self.hear_keeper()  # it notes, reaps, and only then rings
        if not attempt.ended:
            self.end_adopted(attempt, now)

    def hear_keeper(self) -> None:
        """Take what the keeper has noted since the last time."""
        for note in self._notes.new():
            self.noted(note)

    def noted(self, note: dict[str, Any]) -> None:
        """The keeper has reaped a process and tells its status."""
        attempt = self.leaders.get(note["pid"])
        if attempt is None or not attempt.keeper_reaps or attempt.ended:
            return
        if not attempt.since - 0.02 <= note["start"]:
            return
        attempt.exit, attempt.signal = note.get("exit"), note.get("signal")
        attempt.cpu = note.get("cpu")
        self._unwatch(attempt)
        self.end_adopted(attempt, note["t"])

    def keeper_gone(self) -> None:
        """Nobody tells the status of adopted attempts any more."""
        self.keeper_lives = False
        for attempt in list(self.running.values()):
            if attempt.keeper_reaps:
                attempt.keeper_reaps = False
                if attempt.pidfd < 0 and not attempt.ended:
                    self.end_adopted(attempt, clock())

    def end_adopted(self, attempt: Attempt, when: float) -> None:
        """An attempt that another runtime spawned is over; its status stands in it, if known."""
        attempt.ended = when
        self.journal.exited(attempt)
        self._killer.suspect(attempt, clock())
        self._sweep(attempt)

    def _sweep(self, attempt: Attempt) -> None:
        now = clock()
        if not attempt.sweep_until:
            attempt.sweep_until = now + limits.SWEEP_SECONDS
        if not self.orphans.sweep(attempt) and now < attempt.sweep_until:
            self.timers.set(attempt.id, now + attempt.sweep_delay)
            attempt.sweep_delay = min(attempt.sweep_delay * 2, 0.05)
            return
        self.timers.clear(attempt.id)
        self._advance(self._close(attempt))

    def _advance(self, work: Generator[None, None, None]) -> None:
        for _ in work:
            self.work.append(work)
            return

    def step(self) -> None:
        """One piece of the work that takes long."""
        if self.work:
            self._advance(self.work.popleft())

    def _close(self, attempt: Attempt) -> Generator[None, None, None]:
        """Seals and collects, piece by piece, and states the end."""
        attempt.plan = self._place.home.plan(attempt.plan)
        fields = yield from ending.fields_of(attempt, self._fleet_dir)
        self.journal.fact("ended", fields)
        del self.running[attempt.id]
        if self.leaders.get(attempt.pid) is attempt:
            del self.leaders[attempt.pid]
        attempt.run.busy.discard(attempt.slot)
        self._ready[attempt.run.name] = attempt.run

    # ---- time

    def due(self, now: float) -> list[str]:
        """Does what time asks for; answers the keys that are not attempts."""
        others: list[str] = []
        for key in self.timers.due(now):
            attempt = self.running.get(key)
            if attempt is None:
                others.append(key)
            elif attempt.ended:
                self._sweep(attempt)
            elif attempt.pidfd < 0:
                self._unnoted(attempt, now)
            else:
                self._tick(attempt, now)
        return others

    def _tick(self, attempt: Attempt, now: float) -> None:
        if not attempt.started and now >= attempt.since + limits.STARTED_AFTER:
            attempt.started = True
            fields = {"attempt": attempt.id, "slot": attempt.slot, "pid": attempt.pid}
            self.journal.fact("started", {**fields, "since": round(attempt.since, 6)})
        if attempt.started and not attempt.confined:
            attempt.confined = True
            self.orphans.confine(attempt)
        if now >= attempt.look_at:
            self._look(attempt, now)
        if attempt.stall and attempt.started and not attempt.stage and now >= attempt.stall.due:
            self._look_for_stall(attempt, attempt.stall, now)
        if attempt.stop_at and now >= attempt.stop_at:
            attempt.stop_at = 0.0
            self.stop(attempt, attempt.stop_why, False)
        elif attempt.stage_at and now >= attempt.stage_at:
            self._next_stage(attempt, now)
        self.timers.set(attempt.id, attempt.next_due())

    def _look_for_stall(self, attempt: Attempt, stall: Stall, now: float) -> None:
        """Does it still do something? If not for too long, that is a fact, and perhaps its end."""
        if self._usage is None:
            from codewhale_fleet.worker.stalls import Usage

            self._usage = Usage(self._place.keeper)
        output = ending.output_of(attempt, self._fleet_dir)
        quiet = stall.quiet
        news = stall.look(now, output, self._usage.cpu_of(attempt, now))
        if not news:
            return
        fields = {"attempt": attempt.id, "slot": attempt.slot}
        self.journal.fact(news, {**fields, "quiet": round(stall.quiet or quiet, 3)})
        if stall.stale and stall.ends:
            self.stop(attempt, "stall", False)

    def _look(self, attempt: Attempt, now: float) -> None:
        limit, grown = attempt.log_limit, ending.growth_of(attempt, self._fleet_dir)
        ceiling = attempt.log_ceiling
        if ceiling and any(log.size > ceiling for log in attempt.logs.values()):
            self.stop(attempt, "flood", True)
        attempt.log_interval = limits.LOG_FAST if grown * 8 > limit else attempt.log_interval * 2
        attempt.look_at = now + min(attempt.log_interval, limits.LOG_SLOW)
        if now - self._tidied >= 1.0:
            self._tidied = now
            self.orphans.tidy()
            self._killer.look(now)

    def stop(self, attempt: Attempt, why: str, kill: bool) -> None:
        """Asks a running attempt to end; the first reason counts, a kill hurries."""
        if attempt.ended or attempt.pidfd < 0:  # its number may be another's by now
            return
        if attempt.why is None or (kill and attempt.stage < 3):
            attempt.why = attempt.why or why
            self.journal.put({"f": "stop", "a": attempt.id, "why": attempt.why, "kill": kill})
            self.journal.flush()  # before the signal: a runtime killed in between asks again
        if kill and attempt.stage < 3:
            attempt.stage = 2
            self._next_stage(attempt, clock())
        elif not attempt.stage:
            self._next_stage(attempt, clock())
        self.timers.set(attempt.id, attempt.next_due())

    def _next_stage(self, attempt: Attempt, now: float) -> None:
        processes.send_signal(attempt.pid, _SIGNALS[attempt.stage], group=True)
        attempt.stage += 1
        if attempt.stage == 3:
            self.orphans.kill_confined(attempt)
        attempt.stage_at = now + attempt.grace if attempt.stage < 3 else 0.0
