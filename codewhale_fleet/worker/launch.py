"""From a plan to a process: everything that is checked and made before a spawn, and the spawn.

Promises: what would make the program fail to start is found first and told in one sentence
(`Unstarted`), because the error of a spawn does not say which of its parts failed. The working
directory and the umask of this single-threaded process are those of the attempt afterwards.
It knows nothing of slots, journals or time.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker.processes import ATTEMPT_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from codewhale_fleet.worker.attempts import Run
    from codewhale_fleet.worker.nursery import Nursery

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_ALL_SIGNALS = [number for number in range(1, 32) if number not in (9, 19)]
"""Set to their defaults in the child: Python ignores SIGPIPE, a background shell SIGINT."""
_LOG_FLAGS = os.O_CREAT | os.O_APPEND | os.O_WRONLY
_DEV_NULL = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
_ENOEXEC = 8
_MEANS = (11, 12, 23, 24, 28)
"""EAGAIN, ENOMEM, ENFILE, EMFILE, ENOSPC: what a start fails with for want of this host's means."""
FOR_WANT_OF_MEANS = "spawn: "
"""How such a sentence begins: the task is not to blame."""

UNCONFINED = "sandbox"
"""Why it has not begun, where it may only run confined, and that could not be."""


class Unstarted(Exception):
    """The sentence why an attempt never became a process."""

    why: str | None = None
    """What the end of such an attempt says beside it."""


