"""Putting an attempt's patch into the checkout: all of it, or nothing and the reason.

Promises: before the first byte is written it is known that every hunk fits; what does not fit is
told by file and hunk; what is in already is found to be, by undoing it in thought. The index of the
checkout is left as it is. Links are not followed out of the workspace: git refuses that. It knows
no ledger, and does not judge whether the patch should go in.
"""

import re
import shutil
import tempfile
from pathlib import Path

from msgspec import Struct

from ..errors import FleetError
from ..worker import git
from ..worker.git import Answer, Refusal

_APPLY = ("apply", "--binary", "--whitespace=nowarn")
_MODE = re.compile(rb"^(?:new mode|new file mode) (\d{6})$", re.MULTILINE)
_HUNK = re.compile(r"^@@ .*? @@", re.MULTILINE)
_REJECTED = re.compile(r"^Rejected hunk #(\d+)")
_CHECKING = re.compile(r"^Checking patch (.*)\.\.\.$")
_PROBLEM = re.compile(r"^error: (?:patch failed: )?(.*?)(?::\d+)?(?:: (.*))?$")
MERGED_BADLY = "with conflicts"


class Change(Struct):
    """One file of a patch: lines added and removed; none of a binary one."""

    path: str
    added: int | None
    removed: int | None


class Conflict(Struct):
    """A file that does not take its change, which hunks of how many, and why."""

    path: str
    why: str
    hunks: list[str] = []
    of: int = 0


class Applied(Struct):
    """What became of it. `how`: applied, merged, already, or refused, or it would be so."""

    how: str
    files: list[Change]
    conflicts: list[Conflict] = []
    mergeable: bool = False
    """Refused, but a merge by three sides would go well."""


def apply(patch: Path, workspace: Path, *, whole: bool, check: bool, merge: bool) -> Applied:
    """Put `patch` into `workspace`, or only say what would happen.

    `whole`: its paths begin at the top of the repository around it, not at the workspace.
    """
    try:
        return _Applying(patch, workspace, whole).done(check=check, merge=merge)
    except Refusal as reason:
        raise FleetError(f"the patch cannot be applied: {reason}.", code="patch") from None


