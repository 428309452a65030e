"""What a disk may hold after a power loss, given a trace of what was done to it.

A file or directory keeps for sure what was there when it was last synced; of what was done since,
anything may be there: each block of a file in the version of any moment, any of its sizes, any of a
directory's changes and not the others. Only a block (512 bytes) and a rename are whole or not at
all. No file system loses more than that, and most lose less. Nothing here knows ledgers, but that
the watermark is one block that is stored into by words of eight bytes.
"""

import base64
import hashlib
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Content = dict[str, "bytes | str | None"]
"""Path -> content; None is a directory, and text is another path of the same file."""


@dataclass(eq=False)
class File:
    """One file: contents since it was last synced, the first of them durable."""

    contents: list[bytes] = field(default_factory=lambda: [b""])
    stored: bool = False
    """Whether it is written through a mapping, a word at a time."""

    @property
    def now(self) -> bytes:
        return self.contents[-1]

    def write(self, at: int, data: bytes) -> None:
        now = self.now.ljust(at, b"\0")
        self.contents.append(now[:at] + data + now[at + len(data) :])

    def truncate(self, size: int) -> None:
        if size != len(self.now):
            self.contents.append(self.now[:size].ljust(size, b"\0"))

    def sync(self) -> None:
        self.contents = [self.now]


Change = tuple[str, "File | Folder | None", str]
"""(name, what it names from then on, name that goes with it)."""


@dataclass(eq=False)
class Folder:
    """One directory: what is durable in it, and the changes since."""

    durable: dict[str, "File | Folder"] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    @property
    def now(self) -> dict[str, "File | Folder"]:
        return self.after(range(len(self.changes)))

    def after(self, chosen: Any) -> dict[str, "File | Folder"]:
        """The names when only these changes came to the disk."""
        names = dict(self.durable)
        for index in chosen:
            name, what, goes = self.changes[index]
            if goes:
                names.pop(goes, None)
            if what is None:
                names.pop(name, None)
            else:
                names[name] = what
        return names

    def sync(self) -> None:
        self.durable, self.changes = self.now, []


class Disk:
    """A directory tree that operations of a trace are done to."""

    def __init__(self, root: Folder | None = None) -> None:
        self.root = root or Folder()
        self._known: dict[int, File | Folder] = {}

    @classmethod
    def of(cls, place: Path) -> "Disk":
        """What is in a directory now, all of it durable, known by its inodes."""
        disk = cls()
        disk.root = disk._read(place)
        return disk

    def _read(self, place: Path) -> Folder:
        folder = Folder()
        self._known[place.stat().st_ino] = folder
        for path in place.iterdir():
            node = path.stat().st_ino
            if path.is_dir():
                folder.durable[path.name] = self._read(path)
            elif path.is_file():
                found = self._known.get(node) or File([path.read_bytes()])
                self._known[node] = folder.durable[path.name] = found
        return folder

    def do(self, op: dict[str, Any]) -> None:
        """One line of the trace."""
        kind = op["op"]
        if kind == "create" or kind == "mkdir":
            where, name = op["at"]
            made: File | Folder = File() if kind == "create" else Folder()
            self._known[op["file"]] = made
            if name == ".fleet":
                assert isinstance(made, Folder)
                self.root = made  # its own name is synced before anything is in it that counts
            elif (folder := self._folder(where)) is not None:
                folder.changes.append((name, made, ""))
        elif kind in ("write", "store", "truncate", "sync"):
            self._do_file(op)
        elif kind in ("rename", "link"):
            self._do_names(op)
        elif kind == "unlink":
            folder = self._folder(op["at"][0])
            if folder is not None and op["at"][1] in folder.now:
                folder.changes.append((op["at"][1], None, ""))

    def _do_file(self, op: dict[str, Any]) -> None:
        found = self._known.get(op["file"])
        if found is None:
            return
        if op["op"] == "sync":
            found.sync()
            return
        assert isinstance(found, File)
        if op["op"] == "truncate":
            found.truncate(op["size"])
        else:
            found.stored |= op["op"] == "store"
            found.write(op["at"], base64.b64decode(op["data"]))

    def _do_names(self, op: dict[str, Any]) -> None:
        come, go = self._folder(op["from"][0]), self._folder(op["to"][0])
        what = come.now.get(op["from"][1]) if come else None
        if come is None or go is None or what is None:
            return  # a socket, or what lies outside
        moved = op["op"] == "rename"
        if come is go:
            go.changes.append((op["to"][1], what, op["from"][1] if moved else ""))
            return
        go.changes.append((op["to"][1], what, ""))
        if moved:
            come.changes.append((op["from"][1], None, ""))

    def _folder(self, node: int) -> Folder | None:
        found = self._known.get(node)
        return found if isinstance(found, Folder) else None