UNFOLLOWED = (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What a plan may raise that is not as it should be, or that leads through what tasks left."""


class Launcher:
    """Spawns attempts of one fleet. Remembers directories it made and who it may be killed for."""

    def __init__(self, fleet_dir: str) -> None:
        self._fleet_dir = fleet_dir
        self._log_directories: set[str] = set()
        self._umask = -1
        self._oom_fd = -1
        self._oom_self = b"0"
        self._oom_child = b"0"
        self._nursery: Nursery | None = None
        self._open_oom()

    def _open_oom(self) -> None:
        """Children are likelier victims of the memory killer than this process (1.4 µs a spawn)."""
        try:
            self._oom_fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            own = int(os.pread(self._oom_fd, 16, 0))
        except (OSError, ValueError):
            return
        self._oom_self = b"%d" % own
        self._oom_child = b"%d" % min(own + 200, 1000)

    def log_path(self, relative: str) -> str:
        """The absolute path of a log that a plan names."""
        return self._fleet_dir + "/" + relative

    def prepare(self, run: Run, attempt: str, plan: dict[str, Any]) -> tuple[str, dict[str, str]]:
        """Checks and makes all that the attempt needs; answers its program and environment."""
        cwd = plan["cwd"]
        if run.umask != self._umask:
            os.umask(run.umask)
            self._umask = run.umask
        for path in plan.get("writable") or ():
            make_writable(plan["root"], path)
        try:
            os.chdir(cwd)
        except OSError as error:
            raise Unstarted(
                f"{blame(error)}its working directory {cwd} cannot be entered: {error.strerror}"
            ) from None
        missing = [path for path in plan.get("required_files") or () if not os.path.exists(path)]
        if missing:
            raise Unstarted(f"required files are missing in {cwd}: {', '.join(missing)}")
        for file in plan.get("files") or ():
            _write_file(file["path"], file["text"], file.get("mode", 0o600))
        prompt = plan.get("prompt")
        if prompt:
            _write_file(self.log_path(prompt["path"]), prompt["text"], 0o600)
            plan["given"] = self._kept(prompt)
        environment = _environment(run, attempt, plan)
        if "secrets" in plan:
            from codewhale_fleet.worker import secrets

            secrets.deliver(run, plan, environment)
        if script := plan.pop("script", ""):
            plan["argv"] = self._script(script, plan["argv"])
        argv = plan["argv"]
        if not argv or not argv[0]:
            raise Unstarted("its command is empty")
        if run.secrets and plan["out"].startswith("logs/"):
            from codewhale_fleet.worker import sealing

            sealing.hide(plan)
        for name in (plan["out"], plan["err"]):
            self._make_log_directory(name)
        program = find_program(argv[0], cwd, environment.get("PATH", DEFAULT_PATH))
        if ("sandbox" in plan or "tools" in plan) and "isolate" not in plan:
            from codewhale_fleet.worker import confining

            program, plan["argv"] = confining.begin(self._fleet_dir, plan, program, environment)
        return program, environment

    def _script(self, digest: str, words: list[str]) -> list[str]:
        """The command of a script that was carried here."""
        from codewhale_fleet.worker import scripts

        try:
            return scripts.command(scripts.path_of(self._fleet_dir, digest), words)
        except OSError as error:
            raise Unstarted(f"{blame(error)}its script cannot be read: {error.strerror}") from None

    def _kept(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """The prompt as an artifact: its bytes are kept whatever the task does to the file."""
        from codewhale_fleet.worker import collect

        data = prompt["text"].encode("utf-8", "surrogateescape")
        try:
            kept = collect.keep(data, self.log_path("evidence"))
        except OSError as error:
            raise Unstarted(f"{blame(error)}its prompt cannot be kept: {error}") from None
        return {"kind": "prompt", "path": prompt["path"], "mime": "text/markdown", **kept}

    def clear_log(self, relative: str) -> None:
        """Nothing is there yet that a process would write after."""
        for path in (relative, relative + ".hole"):
            try:
                os.unlink(self.log_path(path))
            except FileNotFoundError:
                continue

    def _make_log_directory(self, relative: str) -> None:
        directory = relative.rpartition("/")[0]
        if directory in self._log_directories:
            return
        if ".." in relative.split("/") or relative.startswith("/"):
            raise Unstarted(f"its log {relative} lies outside the fleet's directory")
        try:
            os.makedirs(self.log_path(directory), 0o700, exist_ok=True)
        except OSError as error:
            raise Unstarted(f"{blame(error)}its log directory cannot be made: {error}") from None
        self._log_directories.add(directory)

    def spawn(
        self,
        program: str,
        plan: dict[str, Any],
        environment: dict[str, str],
        run: Run | None = None,
    ) -> int:
        """The pid of the new process; it leads its own session. Raises Unstarted.

        `run` has the values of secrets that come as files.
        """
        if run is None or "secrets_dir" not in plan:
            return self._begun(program, plan, environment)
        from codewhale_fleet.worker import secrets

        secrets.lay(run, plan)
        try:
            return self._begun(program, plan, environment)
        except Unstarted:
            secrets.remove(plan["secrets_dir"])
            raise

    def _begun(self, program: str, plan: dict[str, Any], environment: dict[str, str]) -> int:
        try:
            return self._spawn(program, plan, environment)
        except FileNotFoundError:  # perhaps somebody removed the log directory we remember
            self._log_directories.clear()
            for name in (plan["out"], plan["err"]):
                self._make_log_directory(name)
        except (OSError, ValueError, TypeError) as error:
            raise Unstarted(spawn_sentence(program, error)) from None
        try:
            return self._spawn(program, plan, environment)
        except (OSError, ValueError, TypeError) as error:
            raise Unstarted(spawn_sentence(program, error)) from None

    def _spawn(self, program: str, plan: dict[str, Any], environment: dict[str, str]) -> int:
        prompt = plan.get("prompt")
        given = _DEV_NULL
        if prompt and prompt.get("stdin"):
            path = self.log_path(prompt["path"])
            given = (os.POSIX_SPAWN_OPEN, 0, path, os.O_RDONLY, 0)
        actions = [
            given,
            (os.POSIX_SPAWN_OPEN, 1, self.log_path(plan["out"]), _LOG_FLAGS, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, self.log_path(plan["err"]), _LOG_FLAGS, 0o600),
        ]
        if "sandbox" in plan:
            from codewhale_fleet.worker import confining, sandbox, syscalls

            path = self.log_path(confining.status_of(plan))
            flags = _LOG_FLAGS | os.O_TRUNC  # a step's, which a killed runtime had begun
            actions.append((os.POSIX_SPAWN_OPEN, sandbox.STATUS_FD, path, flags, 0o600))
            actions += syscalls.actions(network=plan["sandbox"]["network"] == "host")
        raised = self._oom_self != self._oom_child
        if raised:
            os.pwrite(self._oom_fd, self._oom_child, 0)

        def spawned() -> int:
            return os.posix_spawn(
                program,
                plan["argv"],
                environment,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=_ALL_SIGNALS,
            )

        try:
            return self._limited(spawned) if "sandbox" in plan else spawned()
        finally:
            if raised:
                os.pwrite(self._oom_fd, self._oom_self, 0)

    def leave(self) -> None:
        """Nothing is started any more."""
        if self._nursery is not None:
            self._nursery.leave()

    def _limited(self, spawned: Callable[[], int]) -> int:
        if self._nursery is None:
            from codewhale_fleet.worker.nursery import Nursery

            place = os.stat(self._fleet_dir)
            self._nursery = Nursery(f"fleet-{place.st_dev:x}-{place.st_ino:x}-sandboxes")
        return self._nursery.spawn(spawned)


def spawn_sentence(program: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{program} cannot be run: the interpreter that its first line names is not there"
    if isinstance(error, OSError) and error.errno == _ENOEXEC:
        return f"{program} cannot be run: neither a program of this machine nor a #! script"
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"{blame(error)}{program} cannot be run: {reason}"


def blame(error: Exception) -> str:
    """The mark of a failure that lies with this host and not with the task."""
    wanting = isinstance(error, OSError) and error.errno in _MEANS
    return FOR_WANT_OF_MEANS if wanting else ""


def _environment(run: Run, attempt: str, plan: dict[str, Any]) -> dict[str, str]:
    environment = dict(run.base or ())
    allowed = run.allowed
    for name in plan.get("allow") or ():
        if name in allowed:
            environment[name] = allowed[name]
    literal = plan.get("env")
    if literal:
        environment.update(literal)
    environment[ATTEMPT_VARIABLE] = attempt
    return environment


def find_program(name: str, cwd: str, path: str) -> str:
    """Where `name` is, by the child's PATH; the working directory is already the child's."""
    if name.startswith("~/"):
        name = os.path.expanduser(name)
    if "/" in name:
        if not os.path.exists(name):
            raise Unstarted(f"its program {name} does not exist (seen from {cwd})")
        if os.path.isdir(name) or not os.access(name, os.X_OK):
            raise Unstarted(f"its program {name} is not executable")
        return name
    found = ""
    for directory in path.split(":"):
        candidate = f"{directory}/{name}" if directory else f"./{name}"
        if os.access(candidate, os.X_OK):
            if not os.path.isdir(candidate):
                return candidate
        elif not found and os.path.exists(candidate):
            found = candidate
    if found:
        raise Unstarted(f"its program {name} is not executable: {found}")
    count = path.count(":") + 1
    searched = "1 directory" if count == 1 else f"{count} directories"
    raise Unstarted(f"its program {name} is not found on PATH ({searched} searched)")


def make_writable(root: str, path: str) -> None:
    target = os.path.join(root, path)
    if os.path.isdir(target):
        return
    real = os.path.realpath(target)
    top = os.path.realpath(root)
    if real != top and not real.startswith(top + "/"):
        raise Unstarted(f"its writable path {path} leads outside the workspace")
    if os.path.exists(target):
        return
    try:
        os.makedirs(target, exist_ok=True)
    except OSError as error:
        words = f"its writable path {path} cannot be made: {error.strerror}"
        raise Unstarted(blame(error) + words) from None


def _write_file(path: str, text: str, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        fd = os.open(path, flags, mode)
        try:
            os.fchmod(fd, mode)
            data = text.encode("utf-8", "surrogateescape")
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
    except OSError as error:
        words = f"the file {path} cannot be written: {error.strerror}"
        raise Unstarted(blame(error) + words) from None
