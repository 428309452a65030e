"""The directory that one attempt has for itself: how it comes about, and how its work is kept.

    python -I -S -c '...main()' PACKAGES enter GIVEN PROGRAM…   make it, then become PROGRAM in it
    python -I -S -c '...main()' PACKAGES patch DIRECTORY        its changes, as DIRECTORY.patch
    python -I -S -c '...main()' PACKAGES drop DIRECTORY         remove it, and what git knows of it

A process of its own, so that nobody waits for git but the attempt. Beside DIRECTORY lie, until it
is removed, `.json` (what it is: see `Record`), `.entering` (while it is made: why it could not be)
and, for a copy, `.git` (what it was made of). Promises: PROGRAM has the pid, the logs and the
signals of this process; where it cannot begin, `.entering` stays and says why in one sentence; what
is in the workspace itself is never written to. It does not know who judges, or how many attempts
there are.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time

from codewhale_fleet.worker import codec, git, indexing
from codewhale_fleet.worker.git import Refusal
from codewhale_fleet.worker.indexing import HIDDEN, INDEX, OBJECTS
from codewhale_fleet.worker.launch import (
    DEFAULT_PATH,
    FOR_WANT_OF_MEANS,
    Unstarted,
    blame,
    find_program,
    make_writable,
    spawn_sentence,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Record = dict[str, Any]
    """`attempt` (the latest in it; `made_by`: the first, if that is another), `kind`, `base`
    (commit or tree), `tree` (what the patch is against), `top` (the directory below DIRECTORY that
    stands for the workspace), `common` and `meta` (a worktree's repository, and its place there),
    `notes`; after `patch` its size, and `unsaved`."""

ENTERING, RECORD, PATCH, COMMITS = ".entering", ".json", ".patch", ".commits"
BESIDE = (ENTERING, RECORD, PATCH, HIDDEN, OBJECTS, INDEX, COMMITS)
"""What may lie beside a directory, by the end of its name."""
REPLACED = ".replaced"
"""The end of a name that nothing beside a directory has."""
CONFINED = "sandbox: "
"""How a sentence begins that says why it cannot be confined."""
_BLANK = b"\n" * 1024
"""Room for a sentence, taken before the disk may be full."""
_TRIES = 6
_AGAIN_SECONDS = 0.05
_DIGITS = 12
_LISTED = 5
_LITTLE_ROOM = 100_000_000


def blank_marker(path: str) -> None:
    """Say that the directory is being made, with room for the reason why it was not."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, _BLANK)
    finally:
        os.close(fd)


def read_record(directory: str) -> Record:
    """What is known of a directory; empty where nothing is."""
    try:
        with open(directory + RECORD, "rb") as file:
            found = codec.decode(file.read())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def maker_of(directory: str) -> str:
    """The attempt that a directory was made for; empty where nothing is known."""
    record = read_record(directory)
    return str(record.get("made_by") or record.get("attempt") or "")


def write_record(directory: str, record: Record) -> None:
    """Keep what is known of a directory, in one step."""
    temporary = f"{directory}{RECORD}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(codec.encode(record))
    os.replace(temporary, directory + RECORD)


def listed(names: list[str]) -> str:
    """Some names, and how many more."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    shown = ", ".join(names[:_LISTED]).encode("utf-8", "replace").decode()
    return "".join(sign if sign.isprintable() else "?" for sign in shown) + more


# ---- making it


def _enter(given: dict[str, Any], argv: list[str]) -> None:
    directory = given["directory"]
    git.theirs[:] = [os.path.realpath(given["from"])]
    marker = directory + ENTERING
    try:
        record = _made(given)
        root = os.path.join(directory, record["top"])
        cwd = os.path.join(root, given["cwd"])
        if os.path.realpath(root) != root.rstrip("/"):
            raise Refusal(f"a link stands where {record['top'] or 'it'} was: nothing begins there")
        for path in given["writable"]:
            make_writable(root, path)
        os.chdir(cwd)
        missing = [path for path in given["required"] if not os.path.exists(path)]
        if missing:
            names = ", ".join(missing)
            raise Unstarted(f"required files are missing in its own {given['kind']}: {names}")
        above = os.path.dirname(directory)
        ceilings = os.environ.get("GIT_CEILING_DIRECTORIES")
        os.environ["GIT_CEILING_DIRECTORIES"] = f"{above}:{ceilings}" if ceilings else above
        program = find_program(argv[0], cwd, os.environ.get("PATH", DEFAULT_PATH))
        environ, plan = dict(os.environ), given["plan"]
        if "sandbox" in plan or "tools" in plan:
            from codewhale_fleet.worker import confining, seclusion

            plan.update(
                {"root": root, "cwd": cwd, "argv": argv}, **seclusion.inside(directory, record)
            )
            program, argv = confining.begin(given["fleet"], plan, program, environ)
    except OSError as error:
        what = error.filename or directory
        _leave(marker, f"{blame(error)}its own {given['kind']} cannot be made: "
               f"{what}: {error.strerror}")  # fmt: skip
    except Refusal as reason:
        _leave(marker, str(reason))
    except Unstarted as reason:
        _leave(marker, f"{CONFINED if reason.why else ''}{reason}")
    os.unlink(marker)
    try:
        os.execve(program, argv, environ)
    except (OSError, ValueError) as error:
        try:
            blank_marker(marker)
        finally:
            _leave(marker, spawn_sentence(program, error))


def _leave(marker: str, sentence: str) -> None:
    """The directory is not there, or of no use: say why, and end."""
    data = " ".join(sentence.split()).encode("utf-8", "replace")[: len(_BLANK)]
    try:
        fd = os.open(marker, os.O_WRONLY | os.O_CLOEXEC)
        os.pwrite(fd, data, 0)
    except OSError:
        pass  # its being there says enough
    os._exit(1)


def _made(given: dict[str, Any]) -> Record:
    directory = given["directory"]
    os.makedirs(os.path.dirname(directory), 0o700, exist_ok=True)
    if given.get("again") and os.path.lexists(directory):
        return _again(given, directory)
    if os.path.lexists(directory):
        raise Refusal(f"{directory} is there already, from an earlier attempt of this name")
    if given["kind"] == "worktree":
        record = _worktree(given, directory)
    elif given["kind"] == "copy":
        from codewhale_fleet.worker import copying

        record = copying.copy(given, directory)
    else:
        from codewhale_fleet.worker import bundle

        record = {"attempt": given["attempt"], "kind": given["kind"], "top": "", "notes": []}
        write_record(directory, record)
        bundle.lay(given["fleet"], given["bundle"], directory, given["cwd"])
    if "sandbox" in given["plan"]:
        from codewhale_fleet.worker import seclusion

        record["confined"] = True
        seclusion.prepare(directory, record)
    write_record(directory, record)
    if given.get("continue"):
        _continue(given, directory, record)
    return record


def _again(given: dict[str, Any], directory: str) -> Record:
    """The directory as an earlier attempt of the same task left it, to go on in."""
    record = read_record(directory)
    was, task = str(record.get("attempt", "")), given["attempt"].rpartition("@")[0]
    is_there = os.path.isdir(directory) and not os.path.islink(directory)
    if was.rpartition("@")[0] != task or not record.get("tree") or not is_there:
        raise Refusal(f"{directory} is not as an earlier attempt of this task left it")
    for name in ("patch", "unsaved"):
        record.pop(name, None)
    if "sandbox" in given["plan"] and not record.get("confined"):
        raise Refusal(f"{directory} was not confined so far, and nothing in it is trusted")
    record.update(attempt=given["attempt"], made_by=maker_of(directory), notes=[])
    write_record(directory, record)
    os.environ["FLEET_CONTINUES"] = was
    return record


def _worktree(given: dict[str, Any], directory: str) -> Record:
    source = given["from"]
    common, prefix, top, base = _repository(source, given.get("base") or "HEAD")
    look = ["-C", source, "status", "--porcelain=v1", "-z", "-uno", "--ignore-submodules=all"]
    status = git.begin(look, {"GIT_OPTIONAL_LOCKS": "0"})
    record: Record = {"attempt": given["attempt"], "kind": "worktree", "base": base, "tree": base}
    record.update(common=common, top=prefix.rstrip("/"), notes=[])
    write_record(directory, record)
    _add(common, directory, base)
    with open(directory + "/.git", "rb") as file:
        record["meta"] = os.fsdecode(file.read()).strip().removeprefix("gitdir: ")
    write_record(directory, record)
    _check_out(directory)
    if prefix and not os.path.isdir(os.path.join(directory, prefix)):
        raise Refusal(f"{prefix.rstrip('/')} is not in the commit {base[:_DIGITS]}: commit it, or "
                      'isolate by "copy"')  # fmt: skip
    changed = status.answer().out.count(b"\0")
    if changed:
        files = "1 changed file" if changed == 1 else f"{changed:,} changed files"
        record["notes"].append(f"it began from the commit {base[:_DIGITS]}: {files} of {top} not "
                               "committed, and not in it")  # fmt: skip
    modules = _submodules(directory)
    if modules:
        record["modules"] = modules
        record["notes"].append(f"submodules are not checked out in it: {listed(modules)}")
    brought = _bring(given, directory, prefix)
    if brought:
        record["brought"] = brought
        record["tree"] = indexing.tree_with(directory, record, brought)
    indexing.copied(record["meta"] + "/index", directory + INDEX)
    return record


def _repository(source: str, wanted: str) -> tuple[str, str, str, str]:
    """(common git directory, prefix of `source`, top, commit) of the repository around `source`."""
    words = ["rev-parse", "--path-format=absolute", "--is-bare-repository", "--git-common-dir"]
    words += ["--show-prefix", "--show-toplevel", wanted + "^{commit}"]
    answer = git.run(["-C", source, *words])
    lines = answer.out.decode("utf-8", "surrogateescape").split("\n")
    if answer.status == 0:
        return lines[1], lines[2], lines[3], lines[4]
    other = '"copy" isolates any directory'
    if len(lines) < 2:
        if "not a git repository" in answer.words:
            raise Refusal(f"{source} is in no git repository: git init and commit, or {other}")
        raise git.failed(f"{source} cannot be read as a git repository", answer)
    if lines[0] == "true" or len(lines) < 5:
        kind = "bare" if lines[0] == "true" else "git's own directory"
        raise Refusal(f"{source} is {kind}, without files to work on: run in a checkout of it")
    if wanted == "HEAD":
        raise Refusal(f"the repository of {source} has no commit yet: commit something, or {other}")
    raise Refusal(f"the commit {wanted[:_DIGITS]}, from which the attempt before began, is gone")


def _add(common: str, directory: str, base: str) -> None:
    """Make the worktree's entry; one at a time in a repository, as far as we are concerned."""
    words = ["--git-dir", common, "worktree", "add", "-q", "--detach", "--no-checkout"]
    lock = os.open(common, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for turn in range(_TRIES):
            answer = git.run([*words, directory, base])
            if answer.status == 0:
                return
            told = answer.error.decode("utf-8", "replace")
            passing = ("could not create", "could not lock", "File exists", "Unable to create")
            if turn == _TRIES - 1 or not any(sign in told for sign in passing):
                raise git.failed("git cannot make a worktree", answer)
            time.sleep(_AGAIN_SECONDS * (turn + 1))
    finally:
        os.close(lock)


def _check_out(directory: str) -> None:
    """Its files. Git does not say that a disk is full: what is free tells."""
    answer = git.run(["-C", directory, "reset", "-q", "--hard"])
    if answer.status == 0:
        return
    room = os.statvfs(directory)
    free = room.f_bavail * room.f_frsize
    reason = git.failed("the worktree cannot be checked out", answer)
    if free < _LITTLE_ROOM and not str(reason).startswith(FOR_WANT_OF_MEANS):
        reason = Refusal(f"{FOR_WANT_OF_MEANS}{reason}; only {free:,} bytes are free on its disk")
    raise reason


def _submodules(directory: str) -> list[str]:
    if not os.path.isfile(directory + "/.gitmodules"):
        return []
    words = [
        "config",
        "--file",
        directory + "/.gitmodules",
        "--get-regexp",
        r"^submodule\..*\.path$",
    ]
    lines = git.run(words).out.decode("utf-8", "replace").splitlines()
    return [line.partition(" ")[2] for line in lines]


def _bring(given: dict[str, Any], directory: str, prefix: str) -> list[str]:
    """Files that the task names and git does not have, copied in; their paths from the top."""
    from codewhale_fleet.worker import collect, copying

    brought: list[str] = []
    for name in given["include"]:
        target = os.path.join(directory, prefix, name)
        if os.path.lexists(target):
            continue
        try:
            parent = collect.resolve(given["from"], os.path.dirname(name))
        except collect.Refusal:
            raise Refusal(f"its file {name} lies outside the workspace") from None
        source = os.path.join(parent, os.path.basename(name))
        if os.path.lexists(source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            copying.Copier(given["fleet"]).entry(source, target)
            brought.append(prefix + name)
    return brought


def _continue(given: dict[str, Any], directory: str, record: Record) -> None:
    """Put in what the attempt before had changed."""
    more = {"GIT_DIR": directory + HIDDEN, "GIT_WORK_TREE": directory}
    if record["kind"] == "worktree":
        more = {"GIT_DIR": record["meta"], "GIT_WORK_TREE": directory}
    words = ["-C", directory, "apply", "--binary", "--whitespace=nowarn"]
    with open(given["continue"], "rb") as file:
        patch = file.read()
    if record.get("confined"):
        from codewhale_fleet.worker import seclusion

        seclusion.confine_git(directory, record, [directory])
    answer = git.run(words, more, patch)
    if answer.status:
        raise git.failed(f"what {given['continues']} had changed does not fit any more", answer)
    os.environ["FLEET_CONTINUES"] = given["continues"]


def main() -> None:
    """Does what the arguments say; for `enter` it does not return."""
    import _signal  # type: ignore[import-not-found]

    for number in (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGINT):
        _signal.signal(number, _signal.SIG_DFL)
    verb, rest = sys.argv[1], sys.argv[2:]
    if verb == "enter":
        _enter(codec.decode(rest[0].encode("utf-8", "surrogateescape")), rest[1:])
    elif verb == "patch":
        from codewhale_fleet.worker import patching

        patching.patch(rest[0])
    elif verb == "drop":
        from codewhale_fleet.worker import removing

        try:
            removing.remove(rest[0])
        except Refusal as reason:
            sys.stderr.write(f"{reason}\n")
            raise SystemExit(1) from None
