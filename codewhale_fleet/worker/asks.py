"""The door for tasks: a second socket beside that of the managers, and who may come in there.

A request is one JSON line `{"v": VERB, "a": ATTEMPT, "t": TOKEN, …}`, its answer one JSON line:
`{"ok": true, …}`, or `{"refused": SENTENCE}`. A token is `FLEET.RANDOM`; only its digest is kept,
in the journal, so that a runtime which comes after killed ones knows whom to let in. Promises: a
token opens the door for its own attempt of its own fleet, while that runs, and for nothing else;
it stands in the environment of its attempt and nowhere else; an answer that says that something is
kept is given after it stands in the journal; a task that asks too much is refused with a sentence
and keeps nobody else from being served. What the verbs do is known to verbs.py.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import codec, limits
from codewhale_fleet.worker.logs import new_sha256
from codewhale_fleet.worker.own import Own, Shelf
from codewhale_fleet.worker.peers import Peer, Peers
from codewhale_fleet.worker.tags import Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from select import epoll
    from typing import Any

    from codewhale_fleet.worker.attempts import Attempt
    from codewhale_fleet.worker.execution import Execution
    from codewhale_fleet.worker.journal import Journal
    from codewhale_fleet.worker.place import Place

SOCKET = "tasks.sock"
"""Its name, beside that of the managers."""
SOCKET_VARIABLE, TOKEN_VARIABLE = "FLEET_SOCKET", "FLEET_TOKEN"
TIMER = "!asks"
_EPOLLOUT = 4
_TOKEN_BYTES = 32
_FULL = "the journal of this host cannot be written: is the disk full?"


class Client(Peer):
    """One connection. `attempt` and `number`: the question whose answer it waits for; or `due`:
    what it has put, whose number it waits for until then."""

    __slots__ = ("attempt", "due", "held", "number", "until")

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.attempt = ""
        self.number = 0
        self.due: dict[str, Any] | None = None
        self.until = 0.0
        self.held = b""


def new_token(fleet: str) -> str:
    """What an attempt shows: it names the fleet, and nobody can guess it."""
    return f"{fleet}.{os.urandom(_TOKEN_BYTES).hex()}"


def digest_of(token: str) -> str:
    """What is kept of a token: enough to know it again, and nothing that opens the door."""
    state = new_sha256(0)
    state.update(token.encode("utf-8", "replace"))
    return str(state.hexdigest())


def is_token(token: str, digest: str) -> bool:
    """Is it the token of which this is the digest? In constant time."""
    from _operator import _compare_digest

    return bool(digest) and bool(_compare_digest(digest_of(token), digest))


class Asks:
    """All connections of tasks, and what they have asked for."""

    def __init__(self, execution: Execution, journal: Journal, place: Place, poll: epoll) -> None:
        self.execution = execution
        self.journal = journal
        self.shelves: dict[str, Shelf] = {}
        """Run -> its data."""
        self._place = place
        self._peers = Peers(place.asks, poll, Client, limits.ASK_CONNECTIONS, confined=True)
        self._peers.make_room = self._make_room
        self._replies: list[tuple[Client, bytes, bool]] = []
        """Answers of this wake-up, and whether they say that something is kept."""
        self._due_at = 0.0
        for run, entries in journal.shelves.items():
            for entry in entries:
                self.shelf(run).add(entry)
        journal.shelves.clear()
        poll.register(place.asks.fileno(), 1)

    def environment(self, plan: dict[str, Any]) -> dict[str, str]:
        """Variables by which an attempt finds the door and opens it; its plan keeps a digest."""
        token = new_token(str((plan.get("env") or {}).get("FLEET_ID") or ""))
        plan["token"] = digest_of(token)
        fd = self._place.fleet_dir.rpartition("/")[2]
        return {
            SOCKET_VARIABLE: f"{os.readlink('/proc/self/fd/' + fd)}/runtime/{SOCKET}",
            TOKEN_VARIABLE: token,
        }

    def shelf(self, run: str) -> Shelf:
        """The data of a run, as far as it is known here."""
        found = self.shelves.get(run)
        if found is None:
            if len(self.shelves) >= limits.RUNS:
                runs = self.execution.runs
                idle = [name for name in self.shelves if name not in runs or not runs[name].busy]
                for name in idle:
                    del self.shelves[name]
            found = self.shelves[run] = Shelf()
        return found

    # ---- connections

    def owns(self, fd: int) -> bool:
        """Is it the door, or one of the connections?"""
        return fd in self._peers.by_fd or fd == self._place.asks.fileno()

    def wake(self, fd: int, event: int) -> None:
        """Something has happened there."""
        if fd == self._place.asks.fileno():
            self._peers.accept()
            return
        client = self._peers.by_fd[fd]
        assert isinstance(client, Client)
        if event & _EPOLLOUT:
            self._peers.flush(client)
        if event & ~_EPOLLOUT and not client.gone:
            self._hear(client)

    def _make_room(self) -> None:
        """All places are taken: the oldest connection that waits for nothing goes."""
        clients = self._peers.by_fd.values()
        idle = (one for one in clients if isinstance(one, Client) and not one.attempt)
        oldest = next(idle, None)
        if oldest is not None:
            self._peers.close(oldest)

    def _hear(self, client: Client) -> None:
        data, alive = self._peers.read(client)
        whole, newline, rest = (client.held + data).rpartition(b"\n")
        client.held = rest
        for line in whole.split(b"\n") if newline else ():
            self._perform(client, line)
            if client.gone:
                return
        if len(rest) > limits.ASK_LINE_BYTES:
            sentence = f"a request may have {limits.ASK_LINE_BYTES} bytes"
            self._peers.send(client, codec.encode({"refused": sentence}))
            alive = False
        if not alive:
            self._peers.close(client)

    def _perform(self, client: Client, line: bytes) -> None:
        from codewhale_fleet.worker import verbs

        try:
            request = codec.decode(line)
            if type(request) is not dict:
                raise Wrong("a request is a JSON object")
            attempt = self._admitted(request)
            if attempt.run.redactor is not None:
                from codewhale_fleet.worker import screening

                request = screening.admitted(attempt.run.redactor, request)
            answer, kept = verbs.perform(self, client, attempt, request)
        except (ValueError, RecursionError) as error:
            answer, kept = {"refused": f"a request is a JSON line: {error}"}, False
        except Wrong as reason:
            answer, kept = {"refused": str(reason)}, False
        except OSError as error:
            answer, kept = {"refused": f"it cannot be kept: {error.strerror or error}"}, False
        if answer is not None:
            self._replies.append((client, codec.encode(answer), kept))

    def _admitted(self, request: dict[str, Any]) -> Attempt:
        """The attempt that asks; Wrong where it may not."""
        name, token = request.get("a"), request.get("t")
        if type(name) is not str or type(token) is not str:
            raise Wrong("a request names its attempt and shows its token")
        attempt = self.execution.running.get(name)
        if attempt is None or attempt.ended or attempt.step:
            raise Wrong(f"{name} does not run here; a token counts while its attempt runs")
        if not is_token(token, attempt.plan.get("token", "")):
            raise Wrong(f"this token is not that of {name} here; each attempt has its own")
        if attempt.fleet != token.rpartition(".")[0]:
            raise Wrong(f"this token is of another fleet than {name}")
        own = self.own(attempt)
        own.requests += 1
        if own.requests > limits.ASKS:
            raise Wrong(f"{name} has asked {limits.ASKS:,} times, and is not heard any more")
        return attempt

    @staticmethod
    def own(attempt: Attempt) -> Own:
        """What an attempt has said of itself, made when it first speaks."""
        if attempt.own is None:
            attempt.own = Own()
        return attempt.own

    def waiting(self, attempt: str) -> list[Client]:
        """The connections on which an attempt waits for an answer."""
        clients = self._peers.by_fd.values()
        return [one for one in clients if isinstance(one, Client) and one.attempt == attempt]

    # ---- answering

    def tell(self, *, written: bool) -> None:
        """Sends the answers of this wake-up; `written`: the journal is."""
        if self._replies:
            replies, self._replies = self._replies, []
            for client, answer, kept in replies:
                told = codec.encode({"refused": _FULL}) if kept and not written else answer
                self._peers.send(client, told)

    def put(self, attempt: Attempt, word: str, **fields: Any) -> None:
        """Takes something that an attempt says of itself, and journals it."""
        entry = {"f": "own", "a": attempt.id, "w": word, **fields}
        own = self.own(attempt)
        own.take(entry)
        own.requests -= 1  # it was counted as it came
        self.journal.put(entry)

    def fact(self, attempt: Attempt, word: str, **fields: Any) -> None:
        """A fact about an attempt for the ledger."""
        self.journal.fact(word, {"attempt": attempt.id, "slot": attempt.slot, **fields})

    def answered(self, name: str, number: int, text: str) -> None:
        """A manager tells what a person answered."""
        attempt = self.execution.running.get(name)
        question = attempt.own.question(number) if attempt and attempt.own else None
        if attempt is None or question is None:
            return
        if question.answer is None:
            self.put(attempt, "answer", q=number, text=text)
        for client in self.waiting(name):
            if client.number == number:
                client.attempt = ""
                reply = codec.encode({"ok": True, "answer": question.answer})
                self._replies.append((client, reply, True))

    def closed(self, name: str) -> None:
        """An attempt is over: whoever still waits in its name learns that."""
        for client in self.waiting(name):
            if client.due is not None:
                self._tell_number(client, client.due)
                continue
            client.attempt = ""
            self._replies.append((client, codec.encode({"refused": f"{name} is over"}), False))

    # ---- the data of runs

    def shelve(self, run: str, entry: dict[str, Any]) -> bool:
        """One version of a value, known from now on, after a kill of this runtime too."""
        new = self.shelf(run).add(entry)
        if new:
            self.journal.put({"f": "shelf", "r": run, "e": entry})
        return new

    def heard(self, run: str, entries: list[dict[str, Any]]) -> None:
        """A manager tells what the ledger knows of a run's data."""
        for entry in entries:
            self.shelve(run, entry)
        self._tell_numbers()

    def _tell_numbers(self, now: float = 0.0) -> None:
        """Whoever has put something hears its number, or after a while that it has none yet."""
        waiting = [one for one in self._peers.by_fd.values() if isinstance(one, Client)]
        for client in waiting:
            if client.due is None:
                continue
            if client.due["version"] or client.until <= now:
                self._tell_number(client, client.due)
            else:
                self.later(client.until)

    def _tell_number(self, client: Client, entry: dict[str, Any]) -> None:
        from codewhale_fleet.worker import verbs

        client.attempt, client.due = "", None
        self._replies.append((client, codec.encode({"ok": True, **verbs.told(entry)}), True))

    def put_by_person(self, run: str, entry: dict[str, Any]) -> None:
        """A person puts or deletes a value while tasks of the run are at work."""
        shelf = self.shelf(run)
        name = str(entry["name"])
        deleted = bool(entry.get("deleted"))
        version = entry.get("version", shelf.next_version(name) - deleted)
        entry = {**entry, "name": name, "version": version}
        if self.shelve(run, entry):
            self.journal.fact("data", {"attempt": run, **entry})

    # ---- time

    def due(self, now: float) -> None:
        """Progress that was held back is told, where its time has come."""
        from codewhale_fleet.worker import verbs

        self._due_at = 0.0
        for attempt in self.execution.running.values():
            own = attempt.own
            if own is not None and own.unsaid and not attempt.ended:
                self.later(verbs.tell_progress(self, attempt, now))
        self._tell_numbers(now)

    def later(self, when: float) -> None:
        """Progress is held back until then; 0: it is not."""
        if when and (not self._due_at or when < self._due_at):
            self._due_at = when
            self.execution.timers.set(TIMER, when)