# What a loss may leave ---------------------------------------------------------------------------

Choices = list[tuple[Any, list[Any]]]
"""Each thing of which one of several versions may be on the disk."""


class Losses:
    """Every state that a disk may have when the power goes now."""

    def __init__(self, disk: Disk, block: int) -> None:
        self._disk, self._block = disk, block
        self._choices: Choices = []
        self._collect(disk.root)

    def _collect(self, folder: Folder) -> None:
        count = len(folder.changes)
        if count:
            subsets = [
                chosen
                for size in range(count + 1)
                for chosen in itertools.combinations(range(count), size)
            ]
            self._choices.append((folder, subsets))
        inside: dict[int, File | Folder] = {id(one): one for one in folder.durable.values()}
        inside |= {id(one): one for _, one, _ in folder.changes if one is not None}
        for one in inside.values():
            if any(one is known for known, _ in self._choices):
                continue
            if isinstance(one, Folder):
                self._collect(one)
            elif one.stored:
                self._choices.append((one, _stored(one.contents)))
            elif len(one.contents) > 1:
                self._choices += self._of_file(one)

    def _of_file(self, file: File) -> Choices:
        """Its sizes, then each block by itself."""
        block = self._block
        sizes = sorted({len(content) for content in file.contents})
        edges = range(sizes[0] // block * block + block, sizes[-1], block)
        choices: Choices = [((file, -1), sorted({*sizes, *edges}))]
        for number in range(-(-sizes[-1] // block)):
            begin = number * block
            versions = list(
                dict.fromkeys(
                    content[begin : begin + block].ljust(block, b"\0") for content in file.contents
                )
            )
            if len(versions) > 1:
                choices.append(((file, number), versions))
        return choices

    @property
    def count(self) -> int:
        """How many there are, twins included."""
        product = 1
        for _, versions in self._choices:
            product *= len(versions)
        return product

    def all(self) -> Iterator[Content]:
        """Each of them."""
        for chosen in itertools.product(*(versions for _, versions in self._choices)):
            yield self._made(chosen)

    def some(self, count: int, dice: random.Random) -> Iterator[Content]:
        """Nothing of it, all of it, and others at random."""
        yield self._made([versions[0] for _, versions in self._choices])
        yield self._made([versions[-1] for _, versions in self._choices])
        for _ in range(count - 2):
            yield self._made([dice.choice(versions) for _, versions in self._choices])

    def _made(self, chosen: Any) -> Content:
        picked = {
            (key if isinstance(key, tuple) else (key, -2)): version
            for (key, _), version in zip(self._choices, chosen, strict=True)
        }
        content: Content = {}
        self._fill(self._disk.root, "", picked, content, {})
        return content

    def _fill(
        self, folder: Folder, at: str, picked: Any, content: Content, seen: dict[File, str]
    ) -> None:
        for name, one in folder.after(picked.get((folder, -2), ())).items():
            path = f"{at}{name}"
            if isinstance(one, Folder):
                content[path] = None
                self._fill(one, f"{path}/", picked, content, seen)
            elif one in seen:
                content[path] = seen[one]
            else:
                content[path], seen[one] = self._bytes(one, picked), path

    def _bytes(self, file: File, picked: Any) -> bytes:
        whole: bytes | None = picked.get((file, -2))
        if whole is not None:
            return whole
        size: int = picked.get((file, -1), len(file.contents[0]))
        if len(file.contents) == 1:
            return file.contents[0]
        block = self._block
        longest = max(file.contents, key=len)
        blocks = [
            picked.get((file, begin // block)) or longest[begin : begin + block]
            for begin in range(0, size, block)
        ]
        return b"".join(blocks)[:size]


def _stored(contents: list[bytes]) -> list[bytes]:
    """Every moment of a mapped file, and its oldest and newest words mixed."""
    versions = dict.fromkeys(contents)
    for one, other in ((contents[0], contents[-1]), (contents[-2:][0], contents[-1])):
        if len(one) == len(other):
            words = [
                dict.fromkeys((one[at : at + 8], other[at : at + 8]))
                for at in range(0, len(one), 8)
            ]
            versions |= dict.fromkeys(map(b"".join, itertools.product(*words)))
    return list(versions)


def digest(content: Content) -> bytes:
    """A name for a state."""
    made = hashlib.blake2b(digest_size=16)
    for path in sorted(content):
        data = content[path]
        made.update(f"{path}\0{type(data).__name__}\0{len(data or ())}\0".encode())
        made.update(data.encode() if isinstance(data, str) else data or b"")
    return made.digest()


def read(trace: Path) -> list[dict[str, Any]]:
    """The lines of a trace."""
    return [json.loads(line) for line in trace.read_bytes().splitlines()]
