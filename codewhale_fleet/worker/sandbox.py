"""A sandbox as words for bubblewrap: what a confined program sees, reads and writes.

    bwrap OWN-NAMESPACES --ro-bind / / … one mount for each path that differs from that … PROGRAM

Inside, the root is read-only; /tmp, /run and, where it says so, the home are empty and forgotten at
the end; the fleet's directory is the attempt's own, with nothing of the fleet in it but the door
for tasks. Promises: a path is mounted only where what lies above it does not already show it as it
should be, because every mount costs 0.3 ms; what is optional and missing changes nothing; nothing
here runs a program but `lacking`, which tries one. It knows no attempts and no time.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import syscalls
from codewhale_fleet.worker.launch import DEFAULT_PATH, UNCONFINED, Unstarted
from codewhale_fleet.worker.mounts import Mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

STATUS_FD = 3
"""Where bubblewrap tells which process is the first inside, and how the program ended."""
PROGRAM = "bwrap"
SECRETS = "/fleet-secrets-"
"""How the last part of such a directory's path begins."""
INSTALL = "install it: apt-get install bubblewrap"
_NAMESPACES = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--new-session",
               "--cap-drop", "ALL")  # fmt: skip
_ROOT = ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
_OF_ROOT = ("--ro-bind", "/proc/sys", "/proc/sys")
"""What belongs to uid 0 can be written by it, without a capability: the kernel's own switches."""
_WITH_SIZES = (0, 7, 0)
_WITHOUT_USER_NAMESPACES = (0, 8, 0)
_TRUSTED = (".git", "fleet.toml", ".fleet")
"""Of a workspace: others trust these, and act by them."""
_STORES = (
    ("XDG_CONFIG_HOME", ".config", ("codewhale-fleet/secrets",)),
    ("XDG_DATA_HOME", ".local/share", ("keyrings", "python_keyring", "kwalletd")),
)
"""Variable, what it is when it is not set, and the directories below it."""
_SWITCHES = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "1"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("/proc/sys/user/max_user_namespaces", "0", "10000"),
)
"""What forbids user namespaces: file, forbidding value, allowing value."""
_NAMES = {"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/current-system"}
"""Below /run, and no socket that obeys anybody: names of hosts, programs."""

_known: list[str] = []
"""What `lacking` found, once it has looked."""
_version: list[tuple[int, ...]] = []
_home: list[str] = []
_places: dict[tuple[str, ...], list[tuple[str, str]]] = {}
"""What was looked up last, by PATH and what is hidden."""


class Unconfined(Unstarted):
    """The sentence why an attempt that may only run confined has not begun."""

    why = UNCONFINED


def command(around: dict[str, Any], cwd: str, environ: dict[str, str]) -> list[str]:
    """The words before a program's own; `around` is what `confining.around` answers.

    Raises Unstarted where it cannot be as it should.
    """
    wanted, root = around["sandbox"], real_path(around["root"])
    directory = around.get("directory")
    if directory and root != real_path(directory) and not root.startswith(f"{directory}/"):
        raise Unconfined("a link stands in the place of its workspace, and leads out of it")
    program = find(environ)
    version = version_of(program)
    mounts = Mounts()
    at_home = homes(environ)
    empty = ["/tmp", "/run", *(at_home if wanted.get("home", "hidden") != "read" else ())]
    for path in empty:
        mounts.hide(path)
    for path, source in _of_the_fleet(environ, empty):
        mounts.read(path, source)
    for path in real(_NAMES if wanted["network"] != "none" else {"/run/current-system"}, environ):
        mounts.read(path)
    keep = wanted.get("keep", ())
    for path in (*real(wanted.get("read", ()), environ, keep), *_secrets(environ)):
        mounts.read(path)
    _show_the_workspace(mounts, root, wanted, isolated=bool(directory))
    for path in kept(keep, environ):
        mounts.write(path)
    for path in _stores(environ, at_home):
        if os.path.isdir(path):
            mounts.conceal(real_path(path))
    fleet = around["fleet"]
    mounts.write(fleet, around["own"])
    for source, path in around.get("shown", ()):
        mounts.read(path, source)
    for source, path in around.get("written", ()):
        if path == directory and wanted["workspace"] != "write":
            mounts.read(path, source)
        else:
            mounts.write(path, source)
    alone = ["--unshare-net"] if wanted["network"] != "host" else []
    if wanted["level"] == "sandbox" and version >= _WITHOUT_USER_NAMESPACES:
        alone.append("--disable-userns")
    made = [
        program,
        *_NAMESPACES,
        *alone,
        *syscalls.words(),
        "--json-status-fd",
        str(STATUS_FD),
        *_root(),
    ]
    return [*made, *mounts.words(version >= _WITH_SIZES), "--chdir", real_path(cwd), "--"]


