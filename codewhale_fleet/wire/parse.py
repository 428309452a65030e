"""Reads the text of a spec: TOML or JSON to plain values, or a sentence with the line.

Promises to accept a document, a list of tasks, or one bare task, and to leave the tasks of a JSON
text undecoded. Knows nothing of what a field means.
"""

from typing import Any, NoReturn

import msgspec
from msgspec import Raw, Struct

from .problems import STDIN, Format, Found, Path, Problem, SpecProblems
from .repeats import head_repeats, repeats


class Parsed(Struct):
    """A spec as plain values."""

    head: dict[str, Any]
    """The document without its tasks."""
    items: list[Any]
    """The tasks: `Raw` from JSON, plain values from TOML."""
    base: Path = ("tasks",)
    """Path of the list of tasks in the file."""
    is_bare: bool = False
    """The file is one task; `base` is its path."""
    found: list[Found] = []
    may_repeat: bool = False
    """The outermost object may hold a key twice, of which only the last was read."""

    def path_of(self, index: int) -> Path:
        """Where task `index` stands in the file."""
        return self.base if self.is_bare else (*self.base, index)


def format_for(file: str, data: bytes = b"") -> Format:
    """TOML or JSON, by the file's extension; for `-` by what `data` begins with."""
    if file != STDIN:
        return "toml" if file.lower().endswith(".toml") else "json"
    start = data[:4096].lstrip()
    if start[:1] == b"[":
        return "json" if start[1:].lstrip()[:1] in (b"{", b"]") else "toml"
    return "json" if start[:1] == b"{" else "toml"


def refuse(file: str, line: int, message: str, hint: str = "") -> NoReturn:
    """Raise for a problem of the whole file; line 0: none in particular."""
    raise SpecProblems([Problem(file=file, line=line, field="", message=message, hint=hint)])


def parse(data: bytes, file: str, format: Format) -> Parsed:
    """The parts of a spec; SpecProblems where the text is not valid."""
    top = _toml(data, file) if format == "toml" else _json(data, file)
    if isinstance(top, list):
        parsed = Parsed({}, top, base=())
    elif "tasks" not in top and "id" in top:
        item = Raw(data) if format == "json" else top
        return Parsed({}, [item], base=(), is_bare=True)
    else:
        may_repeat = format == "json" and _repeats(data, top)
        tasks = top.pop("tasks", None)
        head = {key: plain(value, data, file) for key, value in top.items()}
        parsed = Parsed(head, [], may_repeat=may_repeat)
        if isinstance(tasks, Raw):
            is_list = bytes(memoryview(tasks)[:1]) == b"["
            tasks = msgspec.json.decode(tasks, type=list[Raw]) if is_list else ""
        if isinstance(tasks, list):
            parsed.items = tasks
        elif tasks is not None:
            parsed.found.append(Found(("tasks",), "must be a list of tasks"))
            return parsed
    if not parsed.items:
        hint = "a task needs an id and a command"
        parsed.found.append(Found(parsed.base, "is needed: at least one task", hint))
    return parsed


def _repeats(data: bytes, top: dict[str, Any]) -> bool:
    """Whether a key of a document may stand twice, but for those inside its tasks."""
    try:
        values = [bytes(memoryview(value)) for key, value in top.items() if key != "tasks"]
        return head_repeats(data, top) or any(map(repeats, values))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False  # it is refused for that


def plain(value: Any, data: bytes, file: str) -> Any:
    """A value without anything undecoded in it; `data` is the whole text that it comes from."""
    if not isinstance(value, Raw):
        return value
    try:
        return msgspec.json.decode(value)
    except RecursionError:
        refuse(file, 0, "is nested too deeply")
    except (msgspec.DecodeError, UnicodeDecodeError):
        _json_damage(data, file)


def values_of(data: bytes, file: str, format: Format) -> Any:
    """All of a file as plain values, whatever it is about."""
    if format == "toml":
        return _toml(data, file, "text stands in quotes, tables in [brackets]")
    return plain(Raw(data), data, file)


def _toml(data: bytes, file: str, hint: str = "") -> dict[str, Any]:
    import re
    import tomllib

    text = text_of(data, file)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
        line = 0
        if place:
            message = message[: place.start()]
            line = int(place[1] or text.rstrip().count("\n") + 1)
        message = f"is not valid TOML: {message[:1].lower()}{message[1:]}"
    except RecursionError:
        line, message = 0, "is nested too deeply"
    except ValueError as error:
        line, message = 0, f"is not valid TOML: {error}"
    refuse(file, line, message, (hint or _TOML_HINT) if "TOML" in message else "")


_TOML_HINT = 'a task begins with [[tasks]]; text stands in quotes: id = "a"'
_JSON_HINT = "JSON has no comments and no comma before a closing bracket; TOML has both"


def _json(data: bytes, file: str) -> dict[str, Any] | list[Any]:
    wanted: Any = dict[str, Raw] | list[Raw]
    try:
        top: dict[str, Any] | list[Any] = msgspec.json.decode(data, type=wanted)
        return top
    except msgspec.ValidationError:
        refuse(file, 1, "must be a document, a list of tasks, or one task")
    except RecursionError:
        refuse(file, 0, "is nested too deeply")
    except (msgspec.DecodeError, UnicodeDecodeError):
        _json_damage(data, file)


def _json_damage(data: bytes, file: str) -> NoReturn:
    """Say where JSON that could not be decoded is damaged."""
    import re

    text_of(data, file)
    message = "it cannot be decoded"
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        message = str(error).removeprefix("JSON is malformed: ")
    place = re.search(r" \(byte (\d+)\)$", message)
    line = data.rstrip().count(b"\n") + 1
    if place:
        message = message[: place.start()]
        line = data.count(b"\n", 0, int(place[1])) + 1
    elif "truncated" in message:
        message = "it ends too early"
    hint = _JSON_HINT
    if file != STDIN and not file.lower().endswith(".json"):
        hint = "a file is read as JSON unless its name ends in .toml"
    refuse(file, line, f"is not valid JSON: {message}", hint)


def text_of(data: bytes, file: str) -> str:
    """The text; SpecProblems with byte and line where it is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8: byte {error.start:,} is 0x{data[error.start]:02x}"
    refuse(file, line, message, "save it as UTF-8")