class _Applying:
    """One patch and one place."""

    def __init__(self, patch: Path, workspace: Path, whole: bool) -> None:
        self.patch = str(patch)
        self.words: list[str] = []
        self.more: dict[str, str] = {}
        found = git.run(["-C", str(workspace), "rev-parse", "--show-toplevel", "--show-prefix"])
        lines = found.out.decode("utf-8", "surrogateescape").split("\n")
        self.in_git = found.status == 0 and len(lines) > 1
        self.top = Path(lines[0]) if self.in_git else workspace
        if self.in_git and lines[1] and not whole:
            self.words = [f"--directory={lines[1]}"]
        if not self.in_git:
            if whole:
                raise Refusal(f"{workspace} is in no git repository any more")
            self.more = {"GIT_CEILING_DIRECTORIES": str(workspace.parent)}

    def git(self, *words: str, more: dict[str, str] | None = None) -> Answer:
        """`git apply` with these words."""
        line = ["-C", str(self.top), *_APPLY, *self.words, *words, self.patch]
        return git.run(line, {**self.more, **(more or {})})

    def done(self, *, check: bool, merge: bool) -> Applied:
        """Try in thought; then do it."""
        files = self.files()
        if self.git("--check", "--reverse").status == 0 and self.modes_are_there(files):
            return Applied("already", files)
        first = self.git("--check")
        if first.status == 0:
            if not check:
                self.must(self.git())
            return Applied("applied", files)
        if self.in_git:
            merged = self.merged(files, check=check or not merge)
            if merged and merge:
                return Applied("merged", files)
            return Applied("refused", files, self.conflicts(first, files), mergeable=merged)
        return Applied("refused", files, self.conflicts(first, files))

    def must(self, answer: Answer) -> None:
        """What fitted a moment ago fits no more, or the disk is full."""
        if answer.status:
            raise git.failed("it fitted, and then git failed", answer)

    def files(self) -> list[Change]:
        """What the patch is about, by its new names."""
        answer = self.git("--numstat", "-z")
        if answer.status:
            raise git.failed("it is not to be read", answer)
        found = []
        for row in answer.out.decode("utf-8", "surrogateescape").split("\0")[:-1]:
            added, removed, path = row.split("\t", 2)
            counts = [None if one == "-" else int(one) for one in (added, removed)]
            found.append(Change(path, *counts))
        return found

    def sections(self) -> list[bytes]:
        """The patch, file by file, in the order of `files`."""
        data = b"\n" + Path(self.patch).read_bytes()
        return data.split(b"\ndiff --git ")[1:]

    def modes_are_there(self, files: list[Change]) -> bool:
        """Whether files have the modes that the patch gives them: undoing it does not ask that."""
        for section, file in zip(self.sections(), files, strict=False):
            head = section.partition(b"\n@@ ")[0].partition(b"\nGIT binary patch")[0]
            wanted = _MODE.search(head)
            if wanted and wanted[1] in (b"100644", b"100755"):
                path = self.top / file.path
                if not path.exists() or bool(path.stat().st_mode & 0o100) != (
                    wanted[1] == b"100755"
                ):
                    return False
        return True

    def merged(self, files: list[Change], *, check: bool) -> bool:
        """Merge by three sides, by an index of our own that is as the files are now."""
        with tempfile.TemporaryDirectory(prefix="fleet-apply-") as scratch:
            index = str(Path(scratch, "index"))
            own = git.line(
                ["-C", str(self.top), "rev-parse", "--path-format=absolute", "--git-path", "index"],
                "its index is not found",
            )
            if Path(own).exists():
                shutil.copy2(own, index)
            more = {"GIT_INDEX_FILE": index}
            names = [file.path for file in files] + self.old_names()
            there = "\0".join(names).encode("utf-8", "surrogateescape")
            git.run(
                ["-C", str(self.top), "update-index", "--add", "--remove", "-z", "--stdin"],
                more,
                there,
            )
            trial = self.git("--3way", "--check", more=more)
            if trial.status or MERGED_BADLY in trial.error.decode("utf-8", "replace"):
                return False
            if not check:
                self.must(self.git("--3way", more=more))
        return True

    def old_names(self) -> list[str]:
        """Names that files had before a rename; quoted ones are left out."""
        found = re.findall(rb"^rename from ([^\"\n].*)$", b"\n".join(self.sections()), re.MULTILINE)
        prefix = self.words[0].partition("=")[2] if self.words else ""
        return [prefix + one.decode("utf-8", "surrogateescape") for one in found]

    def conflicts(self, first: Answer, files: list[Change]) -> list[Conflict]:
        """What does not fit: from git's words, and hunk by hunk from a trial on a scratch copy."""
        found: dict[str, Conflict] = {}
        for line in first.error.decode("utf-8", "replace").splitlines():
            told = _PROBLEM.match(line)
            if told:
                one = found.setdefault(told[1], Conflict(told[1], told[2] or "does not fit"))
                one.why = told[2] or one.why
        self.hunks(found, files)
        return list(found.values())

    def hunks(self, found: dict[str, Conflict], files: list[Change]) -> None:
        """Which hunks do not fit, found out where it harms nobody."""
        with tempfile.TemporaryDirectory(prefix="fleet-apply-") as scratch:
            for name in {*(file.path for file in files), *self.old_names()}:
                source, target = self.top / name, Path(scratch, name)
                if source.is_file() and not source.is_symlink():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, target)
            more = {
                "GIT_CEILING_DIRECTORIES": str(Path(scratch).parent),
                "GIT_DIR": scratch + "/none",
            }
            line = ["-C", scratch, *_APPLY, *self.words, "--reject", "-v", self.patch]
            said = git.run(line, more).error.decode("utf-8", "replace")
        path = ""
        for text in said.splitlines():
            if (names := _CHECKING.match(text)) or (
                names := re.match(r"Applying patch (.*?) with", text)
            ):
                path = names[1].rpartition(" => ")[2]
            elif (number := _REJECTED.match(text)) and path:
                where = self.headings(path, files)
                one = found.setdefault(path, Conflict(path, "patch does not apply"))
                at = int(number[1])
                one.of = len(where)
                one.hunks.append(f"{at}: {where[at - 1]}" if at <= len(where) else str(at))

    def headings(self, path: str, files: list[Change]) -> list[str]:
        """The `@@ … @@` of a file's hunks."""
        for section, file in zip(self.sections(), files, strict=False):
            if file.path == path:
                return _HUNK.findall(section.decode("utf-8", "replace"))
        return []