def shut(environ: dict[str, str], mounts: Mounts) -> list[str]:
    """The words for a program of the fleet's own: no network, and what `mounts` say."""
    program = find(environ)
    sized = version_of(program) >= _WITH_SIZES
    alone = ["--unshare-net", *syscalls.words()]
    return [program, *_NAMESPACES, *alone, *_root(), *mounts.words(sized)]


def _root() -> tuple[str, ...]:
    return _ROOT if os.geteuid() else (*_ROOT, *_OF_ROOT)


def _show_the_workspace(
    mounts: Mounts, root: str, wanted: dict[str, Any], *, isolated: bool
) -> None:
    if wanted["workspace"] == "write":
        mounts.write(root)
    else:
        mounts.read(root)
    for path in wanted.get("write", ()):
        target = real_path(os.path.join(root, path))
        if target != root and not target.startswith(root.rstrip("/") + "/"):
            raise Unconfined(f"its writable path {path} leads outside the workspace")
        if not os.path.exists(target):
            _make(target, path)
        leads = os.path.relpath(target, root).split("/")[0]
        if not isolated and leads in _TRUSTED and os.path.normpath(path).split("/")[0] != leads:
            raise Unconfined(f"its writable path {path} leads into {leads}")
        mounts.write(target)
    if isolated:
        return
    named = {os.path.normpath(path).split("/")[0] for path in wanted.get("write", ())}
    for name in _TRUSTED:
        path = os.path.join(root, name)
        if name not in named and os.path.lexists(path) and not os.path.islink(path):
            mounts.protect(path)


def _make(target: str, path: str) -> None:
    try:
        os.makedirs(target)
    except OSError as error:
        raise Unconfined(f"its writable path {path} cannot be made: {error.strerror}") from None


def _of_the_fleet(environ: dict[str, str], hidden: list[str]) -> list[tuple[str, str]]:
    """`fleet`, its packages and its Python, where they lie in what is hidden: tasks need them."""
    path = environ.get("PATH", DEFAULT_PATH)
    known = path, *hidden
    if known not in _places:
        _places.clear()
        _places[known] = _found(path, hidden)
    return _places[known]


def _found(path: str, hidden: list[str]) -> list[tuple[str, str]]:
    import sys

    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    called = on_path("fleet", path)
    python = os.path.realpath(sys.executable)
    places = [package, sys.prefix, sys.base_prefix, os.path.dirname(python), called]
    if called:
        places.append(os.path.dirname(os.path.dirname(os.path.realpath(called))))
    found = []
    for place in places:
        real_one = os.path.realpath(place) if place else ""
        if any(real_one.startswith(one + "/") for one in hidden):
            found.append((place if place == called else real_one, real_one))
    return found


def homes(environ: dict[str, str]) -> list[str]:
    """The directories that count as the user's home."""
    found = [environ.get("HOME", ""), _home_of_user()]
    real = [real_path(path) for path in found if path.startswith("/")]
    return [path for path in dict.fromkeys(real) if path != "/" and os.path.isdir(path)]


def _stores(environ: dict[str, str], at_home: list[str]) -> list[str]:
    """Where values of secrets lie in files, the fleet's and those of keyrings: no task reads there,
    however much of a home it sees."""
    found = []
    for name, usual, stores in _STORES:
        places = [f"{home}/{usual}" for home in at_home]
        places += [one.get(name, "") for one in (environ, os.environ)]
        found += [f"{one}/{store}" for one in places if one.startswith("/") for store in stores]
    return list(dict.fromkeys(found))


def _home_of_user() -> str:
    if not _home:
        try:
            import pwd

            _home.append(pwd.getpwuid(os.getuid()).pw_dir)
        except (ImportError, KeyError):
            _home.append("")
    return _home[0]


def real(paths: Iterable[str], environ: dict[str, str], written: Iterable[str] = ()) -> list[str]:
    """Those that are there, by their real names: `~/…` is below HOME, `$NAME` is a variable.

    `written`: what programs inside write, too. A link that leads out of that is theirs, and no
    name of ours any more.
    """
    spelled = [path for one in paths if (path := _spelled(one, environ))]
    owned = [path.rstrip("/") + "/" for one in written if (path := _spelled(one, environ))]
    found = set()
    for path in spelled:
        above = [one for one in owned if path.startswith(one) and path != one]
        there = real_path(path)
        if os.path.exists(there) and all(there.startswith(real_path(one) + "/") for one in above):
            found.add(there)
    return sorted(found)


