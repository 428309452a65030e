"""The runtime: one epoll loop around attempts, journal and managers.

One wake-up reads everything that has arrived, performs it, writes the journal, and then tells:
so a manager never hears a fact that is not in the journal. A manager with a lower epoch than
the highest ever seen is closed. The runtime leaves in order (exit status 0) when it was idle
for a while, or asked to leave, and every fact is acknowledged; its keeper starts it again after
any other end. It promises nothing about the processes: see execution.py.
"""

from __future__ import annotations

import errno
import fcntl
import os
from select import epoll

from codewhale_fleet import __version__
from codewhale_fleet.worker import asks, codec, collect, limits, processes, protocol
from codewhale_fleet.worker.execution import Execution, clock
from codewhale_fleet.worker.journal import Journal
from codewhale_fleet.worker.notes import Notes
from codewhale_fleet.worker.peers import Peer, Peers
from codewhale_fleet.worker.place import Place
from codewhale_fleet.worker.recovery import Recovery
from codewhale_fleet.worker.values import Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EPOLLIN = 1
_EPOLLOUT = 4
_IDLE, _FLUSH = "!idle", "!flush"
_SOCKETS = ("runtime.sock", asks.SOCKET)
_FLUSH_AGAIN = 1.0
"""Seconds until a journal on a full disk is tried again."""


def boot_id() -> str:
    """The kernel's name for this boot."""
    text = processes.read_file("/proc/sys/kernel/random/boot_id", 64) or b"unknown"
    return text.decode().strip()


