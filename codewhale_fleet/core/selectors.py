"""Which workers a person means: `web[01-20]`, `role=jenkins and not draining`, `@failed:RUN`.

    all                  every worker of the fleet
    web01  web*  web[01-50]   an id, a name, a host or a group; a glob; a range
    role=db  role!=db    workers with that label, or without it; the value may be a glob
    draining  unreachable  local   workers in that state; those of this machine
    @failed:RUN          those on which a task of that run failed
    a,b   and  or  not  ( )   a list is one of its words; and binds closer than or

Pure. Promises that a word which can mean nothing is an error that says where it stands and what
there is, so that a typing mistake never widens or narrows a selection unseen. What `@…` stands for
is for the caller to say.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Protocol

from msgspec import Struct

from ..errors import FleetError
from .fleet_words import LOCAL
from .ranges import expanded, is_pattern
from .spec_hosts import THIS_MACHINE, LocalHost, SshHost, Worker

WORDS = ("all", "and", "draining", LOCAL, "not", "or", "unreachable")
"""Words with a meaning of their own: no worker and no group is called like that."""

STATES = ("draining", "unreachable")
"""Words that ask how a worker is."""

SHOWN = 8
"""Names that an error writes out."""

Resolve = Callable[[str, str], Iterable[str]]
"""What `@WORD:REST` stands for: ids of workers."""


class Standing(Protocol):
    """What the ledger knows of a worker, as far as it can be asked for."""

    @property
    def draining(self) -> Any:
        """It gets nothing new."""

    @property
    def unreachable(self) -> Any:
        """It could not be reached when last tried."""


class BadSelector(FleetError):
    """A selection that cannot be read, or that selects nothing."""

    code = "bad_selector"


class Subject(Struct, frozen=True):
    """One worker as a selector sees it."""

    id: str
    worker: Worker
    row: Standing | None = None


Match = Callable[[Subject], bool]


class Selector:
    """A selection that was read; `text` is what was typed."""

    def __init__(self, text: str, match: Match, words: "list[_Word]") -> None:
        self.text = text
        self._match = match
        self._words = words

    def __repr__(self) -> str:
        return f"Selector({self.text!r})"

    @property
    def _names_local(self) -> bool:
        """Whether it says `local`: this machine is never meant by `all` or by what is left out."""
        return any(word.text == LOCAL for word in self._words)

    def matches(self, id: str, worker: Worker, row: Standing | None = None) -> bool:
        """Whether a worker is one of those that are meant."""
        return self._match(Subject(id, worker, row))

    def choose(
        self,
        workers: Mapping[str, Worker],
        rows: Mapping[str, Standing] | None = None,
        field: str = "--on",
    ) -> list[str]:
        """Ids of all workers that are meant, in their order; BadSelector where there is none.

        A name that is nobody's is an error too, even where others name something; a range is the
        list of names that it spells. This machine is among them where the selection says `local`,
        or where a worker of that id was written.
        """
        rows = rows or {}
        there = {LOCAL: THIS_MACHINE, **workers} if self._names_local else workers
        subjects = [Subject(id, worker, rows.get(id)) for id, worker in there.items()]
        if any(word.names for word in self._words):
            known = {name for one in subjects for name in names_of(one.id, one.worker)}
            for word in self._words:
                if lacking := [name for name in word.names if name not in known]:
                    raise _unknown(self.text, word, lacking, workers, field)
        found = [subject.id for subject in subjects if self._match(subject)]
        if not found:
            raise _nothing(self.text, workers, field)
        return found


def parse(text: str, resolve: Resolve | None = None, field: str = "--on") -> Selector:
    """What a selection says; BadSelector with the position where it says nothing."""
    return _Parser(text, resolve, field).whole()


# Reading --------------------------------------------------------------------------------------

_TOKEN = re.compile(r"""[(),]|(?:"[^"]*"|'[^']*'|\[[^\]]*\]|[^\s(),"'\[])+""")
_QUOTED = re.compile(r""""[^"]*"|'[^']*'""")
_OPERATORS = ("and", "or", "not")


class _Token(Struct, frozen=True):
    text: str
    at: int
    """Where it begins, from 1."""

    @property
    def operator(self) -> str:
        return self.text.lower() if self.text.lower() in _OPERATORS else ""


