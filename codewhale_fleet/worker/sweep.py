"""Processes that an attempt leaves behind: whose they are, and their end.

This process is a subreaper, so what loses its parent becomes its child. Promises: `sweep`
kills what belongs to an attempt that has ended and says when nothing of it is left; a process
that may belong to an attempt that still runs is left alone until that one ends; what has died
is reaped. Whose a process is: the attempt id in its first environment, else its session or
group; where neither tells, it may be anybody's who was running when it was first seen.
An attempt that has lived for long may have a cgroup (cgroups.py): then all in it is its own.
It decides nothing about attempts.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from codewhale_fleet.worker.attempts import Attempt
    from codewhale_fleet.worker.cgroups import Cgroups
    from codewhale_fleet.worker.journal import Journal

_KILL = 9
_USES = 256
_KERNEL = 2
"""Parent of the kernel's own threads, which have no environment."""
_EXEC_LOOKS = 20
"""Looks at a young process without an environment, after which it is believed to have none."""


class Orphans:
    """The children of this process that it did not spawn itself.

    `running`: attempts by id until their `ended` is a fact; `leaders`: the same by pid.
    """

    def __init__(
        self,
        running: dict[str, Attempt],
        leaders: dict[int, Attempt],
        journal: Journal,
    ) -> None:
        self._running = running
        self._leaders = leaders
        self._journal = journal
        self._children = processes.Children(os.getpid())
        self._claims: dict[int, set[str]] = {}
        self._doomed: set[int] = set()
        self._looks: dict[int, int] = {}
        self._directory = os.path.dirname(journal.path)
        self._cgroups: Cgroups | None = None
        self._uses: dict[int, Any] = {}
        """What processes had used that were reaped before anybody knew whose they were."""

    def sweep(self, ending: Attempt) -> bool:
        """Kills what is left of `ending`; True when nothing is."""
        if "sandbox" in ending.plan:
            from codewhale_fleet.worker import confining

            if not confining.is_empty(ending, self._uses, os.path.dirname(self._directory)):
                return False
        clean = True
        for pid in self._children.now():
            if self._is_watched(pid) or self._reaped(pid, ending):
                continue
            free = self._is_free(pid, ending.id)
            if free:
                self._kill(pid, ending)
            clean = clean and free is False
        if ending.adopted:
            clean = self._sweep_everywhere(ending) and clean
        return self._end_cgroup(ending) and clean

    def tidy(self) -> None:
        """Reaps what has died; kills what belongs to nobody who is still running."""
        for pid in self._children.now():
            if self._is_watched(pid) or self._reaped(pid, None):
                continue
            if self._is_free(pid, ""):
                self._kill(pid, None)

    # ---- cgroups, where they can be made

    def confine(self, attempt: Attempt) -> None:
        """Into a cgroup of its own: what it starts from now on cannot hide. It does not wait."""
        cgroups = self._cgroups or self._use_cgroups()
        orphans = []
        for pid in self._children.now():
            if not self._is_watched(pid):
                self._is_free(pid, "")
                if self._claims.get(pid) == {attempt.id}:
                    orphans.append(pid)
        cgroups.enter(attempt, orphans)

    def kill_confined(self, attempt: Attempt) -> bool:
        """SIGKILL to all that lives in the attempt's cgroup; False if this process itself does."""
        cgroups = self._cgroups
        members = cgroups.members(attempt) if cgroups else ()
        if not cgroups or not members:
            return True
        if os.getpid() in members or os.getppid() in members:  # a task has started this runtime
            return False
        for pid in members:
            try:
                if os.getpgid(pid) != attempt.pid:  # its own group is counted when it is reaped
                    self._doom(pid, attempt)
            except OSError:
                continue
        cgroups.kill(attempt)
        return True

    def _end_cgroup(self, ending: Attempt) -> bool:
        if not ending.confined and not ending.adopted:
            return True
        if self._cgroups is None:  # the runtime before this one may have made some
            if not os.path.exists(self._directory + "/cgroups"):
                return True
            self._use_cgroups()
        cgroups = self._cgroups
        return not cgroups or cgroups.remove(ending) or self._end_members(cgroups, ending)

    def _end_members(self, cgroups: Cgroups, ending: Attempt) -> bool:
        return not self.kill_confined(ending) or cgroups.remove(ending)

    def tidy_cgroups(self) -> None:
        """Removes cgroups of attempts that are over, where somebody was left in them then."""
        if self._cgroups:
            self._cgroups.tidy(self._running)
        elif os.path.exists(self._directory + "/cgroups"):
            self._use_cgroups()

    def _use_cgroups(self) -> Cgroups:
        from codewhale_fleet.worker.cgroups import Cgroups

        place = self._journal.place
        self._cgroups = Cgroups(self._directory, place, self._leaders, self._children)
        self._cgroups.tidy(self._running)
        return self._cgroups

    # ---- whose a process is

    def _is_watched(self, pid: int) -> bool:
        """Is it a leader that has not been reaped yet? Then its pidfd tells its end."""
        leader = self._leaders.get(pid)
        return leader is not None and leader.pidfd >= 0

    def _reaped(self, pid: int, ending: Attempt | None) -> bool:
        try:
            done, status, use = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            done, status, use = pid, 0, None
        if not done:
            return False
        if use is not None and any("sandbox" in one.plan for one in self._running.values()):
            self._uses[pid] = use
            if len(self._uses) > _USES:
                del self._uses[next(iter(self._uses))]
        self._claims.pop(pid, None)
        if pid in self._doomed:
            self._doomed.discard(pid)
        elif ending and ending.stage < 3 and os.WIFSIGNALED(status) and os.WTERMSIG(status) == 9:
            ending.stragglers += 1  # it outlived the leader and went with the group
        return True

    def _is_free(self, pid: int, ending: str) -> bool | None:
        """Is nobody but `ending` running who may own this process? None: it can't be told yet."""
        claim = self._claims.get(pid)
        if claim is None:
            environment = processes.environment_of(pid)
            if self._is_in_exec(pid, environment):
                return None
            claim = self._claims[pid] = self._claim(pid, environment)
        return not any(name != ending and name in self._running for name in claim)

    def _claim(self, pid: int, environment: bytes) -> set[str]:
        name = processes.attempt_in(environment)
        if name and (name in self._running or self._journal.knows(name)):
            return {name}
        facts = processes.facts_of(pid)
        if facts:
            for number in (facts.session, facts.group):
                if number in self._leaders:
                    return {self._leaders[number].id}
        return set(self._running)

    def _kill(self, pid: int, ending: Attempt | None) -> None:
        self._doom(pid, ending)
        try:
            group = os.getpgid(pid) == pid
        except OSError:
            group = False
        processes.send_signal(pid, _KILL, group=group)

    def _doom(self, pid: int, ending: Attempt | None) -> None:
        if pid not in self._doomed:
            self._doomed.add(pid)
            self._journal.swept(pid)
            if ending:
                ending.stragglers += 1

    def _sweep_everywhere(self, ending: Attempt) -> bool:
        """An adopted attempt's orphans are the keeper's children or init's: all of /proc tells."""
        clean = True
        for pid in processes.all_pids():
            facts = processes.facts_of(pid)
            if facts is None or facts.state == b"Z" or pid == os.getpid():
                continue
            kin = ending.pid and ending.pid in (facts.session, facts.group)
            if kin and facts.start < ending.since - 1:  # the number's earlier owner
                kin = False
            environment = processes.environment_of(pid)
            young = facts.start >= ending.since - 1 and facts.parent != _KERNEL
            if young and not kin and self._is_in_exec(pid, environment):
                clean = False
                continue
            named = processes.attempt_in(environment) == ending.id
            if kin or (named and processes.is_of_fleet(pid, ending.fleet)):
                clean = False
                self._doom(pid, ending)
                processes.send_signal(pid, _KILL)
        return clean

    def _is_in_exec(self, pid: int, environment: bytes) -> bool:
        """May it be in its exec, where for a moment a process shows no environment to be known by?

        Where it shows none for long, it has none.
        """
        if environment:
            self._looks.pop(pid, None)
            return False
        looks = self._looks[pid] = self._looks.get(pid, 0) + 1
        return looks <= _EXEC_LOOKS
