"""Where a person's secrets are kept: files that only they can read, or the keyring of their system.

The file store is a directory 0700 of the user's configuration with one file 0600 a secret, named
by its key. The keyring is asked through the package `keyring`, if it is installed; which names
`fleet secret set` put there stands in a list beside the store, since keyrings cannot be listed.
Promises: what others can read is refused, not used; a value never stands in a message; a write is
whole or not at all. Imports nothing of weight before a keyring is asked.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SERVICE = "codewhale-fleet"
"""What fleet is called in a keyring."""
VALUE_BYTES = 64 * 1024
"""One secret: a variable must be able to carry it."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NAMES = "keyring-names"
"""File beside the store with the keys that `fleet secret set` put into the keyring, one a line."""


class Unusable(Exception):
    """Why a secret is not to be had, and what to do. Never holds a value."""

    def __init__(self, key: str, sentence: str, hint: str = "") -> None:
        super().__init__(sentence)
        self.key = key
        self.hint = hint


def _home() -> str:
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    return f"{config}/codewhale-fleet"


def place() -> str:
    """The directory of the file store."""
    return f"{_home()}/secrets"


def checked(key: str, value: str, where: str) -> str:
    """The value, if it can be delivered."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise Unusable(key, f"{key} in {where} is not UTF-8", "keep it in base64") from None
    if size > VALUE_BYTES:
        message = f"{key} in {where} has {size:,} bytes; a secret may have {VALUE_BYTES:,}"
        raise Unusable(key, message, "keep it in a file of your own, and its key here")
    if "\0" in value:
        message = f"{key} in {where} has a NUL byte, which no variable and no tool takes"
        raise Unusable(key, message, "keep it in base64")
    if not value:
        raise Unusable(key, f"{key} in {where} is empty", f"fleet secret set {key}")
    return value


# The file store -------------------------------------------------------------------------------


def file_get(key: str) -> str | None:
    """The value that is kept in a file; None where there is none. Unusable: others can read it."""
    directory = _opened(key)
    if directory is None:
        return None
    try:
        fd = os.open(key, _READ, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(key, f"{place()}/{key} cannot be read: {error.strerror}") from None
    finally:
        os.close(directory)
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Unusable(key, f"{place()}/{key} is no file", f"fleet secret set {key}")
        _refuse_open(key, found, f"{place()}/{key}", "600")
        data = file.read(VALUE_BYTES + 1)
    try:
        return data.decode()
    except UnicodeDecodeError:
        message = f"{key} in the file store {place()} is not UTF-8"
        raise Unusable(key, message, "keep it in base64") from None


def _opened(key: str) -> int | None:
    """The directory of the store, which nobody else can enter; None where there is none."""
    try:
        directory = os.open(place(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(key, f"{place()} cannot be read: {error.strerror}") from None
    try:
        _refuse_open(key, os.fstat(directory), place(), "700")
    except Unusable:
        os.close(directory)
        raise
    return directory


def _refuse_open(key: str, found: os.stat_result, path: str, mode: str) -> None:
    if found.st_uid != os.getuid():
        raise Unusable(key, f"{path} belongs to somebody else", f"ls -ld {path}")
    if found.st_mode & 0o077:
        told = f"{path} can be read by others (mode {found.st_mode & 0o777:o}), and is not used"
        hint = f"Was the secret seen? Then change it. After that: chmod {mode} {path}"
        raise Unusable(key, told, hint)


def file_set(key: str, value: str) -> None:
    """Keep a value in a file, in the place of an older one."""
    os.makedirs(_home(), 0o700, exist_ok=True)  # noqa: PTH103
    with suppress(FileExistsError):
        os.mkdir(place(), 0o700)  # noqa: PTH102
        os.chmod(place(), 0o700)  # noqa: PTH101
    directory = _opened(key)
    assert directory is not None
    try:
        _replace(key, value.encode(), directory)
    finally:
        os.close(directory)


def file_remove(key: str) -> bool:
    """Keep it no more; False where there was none."""
    directory = _opened(key)
    if directory is None:
        return False
    try:
        os.unlink(key, dir_fd=directory)
    except FileNotFoundError:
        return False
    finally:
        os.close(directory)
    return True


def file_keys() -> list[str]:
    """What the store has, sorted."""
    try:
        names = os.listdir(place())  # noqa: PTH208
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Unusable("", f"{place()} cannot be read: {error.strerror}") from None
    return sorted(name for name in names if not name.startswith("."))


def _replace(name: str, data: bytes, directory: int) -> None:
    """A file 0600, whole or not at all."""
    temporary = f".{name}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        os.fchmod(fd, 0o600)
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        os.close(fd)


# The keyring ----------------------------------------------------------------------------------


def keyring_keys() -> list[str]:
    """What `fleet secret set` has put into the keyring, sorted; it is not asked."""
    try:
        with open(f"{_home()}/{_NAMES}", "rb") as file:  # noqa: PTH123
            return sorted(set(file.read().decode("utf-8", "replace").split()))
    except OSError:
        return []


def keyring_knows(key: str) -> bool:
    """Whether `fleet secret set` has put it there."""
    return key in keyring_keys()


def keyring_works() -> bool:
    """Whether there is a keyring that is better than a file, or one that somebody chose."""
    try:
        ring = _keyring("").get_keyring()
    except Unusable:
        return False
    return ring.priority >= 1 or (ring.priority > 0 and "PYTHON_KEYRING_BACKEND" in os.environ)


def keyring_get(key: str) -> str | None:
    """The value in the keyring; None where there is none. Unusable: it is locked, or none works."""
    value: str | None = _asked(key, "get_password", SERVICE, key)
    return value


def keyring_set(key: str, value: str) -> None:
    """Keep a value in the keyring, in the place of an older one."""
    _asked(key, "set_password", SERVICE, key, value)
    _name({*keyring_keys(), key})


def keyring_remove(key: str) -> bool:
    """Keep it no more; False where there was none."""
    there = keyring_get(key) is not None
    if there:
        _asked(key, "delete_password", SERVICE, key)
    _name({*keyring_keys()} - {key})
    return there


def _name(keys: set[str]) -> None:
    os.makedirs(_home(), 0o700, exist_ok=True)  # noqa: PTH103
    directory = os.open(_home(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _replace(_NAMES, "".join(f"{one}\n" for one in sorted(keys)).encode(), directory)
    finally:
        os.close(directory)


def _keyring(key: str) -> Any:
    try:
        import keyring
    except ImportError:
        from ..errors import to_install

        raise Unusable(
            key,
            "the keyring cannot be asked: the package keyring is not installed",
            f"{to_install('keyring')}. Or keep it in a file: "
            f"fleet secret set {key or 'KEY'} --source file",
        ) from None
    return keyring


def _asked(key: str, what: str, *words: str) -> Any:
    """What the keyring answers. Its own words are told but for those that it was given."""
    keyring = _keyring(key)
    from keyring import errors

    other = f"or keep it in a file: fleet secret set {key} --source file"
    try:
        return getattr(keyring, what)(*words)
    except errors.KeyringLocked:
        said = f"the keyring is locked, so {key} cannot be had from it"
        raise Unusable(key, said, f"unlock it and try again, {other}") from None
    except errors.NoKeyringError:
        said = f"there is no keyring on this machine that could have {key}"
        raise Unusable(key, said, other.removeprefix("or ")) from None
    except Exception as error:  # each back end has errors of its own
        said = f"the keyring does not answer for {key} ({type(error).__name__})"
        raise Unusable(key, said, f"see what is wrong with it: keyring diagnose; {other}") from None