class _Word(Struct, frozen=True):
    """One word that says something of a worker."""

    text: str
    at: int
    match: Match
    names: tuple[str, ...] = ()
    """Workers or groups that it names outright: all of them must be there."""


class _Parser:
    """One selection, read from left to right."""

    def __init__(self, text: str, resolve: Resolve | None, field: str) -> None:
        self.text = text
        self.resolve = resolve
        self.field = field
        self.words: list[_Word] = []
        self.tokens = list(self._tokens())
        self.at = 0

    def whole(self) -> Selector:
        if not self.tokens:
            raise self.error("selects nothing: it is empty", hint="all selects every worker")
        match = self._or()
        if (token := self.peek()) is not None:
            if token.text == ")":
                raise self.error('has a ")" that nothing opened', token)
            raise self.error(f'needs and, or or a comma before "{token.text}"', token)
        return Selector(self.text, match, self.words)

    def error(self, message: str, token: _Token | None = None, hint: str = "") -> BadSelector:
        place = f" (at character {token.at})" if token is not None else ""
        hint = hint or "such as web01, web[01-20], or: role=db and not draining"
        return BadSelector(f'the selector "{self.text}" {message}{place}.', hint, field=self.field)

    def _tokens(self) -> Iterator[_Token]:
        at = 0
        while at < len(self.text):
            if self.text[at].isspace():
                at += 1
                continue
            found = _TOKEN.match(self.text, at)
            if found is None:
                what = "bracket" if self.text[at] == "[" else "quotation mark"
                raise self.error(f"has a {what} that is not closed", _Token("", at + 1))
            yield _Token(found[0], at + 1)
            at = found.end()

    def peek(self) -> _Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def _take(self, operator: str) -> bool:
        token = self.peek()
        if token is None or token.operator != operator:
            return False
        self.at += 1
        return True

    def _or(self) -> Match:
        found = [self._and()]
        while self._take("or"):
            found.append(self._and())
        return found[0] if len(found) == 1 else _any(found)

    def _and(self) -> Match:
        found = [self._not()]
        while self._take("and"):
            found.append(self._not())
        return found[0] if len(found) == 1 else _all(found)

    def _not(self) -> Match:
        turned = False
        while self._take("not"):
            turned = not turned
        match = self._list()
        return _without(match) if turned else match

    def _list(self) -> Match:
        found = [self._one()]
        while (token := self.peek()) is not None and token.text == ",":
            self.at += 1
            found.append(self._one())
        return found[0] if len(found) == 1 else _any(found)

    def _one(self) -> Match:
        token = self.peek()
        before = self.tokens[self.at - 1] if self.at else None
        if token is None or token.operator or token.text in (",", ")"):
            where = f'after "{before.text}"' if before is not None else "at its start"
            raise self.error(f"lacks a name {where}", token or before)
        self.at += 1
        if token.text == "(":
            match = self._or()
            end = self.peek()
            if end is None:
                raise self.error('has a "(" that nothing closes', token)
            if end.text != ")":
                raise self.error(f'needs and, or or a comma before "{end.text}"', end)
            self.at += 1
            return match
        word = self._word(token)
        self.words.append(word)
        return word.match

    def _word(self, token: _Token) -> _Word:
        text = token.text
        plain = _QUOTED.sub(lambda found: found[0][1:-1], text)
        if text.startswith("@"):
            return _Word(text, token.at, self._resolved(token))
        if "=" in _QUOTED.sub("", text):
            return _Word(plain, token.at, self._label(token, plain))
        if text == "all":
            return _Word(text, token.at, lambda _: True)
        if text in STATES:
            return _Word(text, token.at, _state(text))
        if text == LOCAL:
            return _Word(text, token.at, lambda one: isinstance(one.worker.host, LocalHost))
        if not plain or not plain.isprintable():
            raise self.error("has a name that is blank", token)
        exact = _QUOTED.fullmatch(text) is not None
        is_glob = not exact and any(sign in plain for sign in "*?")
        names = [plain] if exact else self._expanded(token, plain)
        return _Word(plain, token.at, _names(names), () if is_glob else tuple(names))

    def _expanded(self, token: _Token, text: str) -> list[str]:
        try:
            return expanded(text)
        except ValueError as error:
            hint = "ranges are written web[01-50] or web[a,b]"
            raise self.error(f'cannot use "{text}": {error}', token, hint) from None

    def _label(self, token: _Token, text: str) -> Match:
        key, _, value = text.partition("=")
        differs = key.endswith("!")
        key = key.removesuffix("!")
        if not key or is_pattern(key) or any(sign in key for sign in "*?"):
            hint = "labels are written role=db or role!=db"
            raise self.error(f'cannot use "{text}": no label stands before the =', token, hint)
        values = self._expanded(token, value)

        def match(one: Subject) -> bool:
            held = one.worker.labels.get(key)
            has = held is not None and any(fnmatchcase(held, glob) for glob in values)
            return has is not differs

        return match

    def _resolved(self, token: _Token) -> Match:
        word, colon, rest = token.text[1:].partition(":")
        if self.resolve is None or not colon or not rest:
            hint = "such as @failed:RUN"
            raise self.error(f'cannot use "{token.text}"', token, hint)
        ids = frozenset(self.resolve(word, rest))
        return lambda one: one.id in ids