def kept(paths: Iterable[str], environ: dict[str, str]) -> list[str]:
    """The same, with directories (`…/`) made where they are missing: what is kept needs a place."""
    paths = list(paths)
    for path in paths:
        if path.endswith("/") and (there := _spelled(path, environ)) and not os.path.exists(there):
            try:
                os.makedirs(there, 0o700)
            except OSError:  # then there is none to be kept
                continue
    return real(paths, environ, paths)


def _spelled(path: str, environ: dict[str, str]) -> str:
    if path.startswith("$"):
        name, slash, rest = path[1:].partition("/")
        path = environ.get(name, "") and environ[name] + slash + rest
    elif path.startswith("~/"):
        path = environ.get("HOME", "") + path[1:]
    return path if path.startswith("/") else ""


def _secrets(environ: dict[str, str]) -> set[str]:
    """The directories of files with secrets that variables name; they may yet have to be made."""
    named = (value.rpartition("/")[0] for value in environ.values() if SECRETS in value)
    return {one for one in named if one.startswith("/") and SECRETS in one and ".." not in one}


def real_path(path: str) -> str:
    """`os.path.realpath`; of what is there the kernel says it, however deep it lies."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return _followed(path)
    try:
        found = os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    gone = not found.startswith("/") or found.endswith(" (deleted)")
    return _followed(path) if gone else found


def _followed(path: str) -> str:
    try:
        return os.path.realpath(path)
    except RecursionError:
        raise Unconfined(f"{path} leads through too many links") from None


def on_path(name: str, path: str) -> str:
    """Where a program is; empty where it is not."""
    for directory in path.split(":"):
        candidate = f"{directory}/{name}"
        if directory.startswith("/") and os.access(candidate, os.X_OK):
            return candidate
    return ""


# ---- whether it can be had


def find(environ: dict[str, str]) -> str:
    """Where bubblewrap is; Unstarted where it is not."""
    found = on_path(PROGRAM, f"{DEFAULT_PATH}:{environ.get('PATH', '')}")
    if not found:
        raise Unconfined(f"it may only run confined, and this host has no bubblewrap: {INSTALL}")
    return found


def version_of(program: str) -> tuple[int, ...]:
    """Its version, asked once in a process."""
    if not _version:
        words = _tried([program, "--version"])[1].split()
        numbers = words[-1].split(".") if words else []
        _version.append(tuple(int(one) for one in numbers if one.isdigit()))
    return _version[0]


def lacking() -> str:
    """Why nothing can be confined here, with what to do; empty where it can. Tried, once."""
    if not _known:
        _known.append(_lacking())
    return _known[0]


def _lacking() -> str:
    try:
        program = find(dict(os.environ))
    except Unconfined:
        return f"bubblewrap is not installed; {INSTALL}"
    words = ["--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    true = next((one for one in ("/bin/true", "/usr/bin/true") if os.path.exists(one)), program)
    asked = [true] if true != program else [true, "--version"]
    status, said = _tried([program, *_NAMESPACES, *words, "--", *asked])
    if not status:
        return ""
    lines = said.strip().split("\n")
    reason = (lines[-1] if lines else "").removeprefix("bwrap: ") or f"it ended with {status}"
    return f"the kernel forbids what bubblewrap needs ({reason}); {_way_out()}"


def _way_out() -> str:
    for path, bad, good in _SWITCHES:
        try:
            with open(path, encoding="ascii") as file:
                now = file.read().strip()
        except OSError:
            continue
        if now == bad:
            name = path.removeprefix("/proc/sys/").replace("/", ".")
            return f"allow user namespaces, as root: sysctl -w {name}={good}"
    return "in a container, it must be allowed user namespaces and mounts of /proc"


def _tried(argv: list[str]) -> tuple[int, str]:
    """Exit status and words of a program that ends soon."""
    said = os.memfd_create("said", os.MFD_CLOEXEC)
    try:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, said, 1),
            (os.POSIX_SPAWN_DUP2, said, 2),
        ]
        try:
            pid = os.posix_spawn(argv[0], argv, dict(os.environ), file_actions=actions)
        except OSError as error:
            return 126, str(error.strerror)
        _, status = os.waitpid(pid, 0)
        text = os.pread(said, 4096, 0).decode("utf-8", "replace")
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status), text
    finally:
        os.close(said)