class Runtime:
    """The loop. Made in the child of the keeper's fork."""

    def __init__(self, place: Place, values: Values, bell: int) -> None:
        self._place = place
        self._poll = epoll()
        self._bell = bell
        self._values = values
        self._boot = boot_id()
        self.journal = Journal(place.directory, self._boot, __version__)
        self.peers = Peers(place.listener, self._poll)
        self._notes = Notes(place.directory)
        self.execution = Execution(self.journal, place, self._poll, self._notes)
        self.asks = asks.Asks(self.execution, self.journal, place, self._poll)
        self.execution.asks = self.asks
        collect.guard(place.fleet_dir)
        self._told = self.journal.n
        self._asked_to_leave = False
        self._rests = 0
        self._doorway = place.listener.fileno()
        self._poll.register(self._doorway, _EPOLLIN)
        self._poll.register(bell, _EPOLLIN)
        for name, run_values in values.read().items():
            self._set_values(name, run_values)
        if self.journal.open:
            keeper, since = place.keeper, place.keeper_since
            Recovery(self.execution, self.journal, self._notes, keeper, since).perform()
        else:
            self._notes.new()
        if os.path.isdir(f"{place.fleet_dir}/attempts"):
            from codewhale_fleet.worker import confining

            plans = [attempt.plan for attempt in self.execution.running.values()]
            self.execution.advance(confining.leftovers(place.fleet_dir, plans))
        for run in [run for run in self.execution.runs.values() if run.secrets]:
            self._seal_leftovers(run.name)
        self._rest_soon()

    # ---- the loop

    def run(self) -> None:
        """Serves until it is time to leave."""
        execution = self.execution
        if execution.is_idle() and not os.path.exists(self._place.directory + "/runtime.sock"):
            return  # the one before was killed while it left: nobody can come in any more
        timers = execution.timers
        while True:
            self._wake(self._poll.poll(self._timeout(timers.next()), 256))
            for key in execution.due(clock()):
                if key == asks.TIMER:
                    self.asks.due(clock())
                elif key == _IDLE and self._may_leave(resting=True) and self._leave():
                    return
            execution.step()
            execution.pump()
            self._tell()
            if self._asked_to_leave and self._may_leave(resting=False) and self._leave():
                return
            if self.journal.due_for_compaction():
                self._compact()

    def _timeout(self, when: float | None) -> float:
        if self.execution.work:
            return 0
        if when is None:
            return -1
        return max(when - clock(), 0) + 0.0002  # epoll rounds up to 1 ms from here anyway

    def _wake(self, events: list[tuple[int, int]]) -> None:
        execution, peers = self.execution, self.peers
        by_pidfd = execution.by_pidfd
        ended = []
        for fd, event in events:
            attempt = by_pidfd.get(fd)
            if attempt is not None:
                ended.append(attempt)
                continue
            peer = peers.by_fd.get(fd)
            if peer is not None:
                if event & _EPOLLOUT:
                    peers.flush(peer)
                if event & ~_EPOLLOUT and not peer.gone:
                    self._hear(peer)
            elif fd == self._doorway:
                peers.accept()
            elif fd == self._bell:
                self._keeper_rings()
            elif self.asks.owns(fd):
                self.asks.wake(fd, event)
        if ended:
            execution.exited(ended)

    def _keeper_rings(self) -> None:
        gone = False
        try:
            gone = not os.read(self._bell, 4096)
        except BlockingIOError:
            pass
        self.execution.adopted.hear_keeper()
        if gone:
            self._poll.unregister(self._bell)
            self.execution.adopted.keeper_gone()

    # ---- what managers ask

    def _hear(self, peer: Peer) -> None:
        data, alive = self.peers.read(peer)
        try:
            for message in peer.conversation.receive(data):
                if peer.gone:
                    break
                self._perform(peer, message)
        except protocol.Broken as reason:
            self.peers.send(peer, protocol.refused("", "protocol", str(reason)))
            alive = False
        if not alive:
            self.peers.close(peer)
        if peer.gone:
            self._rest_soon()

    def _perform(self, peer: Peer, message: dict[str, Any]) -> None:
        word = message["m"]
        execution = self.execution
        if (peer.conversation.epoch or 0) < self.journal.epoch:
            self._fence(peer)
        elif word == "start":
            refusal = execution.start(
                message["attempt"], message["slot"], message["slots"], message["plan"]
            )
            if refusal:
                self.peers.send(peer, refusal)
        elif word == "ack":
            self.journal.acknowledge(message["n"])
        elif word == "environment":
            self._take_environment(message)
        elif word == "interrupt":
            execution.interrupt(message["attempt"], message["why"], bool(message.get("kill")))
        elif word == "answer":
            self.asks.answered(message["attempt"], message["number"], message["text"])
        elif word == "data":
            self.asks.heard(message["run"], message["entries"])
        elif word == "put":
            self.asks.put_by_person(message["run"], message["entry"])
        elif word == "drop":
            from codewhale_fleet.worker import isolation

            isolation.drop(execution, message["attempt"], message["directory"])
        elif word == "cut-off":
            from codewhale_fleet.worker import rebooted

            rebooted.end(execution, message["attempt"], message["slot"], message["plan"])
        elif word == "values":
            found = execution.runs.get(message["run"])
            said = {"m": "values", "run": message["run"], "values": found.alerts if found else {}}
            if message.get("whole"):
                said["given"] = found.given() if found else {}
            self.peers.send(peer, codec.encode(said))
        elif word == "ping":
            self.peers.send(peer, protocol.PONG)
        elif word == "leave":
            self._asked_to_leave = True
        else:
            self._greet(peer, message)

    def _pids(self) -> dict[str, int]:
        keeper = self._place.keeper if self.execution.adopted.keeper_lives else 0
        return {"pid": os.getpid(), "keeper": keeper}

    def _fence(self, peer: Peer) -> None:
        sentence = f"a manager of epoch {self.journal.epoch} has taken over"
        whose = {"epoch": self.journal.epoch, **self._pids()}
        self.peers.send(peer, protocol.refused("", "epoch", sentence, **whose))
        self.peers.close(peer)

    def _greet(self, peer: Peer, message: dict[str, Any]) -> None:
        journal = self.journal
        epoch = message["epoch"]
        if epoch > journal.epoch:
            journal.raise_epoch(epoch)
            for other in list(self.peers.by_fd.values()):
                if other.conversation.epoch is not None and other.conversation.epoch < epoch:
                    self._fence(other)
        cursor = message["cursors"].get(journal.id, 0)
        if type(cursor) is not int or cursor < 0:
            cursor = 0
        journal.flush()
        self._asked_to_leave = False
        hello = {
            "m": "hello",
            "protocol": protocol.PROTOCOL,
            "runtime": journal.id,
            "version": __version__,
            **self._pids(),
            "boot": self._boot,
            "cores": len(os.sched_getaffinity(0)),
            "platform": "linux",
            "epoch": journal.epoch,
            "journal": journal.written_n,
            "acknowledged": journal.acknowledged,
            "open": self.execution.open_attempts(),
            "runs": [run.name for run in self.execution.runs.values() if run.base is not None],
        }
        peer.sent_n = max(journal.written_n, cursor)
        self.peers.send(peer, codec.encode(hello) + journal.after(cursor))

    def _take_environment(self, message: dict[str, Any]) -> None:
        given = message["values"]
        known = self.execution.run(message["run"]).alerts
        if known:  # a shell that has none of them, or only some, takes none away
            given = {**given, "alerts": {**known, **(given.get("alerts") or {})}}
        values = {"umask": message.get("umask", 0o022), "values": given}
        if self._set_values(message["run"], values):
            self._values.keep(message["run"], values)
        if values["values"].get("secrets"):
            self._seal_leftovers(message["run"])
        runs = self.execution.runs
        if len(runs) > limits.RUNS:
            idle = (name for name, run in runs.items() if not (run.busy or run.waiting))
            name = next(idle, message["run"])
            if name != message["run"]:
                del runs[name]
                self._values.drop(name)

    def _seal_leftovers(self, name: str) -> None:
        from codewhale_fleet.worker import sealing

        self.execution.advance(sealing.leftovers(self.execution, self.execution.run(name)))

    def _set_values(self, name: str, given: dict[str, Any]) -> bool:
        """True if they are new."""
        run = self.execution.run(name)
        values = given["values"]
        base, allowed = values.get("base") or {}, values.get("allowed") or {}
        new = (
            base,
            allowed,
            values.get("secrets") or {},
            values.get("alerts") or {},
            given["umask"],
        )
        if new == (run.base, run.allowed, run.secrets, run.alerts, run.umask):
            return False
        run.base, run.allowed, run.secrets, run.alerts, run.umask = new
        if run.secrets and not self.journal.guard:
            from codewhale_fleet.worker.screening import Guard

            self.journal.guard = Guard(self.execution.runs)
        return True

    # ---- telling

    def _tell(self) -> None:
        journal, execution = self.journal, self.execution
        written = journal.flush()
        if not written:
            execution.timers.set(_FLUSH, clock() + _FLUSH_AGAIN)
        self.asks.tell(written=written)
        if execution.refusals:
            refusals = b"".join(execution.refusals)
            execution.refusals.clear()
            for peer in self._listeners():
                self.peers.send(peer, refusals)
        if journal.written_n > self._told:
            self._told = journal.written_n
            for peer in self._listeners():
                if peer.sent_n < self._told:
                    facts = journal.after(peer.sent_n)
                    peer.sent_n = self._told
                    self.peers.send(peer, facts)
            self._rest_soon()

    def _listeners(self) -> list[Peer]:
        return [peer for peer in self.peers.by_fd.values() if peer.sent_n >= 0]

    # ---- leaving

    def _rest_soon(self) -> None:
        self._rests = 0
        if not self.peers.by_fd:
            self.execution.timers.set(_IDLE, clock() + self._place.idle)

    def _may_leave(self, *, resting: bool) -> bool:
        """Is nothing open, everything acknowledged and (when resting) nobody there?"""
        if not self.execution.is_idle() or self.execution.work:
            return False
        if not os.path.isdir(self._place.directory):  # somebody removed the fleet: nothing to keep
            return True
        if not resting:
            return not self.journal.unacknowledged
        if self.peers.by_fd:
            return False
        self._rests += 1
        if self.journal.unacknowledged and self._rests < limits.RESTS_UNHEARD:
            self.execution.timers.set(_IDLE, clock() + self._place.idle)
            return False
        return True

    def _leave(self) -> bool:
        """Removes journal, notes and socket; False if somebody comes in at this moment.

        Facts that nobody came for stay in the journal: the next runtime of this boot tells them.
        """
        self.execution.orphans.tidy()
        self.execution.orphans.tidy_cgroups()
        directory = self._place.directory
        try:
            door = os.open(directory + "/door", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            return error.errno in (errno.ENOENT, errno.ENOTDIR)
        before = len(self.peers.by_fd)
        try:
            fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.peers.accept()
            somebody = len(self.peers.by_fd) > before
        except BlockingIOError:
            somebody = True
        if somebody:
            os.close(door)
            self._rest_soon()  # who stands in the door may die there
            return False
        self.execution.launcher.leave()
        kept = bool(self.journal.unacknowledged)
        for name in _SOCKETS if kept else (*_SOCKETS, "journal.jsonl", "exits.jsonl"):
            try:
                os.unlink(f"{directory}/{name}")
            except FileNotFoundError:
                pass
        fcntl.flock(self._place.lock_fd, fcntl.LOCK_UN)
        return True

    def _compact(self) -> None:
        running = self.execution.running
        journal = self.journal
        try:
            journal.compact(set(running))
        except OSError:  # a full disk: later
            return
        for run in self.execution.runs.values():
            if run.purse is not None:
                journal.put(run.purse.line(run.name, journal.acknowledged))
        journal.flush()
        if not any(attempt.adopted for attempt in running.values()):
            self._notes.clear()