def _any(found: list[Match]) -> Match:
    return lambda one: any(match(one) for match in found)


def _all(found: list[Match]) -> Match:
    return lambda one: all(match(one) for match in found)


def _without(match: Match) -> Match:
    return lambda one: not match(one)


def _state(word: str) -> Match:
    return lambda one: one.row is not None and bool(getattr(one.row, word))


def _names(wanted: list[str]) -> Match:
    """Workers whose id, name, host or group is one of these, or matches one of them."""
    exact = frozenset(one for one in wanted if not any(sign in one for sign in "*?"))
    globs = [one for one in wanted if one not in exact]

    def match(one: Subject) -> bool:
        names = names_of(one.id, one.worker)
        if not exact.isdisjoint(names):
            return True
        return any(fnmatchcase(name, glob) for glob in globs for name in names)

    return match


def names_of(id: str, worker: Worker) -> list[str]:
    """Everything by which a worker may be called."""
    host = [worker.host.host] if isinstance(worker.host, SshHost) else []
    return [id, worker.name, *host, *worker.groups]


# What is there --------------------------------------------------------------------------------


def _unknown(
    text: str, word: _Word, lacking: list[str], workers: Mapping[str, Worker], field: str
) -> BadSelector:
    if len(lacking) < len(word.names):
        told = _list("", lacking).lstrip()
        sentence = f'no worker and no group is called {told}, of "{word.text}".'
        glob = re.sub(r"\[[^\]]*\]", "*", word.text)
        return BadSelector(sentence, f"A glob takes those that there are: {glob}", field=field)
    names = dict.fromkeys(name for id, one in workers.items() for name in names_of(id, one))
    near = _nearest(word.text, names)
    where = f" (character {word.at} of the selector)" if text != word.text else ""
    sentence = f'no worker and no group is called "{word.text}"{where}.'
    hint = f"Nearest: {', '.join(near)}" if near else exists(workers)
    return BadSelector(sentence, hint, field=field)


def _nothing(text: str, workers: Mapping[str, Worker], field: str) -> BadSelector:
    return BadSelector(f'"{text}" selects no worker.', exists(workers), field=field)


def exists(workers: Mapping[str, Worker]) -> str:
    """What there is to be selected, in a line."""
    ids = [id for id, one in workers.items() if id != LOCAL]
    if not ids:
        return "This fleet knows no other machine: fleet worker add HOST makes one known."
    groups = sorted({group for one in workers.values() for group in one.groups})
    labels = sorted({f"{k}={v}" for one in workers.values() for k, v in one.labels.items()})
    parts = [_list("workers", ids), _list("groups", groups), _list("labels", labels)]
    return f"There are {'; '.join(part for part in parts if part)}."


def _list(what: str, names: Collection[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(list(names)[:SHOWN])
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{what} {shown}{more}"


def _nearest(wrong: str, known: Iterable[str]) -> list[str]:
    from difflib import get_close_matches

    return get_close_matches(wrong, list(known), n=3, cutoff=0.6)
