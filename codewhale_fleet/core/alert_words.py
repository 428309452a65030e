"""What became of messages to people, and what is known of those that are still to go out.

Words of `events.py`, and the rows of `State` that core/alerts.py keeps: a topic is one class of one
run for one adapter. That something is to be told is no word: it follows from what happened, from
the config that the run recorded, and from these records. Names only: no address, no key of anybody.
"""

# ruff: noqa: RUF012 (msgspec copies mutable defaults)
from msgspec import Struct, json, structs

from .parts import Event


class Occasion(Struct, frozen=True, omit_defaults=True):
    """Something that somebody is to be told: record `seq` says it."""

    subject: str
    """RUN, RUN/TASK, RUN/TASK@N, or the key of a question."""
    seq: int
    ts: str
    reason: str = ""
    worker: str = ""
    number: int = 0
    """Attempt of the task, where the subject is a task."""


class Batch(Struct, omit_defaults=True):
    """What one message is about: its first occasion, how many in all, and the names of a few."""

    key: str
    """What the receiver knows it by, however often it is sent."""
    first: Occasion
    since: int
    """Record of the first occasion that was ever in it."""
    count: int = 1
    others: list[str] = []
    until: float = 0.0
    """It gathers up to this wall-clock second."""


class Topic(Struct, omit_defaults=True):
    """One class of one run for one adapter."""

    cls: str
    adapter: str
    channel: str = ""
    """A task's own channel, as JSON; empty: the adapter is one of the config."""
    resolves: bool = False
    """Whether its receiver can be told that it is over."""
    owed: Batch | None = None
    """To be sent as it stands."""
    held: Batch | None = None
    """Gathers: the next message."""
    window: float = 0.0
    """Seconds for which it holds back what follows a message."""
    quiet_at: float = 0.0
    """What comes before this second is held back."""
    incident: str = ""
    """Key under which its receiver has something open."""
    shared: bool = False
    """The open incident stands for other topics too, so that it does not end with this one."""
    left: int = 0
    """Subjects that were open when the run finished: they are not known one by one any more."""
    tries: int = 0
    """How often sending what is owed has come to nothing."""
    not_before: float = 0.0
    words: str = ""
    """What came of the last try."""
    stuck: bool = False
    """It waits for values that nobody here has."""
    open: dict[str, int] = {}
    """What is so, told or to be told: subject -> the record that says it."""


class RunAlerts(Struct):
    """What a run with alerts keeps of them."""

    config: bytes
    """As it was when the run was made: a core/alert_config.py AlertConfig, as JSON."""
    policies: bool = False
    """Whether some of its tasks say something of their own."""
    topics: dict[str, Topic] = {}
    """By class and adapter."""
    later: dict[str, float] = {}
    """Attempt that does nothing -> second from which that is to be told."""
    told: str = ""
    """The result that was told last, while nobody has had it go on since."""

    def shed(self) -> "RunAlerts":
        """The same without what is open one by one, for a run whose rows are not kept."""
        if not any(topic.open for topic in self.topics.values()):
            return self
        topics = {name: without_open(topic, topic.left) for name, topic in self.topics.items()}
        return RunAlerts(self.config, self.policies, topics, {}, self.told)

    def opened(self, of: "RunAlerts") -> "RunAlerts":
        """The same with what is open one by one, from the rows of the run that were read again.

        What became of messages since it finished stands here alone.
        """
        topics = {
            name: structs.replace(topic, open=of.topics[name].open if name in of.topics else {})
            for name, topic in self.topics.items()
        }
        return structs.replace(self, topics=topics)


def without_open(topic: Topic, left: int) -> Topic:
    """A copy that shares nothing which changes."""
    bare = structs.replace(topic, open={}, left=left)
    return json.decode(json.encode(bare), type=Topic)


class AlertSent(Event, frozen=True, kw_only=True):
    """A receiver took a message, or (`dry`) would have been sent it.

    `action` is trigger or resolve, `count` how many occasions it stood for, `digest` the SHA-256 of
    the payload.
    """

    word = "alert.sent"
    cls: str
    adapter: str
    key: str
    action: str = "trigger"
    count: int = 1
    digest: str = ""
    dry: bool = False
    words: str = ""


class AlertDelayed(Event, frozen=True, kw_only=True):
    """A message could not be sent; it is tried again after `seconds`.

    `stuck`: values that it needs are not here; it is tried again when somebody brings them.
    """

    word = "alert.delayed"
    cls: str
    adapter: str
    key: str
    why: str
    seconds: float = 0.0
    stuck: bool = False


class AlertFailed(Event, frozen=True, kw_only=True):
    """A message was given up."""

    word = "alert.failed"
    cls: str
    adapter: str
    key: str
    why: str
    action: str = "trigger"
    count: int = 1


class AlertSuppressed(Event, frozen=True, kw_only=True):
    """Messages that are not sent one by one.

    grouped: `count` occasions came soon after a message of their topic, and go out as the one
    message `key`. limited: the adapter has had enough messages for now; the message `key` of this
    topic goes out as part of `into`. carried: the message `key`, which is sent instead, stands for
    `count` occasions of other topics too.
    """

    word = "alert.suppressed"
    cls: str
    adapter: str
    why: str
    key: str
    count: int
    names: list[str] = []
    into: str = ""
