"""The manager's post office: sends what is owed, each message in a thread, and reports back.

Promises that the manager's loop never waits for a receiver: what came of a message comes back
through a descriptor in its poll, and becomes a record. Nothing is sent before it is durable that it
is owed, an adapter gets one message at a time, and whoever is killed between sending and recording
leaves a message that goes out again under the same key. Values of variables are those of whoever
asked for the run; the worker runtime has them in its memory.
"""

from __future__ import annotations

import os
import random
from collections import deque
from contextlib import suppress
from functools import lru_cache
from threading import Thread
from typing import TYPE_CHECKING

from msgspec import json
from msgspec.structs import replace

from ..alerts.message import Message
from ..alerts.send import Outcome, deliver
from ..core import commands as c
from ..core import outbox
from ..core.alert_config import (
    SURROUNDINGS,
    Adapter,
    AlertConfig,
    PagerDuty,
    Slack,
    Webhook,
    variables_of,
)
from ..core.spec_hosts import Channel, PagerDutyChannel, WebhookChannel
from .alert_values import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..core.outbox import Letter
    from ..ledger.store import Transaction
    from .manager import Manager

NEVER = 1e18
LINGER_SECONDS = 3.0
"""How long a manager whose own run is over stays for messages that may be sent at once; whoever
comes after it sends the others."""


@lru_cache(maxsize=64)
def config_of(data: bytes) -> AlertConfig:
    """A run's config, as it recorded it."""
    return json.decode(data, type=AlertConfig)


def adapter_of(channel: Channel) -> Adapter:
    """A task's own channel as an adapter; its variables are names of secrets."""
    ref = channel.url_ref or ""
    if isinstance(channel, PagerDutyChannel):
        return PagerDuty(routing_key_env=ref, severity=channel.severity)  # type: ignore[arg-type]
    if isinstance(channel, WebhookChannel):
        return Webhook(url_env=ref, secret_env=channel.secret_ref)
    return Slack(webhook_env=ref)


