"""What an agent says of itself in its streams: usage, session, model, its last line, its failure.

Runs a reader's declaration (its form stands in agents/usage.py) over the log files of an attempt,
only over whole lines that are new. Promises: figures never go backwards; a line longer than
`LINE_BYTES` is passed over, and so are bytes that were punched out before they were read: `unread`
counts both. Whatever stands in a stream raises nothing. A line is decoded only where the words
that a rule needs stand in it. It knows nothing of attempts, caps or time.
"""

from __future__ import annotations

import os
import stat

from codewhale_fleet.worker import codec, limits, logs
from codewhale_fleet.worker.rules import Group, Rule, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

NUMBERS = ("tokens_in", "tokens_out", "tokens_cached", "tool_calls", "cost_usd", "resets_at")
USAGE = NUMBERS[:5]
TEXTS = {
    "session": 200, "model": 200, "note": 200, "error": 500, "limit": 500, "answer": 1 << 20,
}  # fmt: skip
"""Fields that are text, and the most characters of each."""

LINE_BYTES = 1 << 20
"""A longer line is passed over."""
_KEPT_IDS = 64
"""Ids that go into a snapshot."""
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def _shown(field: str, text: str) -> str:
    """A text as it is told: one line, but for an answer; of a note the last line."""
    if field == "answer":
        return text[: TEXTS[field]].encode("utf-8", "replace").decode()
    if field == "note":
        text = next((one for one in reversed(text.splitlines()) if one.strip()), "")
    return one_line(text, TEXTS[field])


def one_line(text: str, most: int) -> str:
    """Text as one printable line that any decoder takes, cut to `most` characters."""
    text = text[: 4 * most].encode("utf-8", "replace").decode()
    if not text.isprintable():
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = text.strip()
    return text if len(text) <= most else text[: most - 1] + "…"


def _lines(block: bytes, groups: list[Group]) -> Iterator[bytes]:
    """The lines of a block that some group may find something in, in order."""
    if not groups:
        return
    if not all(group.words for group in groups):
        yield from block.split(b"\n")
        return
    words = list(dict.fromkeys(word for group in groups for word in group.words))
    places = [block.find(word) for word in words]
    while True:
        at = min((place for place in places if place >= 0), default=-1)
        if at < 0:
            return
        end = block.find(b"\n", at)
        end = len(block) if end < 0 else end
        yield block[block.rfind(b"\n", 0, at) + 1 : end]
        for number, place in enumerate(places):
            if 0 <= place < end:
                places[number] = block.find(words[number], end)


def _said(stream: Stream, line: bytes, groups: list[Group]) -> tuple[str, str]:
    """What the first rule that finds a text in a line does with it, and the text."""
    made: dict[str, Any] | None = None
    for group in groups:
        if group.words:
            for word in group.words:
                if word in line:
                    break
            else:
                continue
            if group.more and not group.may_hold(line):
                continue
        if made is None:
            made = _object(stream, line)
            if not made:
                return "", ""
        if group.when is None or group.when.holds(made):
            for rule in group.rules:
                text = rule.text_in(made)
                if text is not None:
                    return rule.take, text
    return "", ""


def _object(stream: Stream, line: bytes) -> dict[str, Any] | None:
    """A line as an object; None where it is none."""
    if stream.format == "pairs":
        return _pairs(line)
    if stream.format == "text":
        return {"text": line.decode(errors="replace")} if line.strip() else None
    try:
        made = codec.decode(line)
    except ValueError:
        return None
    return made if type(made) is dict else None


def _pairs(line: bytes) -> dict[str, Any]:
    """The `key=value` of a line as an object; dots in a key open inner ones."""
    import re  # 4 ms, and only few agents need it

    made: dict[str, Any] = {}
    text = line.decode(errors="replace")
    for key, quoted, plain in re.findall(
        r'(?<![^\s{,(])([A-Za-z_][\w.-]*)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))', text
    ):
        *outer, last = key.split(".")
        inner = made
        for step in outer:
            inner = inner.setdefault(step, {})
            if type(inner) is not dict:
                break
        else:
            inner[last] = _plain(plain) if plain else quoted
    return made


