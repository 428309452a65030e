"""A copy of a workspace for one attempt: files, links, modes; blocks are shared where they can be.

Promises: nothing is shared with the original but blocks that are copied on writing (no hard links);
a link is copied as a link and not followed; no `.fleet` is copied, nor what is neither file, link
nor directory. What it was made of is kept as a tree in a git directory beside the copy, which the
attempt does not see. It does not know what the attempt will do with it.
"""

from __future__ import annotations

import fcntl
import os
import stat

from codewhale_fleet.worker import git, indexing, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FICLONE = 0x40049409
_PIECE = 1 << 30
_FLEET = ".fleet"
_UNATTRIBUTED = b"* -text -eol -filter -ident -working-tree-encoding\n"
"""Bytes as they are: neither line ends nor filters of the workspace change what is compared."""
_HIDDEN_CONFIG = (
    "core.autocrlf=false",
    "core.fileMode=true",
    "core.looseCompression=0",
    "core.safecrlf=false",
    "advice.addEmbeddedRepo=false",
)


def copy(given: dict[str, Any], directory: str) -> workspace.Record:
    """Copy the workspace to `directory`, and keep what it is made of."""
    copier = Copier(given["fleet"])
    record: workspace.Record = {"attempt": given["attempt"], "kind": "copy", "top": "", "notes": []}
    workspace.write_record(directory, record)
    if given.get("bundle"):
        from codewhale_fleet.worker import bundle

        bundle.lay(given["fleet"], given["bundle"], directory, given["cwd"])
    else:
        copier.tree(given["from"], directory)
    notes = record["notes"]
    if copier.passed_over:
        notes.append(
            f"not copied, neither files nor directories: {workspace.listed(copier.passed_over)}"
        )
    if copier.links:
        notes.append(f"links in it lead out of it: {workspace.listed(copier.links)}")
    if copier.linked_repository:
        notes.append("its .git is a link to another repository's, and not copied")
    more = indexing.git_of(directory, record, indexing.INDEX)
    git.text(["init", "-q", "--template=", "--object-format=sha1"], "its base cannot be kept", more)
    os.makedirs(directory + indexing.HIDDEN + "/info", exist_ok=True)
    with open(directory + indexing.HIDDEN + "/info/attributes", "wb") as file:
        file.write(_UNATTRIBUTED)
    answer = git.run([*hidden(directory), "add", "-A", "--ignore-errors", "."], more)
    if answer.status not in (0, 1):
        raise git.failed("its base cannot be kept", answer)
    if answer.status:
        notes.append(f"not everything in it is in its base: {answer.words}")
    if copier.repositories:
        notes.append("changes in repositories inside it are in no patch: "
                     f"{workspace.listed(copier.repositories)}")  # fmt: skip
        record["nested"] = True
    record["base"] = record["tree"] = git.line(["write-tree"], "its base cannot be kept", more)
    return record


def hidden(directory: str) -> list[str]:
    """The words before a command in the git directory of a copy."""
    return ["-C", directory, *(word for setting in _HIDDEN_CONFIG for word in ("-c", setting))]


class Copier:
    """One pass over a directory. `fleet`: the fleet's own, which is not copied."""

    def __init__(self, fleet: str) -> None:
        facts = os.stat(fleet)
        self._fleet = (facts.st_dev, facts.st_ino)
        self._clones = True
        self._top = ""
        self.passed_over: list[str] = []
        """FIFOs, sockets and devices."""
        self.links: list[str] = []
        """Links to somewhere outside."""
        self.repositories: list[str] = []
        """Directories below the top that have a `.git` of their own."""
        self.linked_repository = False

    def tree(self, source: str, target: str) -> None:
        """A directory with all that is in it; `target` is made."""
        self._top = os.path.realpath(source)
        os.mkdir(target, 0o700)
        self._below(source, target, "")
        os.chmod(target, stat.S_IMODE(os.stat(source).st_mode) | 0o700)

    def entry(self, source: str, target: str) -> None:
        """One file, link or directory."""
        facts = os.lstat(source)
        if stat.S_ISDIR(facts.st_mode):
            self.tree(source, target)
        else:
            self._file(source, target, os.path.basename(source), facts)

    def _below(self, source: str, target: str, inside: str) -> None:
        with os.scandir(source) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            name, path = entry.name, os.path.join(inside, entry.name)
            there = os.path.join(target, name)
            facts = entry.stat(follow_symlinks=False)
            if name == _FLEET or (facts.st_dev, facts.st_ino) == self._fleet:
                continue
            if name == ".git" and self._is_kept_out(facts, inside):
                continue
            if stat.S_ISDIR(facts.st_mode):
                if path == ".git/worktrees":
                    continue
                os.mkdir(there, 0o700)
                self._below(entry.path, there, path)
                os.chmod(there, stat.S_IMODE(facts.st_mode) | 0o700)
                os.utime(there, ns=(facts.st_atime_ns, facts.st_mtime_ns))
            elif not path.startswith(".git/") or not name.endswith(".lock"):
                self._file(entry.path, there, path, facts)

    def _is_kept_out(self, facts: os.stat_result, inside: str) -> bool:
        """Is this `.git` a mere pointer? A copy of that would work on the index of the original."""
        if inside:
            self.repositories.append(inside)
        elif not stat.S_ISDIR(facts.st_mode):
            self.linked_repository = True
        return not stat.S_ISDIR(facts.st_mode)

    def _file(self, source: str, target: str, path: str, facts: os.stat_result) -> None:
        if stat.S_ISLNK(facts.st_mode):
            leads = os.readlink(source)
            os.symlink(leads, target)
            real = os.path.realpath(source)
            inside = real == self._top or real.startswith(self._top + "/")
            if self._top and (not inside or leads.startswith("/")):
                self.links.append(path)
        elif stat.S_ISREG(facts.st_mode):
            self._bytes(source, target, stat.S_IMODE(facts.st_mode))
            os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        else:
            self.passed_over.append(path)

    def _bytes(self, source: str, target: str, mode: int) -> None:
        reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            writer = os.open(target, flags, 0o600)
            try:
                if not self._cloned(reader, writer):
                    _copied(reader, writer)
                os.fchmod(writer, mode)
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    def _cloned(self, reader: int, writer: int) -> bool:
        if self._clones:
            try:
                fcntl.ioctl(writer, _FICLONE, reader)
                return True
            except OSError:  # this file system does not share blocks, or not across mounts
                self._clones = False
        return False


def _copied(reader: int, writer: int) -> None:
    try:
        while os.copy_file_range(reader, writer, _PIECE):
            pass
        return
    except OSError as error:
        if error.errno in (28, 122):
            raise
        os.lseek(reader, 0, os.SEEK_SET)
        os.lseek(writer, 0, os.SEEK_SET)
    while data := os.read(reader, 1 << 20):
        while data:
            data = data[os.write(writer, data) :]