class Post:
    """What is on its way. Made when something is owed for the first time."""

    def __init__(self, manager: Manager) -> None:
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.busy: dict[str, str] = {}
        """Adapter -> key of the message that is on its way to it."""
        self.values: dict[str, dict[str, str]] = {}
        """Run -> values, as the runtime says them."""
        self.own: dict[str, dict[str, str]] = {}
        """Run -> what whoever asked for it has of them."""
        self.asked: set[str] = set()
        """Runs whose values the runtime was asked for on this connection."""
        self.back: deque[c.ReportAlert] = deque()
        self.link: object = None
        self.over_since = 0.0
        if manager.focus and manager.asker:
            self.own[manager.focus] = manager.asker.alerts
        manager.watch(self.bell)

    def record(self, transaction: Transaction) -> None:
        """What came back, and what is due by now."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.bell)
        while self.back:
            report = self.back.popleft()
            if self.busy.get(report.adapter) == report.key:
                del self.busy[report.adapter]
            transaction.submit(report)
        for command in outbox.due(transaction.state, transaction.now):
            transaction.submit(command)

    def send(self, manager: Manager) -> None:
        """Begin to send what may be sent; what is owed is durable by then."""
        state = manager.ledger.state
        if manager.local.link is not self.link:
            self.link = manager.local.link
            self.asked.clear()
        letters = [
            letter
            for letter in outbox.sendable(state, manager.clock())
            if letter.adapter not in self.busy
        ]
        if letters:
            manager.ledger.sync()  # others may have written it, and be about to
        for letter in letters:
            if letter.adapter not in self.busy:
                self._begin(manager, letter)

    def _begin(self, manager: Manager, letter: Letter) -> None:
        run = manager.ledger.state.runs[letter.run]
        assert run.alerts is not None
        config = config_of(run.alerts.config)
        adapter, names = _adapter(config, letter)
        if adapter is None:
            self._back(_report(letter, "failed", "the run knows no such adapter"))
            return
        values: dict[str, str] = {}
        if not config.dry_run:
            known = self._known(manager, letter.run, names.values())
            if known is None:
                return
            missing = [name for name in names.values() if not known.get(name)]
            if missing and letter.stuck:
                return
            if missing:
                gone = ", ".join(name.removeprefix(SECRET) for name in missing)
                words = f"{gone} is gone; from a shell that has it: fleet resume {letter.run}"
                self._back(_report(letter, "stuck", words))
                return
            values = {name: known[name] for name in SURROUNDINGS if name in known}
            values |= {name: known[where] for name, where in names.items()}
        self.busy[letter.adapter] = letter.key
        message = message_of(manager.ledger.state.fleet, letter)
        work = (letter, adapter, message, values, config.dry_run)
        Thread(target=self._carry, args=work, name="alert", daemon=True).start()

    def _carry(
        self,
        letter: Letter,
        adapter: Adapter,
        message: Message,
        values: Mapping[str, str],
        dry: bool,
    ) -> None:
        """In a thread of its own."""
        try:
            outcome = deliver(adapter, message, values, dry)
        except Exception as error:  # whatever it is, the others are still sent
            outcome = Outcome(state="retry", words=f"sending failed: {type(error).__name__}")
        report = _report(letter, outcome.state, outcome.words)
        self._back(replace(report, digest=outcome.digest, after=outcome.after, dry=dry))

    def _back(self, report: c.ReportAlert) -> None:
        self.back.append(report)
        os.eventfd_write(self.bell, 1)

    def _known(self, manager: Manager, run: str, names: Iterable[str]) -> Mapping[str, str] | None:
        """The values of a run; None while the runtime has not said what it has of them.

        Whoever asked for the run may have brought some of `names`: the runtime has the others.
        """
        if run in self.values:
            return self.values[run]
        own = self.own.get(run, {})
        if all(own.get(name) for name in names):
            return own
        if run not in self.asked and manager.local.greeted:
            self.asked.add(run)
            manager.local.say({"m": "values", "run": run})
            manager.local.flush(manager.poll)
        return None

    def heard(self, run: str, values: dict[str, str]) -> None:
        """The runtime says which values of a run it has."""
        self.values[run] = values

    def brought(self, run: str) -> None:
        """Somebody has brought a run's values: what is known of them is old."""
        self.values.pop(run, None)
        self.own.pop(run, None)
        self.asked.discard(run)

    def lingers(self, manager: Manager) -> bool:
        """Whether a manager whose own run is over stays a moment: something goes out just now."""
        now = manager.clock()
        self.over_since = self.over_since or now
        if now - self.over_since >= LINGER_SECONDS:
            return False
        letters = outbox.sendable(manager.ledger.state, now)
        return bool(self.busy or self.back or any(not letter.stuck for letter in letters))

    def wakes_at(self, manager: Manager) -> float:
        """The second at which time alone changes what is to be done here."""
        wake = outbox.wake_at(manager.ledger.state, manager.clock())
        stays = self.over_since + LINGER_SECONDS if self.over_since else NEVER
        return min(wake if wake is not None else NEVER, stays)

    def close(self) -> None:
        """What is on its way goes out again, from whoever comes next."""
        if not self.busy:  # else a thread may still ring it
            os.close(self.bell)


def _report(letter: Letter, state: str, words: str) -> c.ReportAlert:
    return c.ReportAlert(
        run=letter.run,
        cls=letter.cls,
        adapter=letter.adapter,
        key=letter.key,
        state=state,
        words=words,
        jitter=random.random(),
    )


def _adapter(config: AlertConfig, letter: Letter) -> tuple[Adapter | None, dict[str, str]]:
    """The adapter of a message; each variable that it names -> what its value is known by here."""
    if not letter.channel:
        adapter = config.adapters.get(letter.adapter)
        names = [name for _, name in variables_of(adapter)] if adapter is not None else []
        return adapter, {name: name for name in names}
    own = adapter_of(json.decode(letter.channel.encode(), type=Channel))
    return own, {name: SECRET + name for _, name in variables_of(own)}


def message_of(fleet: str, letter: Letter) -> Message:
    """The message as its receiver gets it. Its keys name the fleet: a copy is another one."""
    key, incident = f"{fleet}/{letter.key}", f"{fleet}/{letter.incident}"
    batch = letter.batch
    if batch is None:
        said = "nothing of this is so any more"
        return Message(
            key=key,
            incident=incident,
            action="resolve",
            cls=letter.cls,
            run=letter.run,
            reason=said,
            adapter=letter.adapter,
        )
    first = batch.first
    task, at, number = first.subject.partition("@")
    attempt = f"{task}@{number.partition(':')[0]}" if at else ""
    if not at and first.number:
        attempt = f"{task}@{first.number}"
    return Message(
        key=key,
        incident=incident,
        cls=letter.cls,
        run=letter.run,
        worker=first.worker,
        task=task.partition("/")[2],
        attempt=attempt,
        reason=first.reason,
        count=batch.count,
        others=list(batch.others),
        ts=first.ts,
        adapter=letter.adapter,
    )