def _plain(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


class Stream:
    """One log file: where the next whole line begins, and what is held of an unfinished one."""

    __slots__ = ("format", "hole", "numbers", "offset", "part", "path", "skips", "texts")

    def __init__(self, path: str, format: str) -> None:
        self.path = path
        self.format = format
        self.numbers: list[Group] = []
        self.texts: dict[str, list[Group]] = {}
        self.offset = 0
        self.part = b""
        self.skips = False
        """Whether what comes up to the next newline is the rest of a line that is passed over."""
        self.hole = (0, 0)

    def add(self, field: str, written: dict[str, Any]) -> Rule:
        """One more rule; figures share a look at `when`, texts keep the order of their rules."""
        when, needs = written.get("when") or {}, words_of(written, self.format)
        groups = self.numbers if field in NUMBERS else self.texts.setdefault(field, [])
        rule = Rule(field, written)
        for group in groups if field in NUMBERS else ():
            if (group.written, group.needs) == (when, needs):
                group.rules.append(rule)
                return rule
        groups.append(Group(when, needs))
        groups[-1].rules.append(rule)
        return rule

    @property
    def begun(self) -> int:
        """Offset of the first byte that no whole line was made of yet."""
        return self.offset - len(self.part)


class Reader:
    """A declaration at work over the streams of one attempt. `paths`: stream -> log file.

    `answer`: whether the agent's last message is wanted, too.
    """

    def __init__(
        self, declaration: dict[str, Any], paths: dict[str, str], *, answer: bool = False
    ) -> None:
        formats = declaration.get("formats") or {"out": "json"}
        self.streams = {
            name: Stream(paths[name], formats[name]) for name in formats if name in paths
        }
        self.rules: list[Rule] = []
        for field in (*NUMBERS, *TEXTS):
            for rule in declaration.get(field) or ():
                stream = self.streams.get(rule.get("stream") or "out")
                if stream is not None and (answer or field != "answer"):
                    made = stream.add(field, rule)
                    if field in NUMBERS:
                        self.rules.append(made)
        self.numbers: dict[str, float] = {}
        """Field -> the highest figure so far."""
        self.texts: dict[str, str] = {}
        self.clean: Any = None
        """What takes secret values out of texts, before they are cut."""
        self.unread = 0
        """Bytes that could not be read, or stood in lines that are too long."""

    # ---- reading

    def adopt(self, kept: dict[str, Any] | None) -> None:
        """Another reader was here: go on from its snapshot, and see what was punched out."""
        if kept:
            self._restore(kept)
        for stream in self.streams.values():
            stream.hole = logs.hole_of(stream.path)

    def read(self, most: int = limits.CHUNK_BYTES) -> bool:
        """Take what is new, about `most` bytes; whether there is more."""
        more = False
        for stream in self.streams.values():
            try:
                status = os.stat(stream.path, follow_symlinks=False)
            except OSError:  # the task took it away
                continue
            if not stat.S_ISREG(status.st_mode) or status.st_size == stream.offset:
                continue
            if status.st_size < stream.offset:  # it was cut short: what is there now is new
                stream.offset, stream.part, stream.skips = 0, b"", False
            taken = self._take(stream, min(most, status.st_size - stream.offset))
            more = more or (taken > 0 and stream.offset < status.st_size)
        self._settle()
        return more

    def finish(self) -> None:
        """The last reading: a last line counts without its newline, too."""
        for stream in self.streams.values():
            if stream.part and not stream.skips:
                part, stream.part = stream.part, b""
                self._block(stream, part)
        self._settle()

    def feed(self, data: bytes, name: str = "out") -> None:
        """Take bytes that are at hand as if they were new in a stream."""
        if name in self.streams:
            self._data(self.streams[name], data)
            self._settle()

    def _take(self, stream: Stream, most: int) -> int:
        start, end = stream.hole
        if start <= stream.offset < end:
            self.unread += end - stream.offset
            stream.offset, stream.part, stream.skips = end, b"", True
            return 1
        if stream.offset < start:
            most = min(most, start - stream.offset)
        try:
            fd = os.open(stream.path, _FLAGS)
        except OSError:
            return 0
        try:
            data = os.pread(fd, most, stream.offset)
        except OSError:
            return 0
        finally:
            os.close(fd)
        stream.offset += len(data)
        self._data(stream, data)
        return len(data)

    def _data(self, stream: Stream, data: bytes) -> None:
        first, cut = data.find(b"\n"), data.rfind(b"\n")
        if cut >= 0:
            if stream.skips or len(stream.part) + first > LINE_BYTES:
                self.unread += len(stream.part) + first
                block = data[first + 1 : cut]
            else:
                block = stream.part + data[:cut]
            stream.part, stream.skips = b"", False
            self._block(stream, block)
            data = data[cut + 1 :]
        if stream.skips:
            self.unread += len(data)
        elif len(stream.part) + len(data) > LINE_BYTES:
            self.unread += len(stream.part) + len(data)
            stream.part, stream.skips = b"", True
        else:
            stream.part += data

    def _block(self, stream: Stream, block: bytes) -> None:
        """Take whole lines, the last one without its newline."""
        groups = stream.numbers
        for line in _lines(block, groups):
            made = None
            for group in groups:
                if group.may_hold(line):
                    made = _object(stream, line)
                    break
            if not made:
                continue
            for group in groups:
                if group.when is None or group.when.holds(made):
                    for rule in group.rules:
                        rule.count(made)
        for field, every in stream.texts.items():
            groups = every
            if field in self.texts:
                groups = [group for group in every if group.rules[0].take != "first"]
            if any(group.rules[0].take not in ("", "last") for group in groups):
                for line in _lines(block, groups):
                    self._tell(field, *_said(stream, line, groups))
            elif groups:  # what the last one says holds: no other need be looked at
                self._latest(stream, field, groups, block)

    def _latest(self, stream: Stream, field: str, groups: list[Group], block: bytes) -> None:
        words = [word for group in groups for word in group.words]
        any_line = not all(group.words for group in groups)
        end = len(block)
        while end > 0:
            at = end - 1 if any_line else max(block.rfind(word, 0, end) for word in words)
            if at < 0:
                return
            start = block.rfind(b"\n", 0, at) + 1
            stop = block.find(b"\n", at)
            take, text = _said(stream, block[start : stop if stop >= 0 else len(block)], groups)
            if text:
                self._tell(field, take, text)
                return
            end = start - 1

    def _tell(self, field: str, take: str, text: str) -> None:
        if take == "clear":
            self.texts.pop(field, None)
        elif text and (take != "first" or field not in self.texts):
            before = self.texts.get(field, "") if take == "append" else ""
            if field == "answer" and before:  # it may be long, and come in very many pieces
                text = before + _shown(field, text[: TEXTS[field] - len(before)])
                self.texts[field] = text
            else:
                clean = self.clean.text if self.clean and field != "answer" else str
                self.texts[field] = _shown(field, clean(before + text))

    def _settle(self) -> None:
        """Of each field the first rule that found anything tells; nothing goes backwards."""
        told: dict[str, float] = {}
        for rule in self.rules:
            if rule.found:
                told.setdefault(rule.field, rule.value)
        for field, value in told.items():
            figure = value if field == "cost_usd" else int(value)
            self.numbers[field] = max(figure, self.numbers.get(field, 0))

    # ---- what was found

    @property
    def answer(self) -> str:
        """The agent's last message, whole."""
        return str((self.clean.text if self.clean else str)(self.texts.get("answer", "")))

    def facts(self) -> dict[str, Any]:
        """The fields of `AgentFacts` that are known."""
        made: dict[str, Any] = {}
        usage = {name: self.numbers[name] for name in USAGE if self.numbers.get(name)}
        if usage:
            if "cost_usd" in usage:
                usage["cost_usd"] = round(usage["cost_usd"], 9)
            made["usage"] = usage
        for name in ("session", "model", "note", "error"):
            if self.texts.get(name):
                made[name] = self.texts[name]
        if self.numbers.get("resets_at"):
            made["resets_at"] = self.numbers["resets_at"]
        if self.unread:
            made["unread"] = self.unread
        return made

    # ---- for a reader that comes after this one

    def snapshot(self) -> dict[str, Any]:
        """All that another reader needs to go on from here."""
        return {
            "offsets": {name: stream.begun for name, stream in self.streams.items()},
            "skips": [name for name, stream in self.streams.items() if stream.skips],
            "rules": [
                [rule.found, rule.value, list(rule.ids.items())[-_KEPT_IDS:]] for rule in self.rules
            ],
            "numbers": self.numbers,
            "texts": {name: text for name, text in self.texts.items() if name != "answer"},
            "unread": self.unread,
        }

    def _restore(self, kept: dict[str, Any]) -> None:
        try:
            for rule, (found, value, ids) in zip(self.rules, kept["rules"]):  # noqa: B905 (3.9)
                rule.found, rule.value = found, value
                rule.ids = dict(ids)
            for name, offset in kept["offsets"].items():
                self.streams[name].offset = offset
                self.streams[name].skips = name in kept["skips"]
            self.numbers, self.texts = dict(kept["numbers"]), dict(kept["texts"])
            self.unread = kept["unread"]
        except (LookupError, TypeError, ValueError):
            return  # then from the start
