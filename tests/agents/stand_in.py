#!/usr/bin/env python3
"""A scripted stand-in for an agent CLI: it obeys its prompt's script instead of thinking.

It prints lines as `claude -p --output-format stream-json --verbose` does, nothing of which is real.
The prompt comes on standard input, as the last argument, or in a file (`--prompt-file PATH`); lines
of it that begin with `@` are its script, in order:

    @say TEXT            an assistant's text
    @tool NAME ARG       a tool call that is only told of
    @write PATH TEXT     a tool call that writes a file, below the working directory
    @append PATH TEXT    the same, after what is there
    @run ARGV…           a tool call that runs a program and waits for its end
    @tokens IN OUT       usage of one message
    @cost USD            what the end says that all of it has cost
    @limit SECONDS TEXT  a usage limit that ends in so many seconds, and the end
    @raw LINE            this very line
    @wait PATH           until the file is there (its directory is watched)
    @hang                until it is killed
    @fail TEXT           an end in which it says that it failed, with exit code 1
    @lie TEXT            the same, with exit code 0
    @exit N              an end without a result line

`--saw PATH` has it write down, as JSON, its arguments, environment names and prompt; `--cwd PATH`
where it works.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any, NoReturn

SESSION = str(uuid.uuid4())
MODEL = "stand-in-1"


class Talk:
    """One conversation: what was said, and what it came to."""

    def __init__(self, session: str, model: str) -> None:
        self.session = session
        self.model = model
        self.messages = 0
        self.used = {"input_tokens": 0, "output_tokens": 0}
        self.cost = 0.0
        self.last = ""

    def line(self, **fields: Any) -> None:
        print(json.dumps({**fields, "session_id": self.session}), flush=True)

    def begin(self) -> None:
        self.line(type="system", subtype="init", model=self.model, cwd=str(Path.cwd()))

    def message(self, content: dict[str, Any], tokens: tuple[int, int] = (0, 0)) -> None:
        """One message; it is printed twice, as the real one prints a line a content block."""
        self.messages += 1
        self.used["input_tokens"] += tokens[0]
        self.used["output_tokens"] += tokens[1]
        usage = {"input_tokens": tokens[0], "output_tokens": tokens[1]}
        told = {"id": f"msg_{self.messages}", "model": self.model, "usage": usage}
        self.line(type="assistant", message={**told, "content": []})
        self.line(type="assistant", message={**told, "content": [content]})

    def tool(self, name: str, **given: str) -> None:
        number = f"toolu_{self.messages + 1}"
        self.message({"type": "tool_use", "id": number, "name": name, "input": given})

    def end(self, error: str = "", code: int = 0) -> NoReturn:
        per_model = {
            "inputTokens": self.used["input_tokens"],
            "outputTokens": self.used["output_tokens"],
            "cacheReadInputTokens": 0,
            "cacheCreationInputTokens": 0,
            "costUSD": self.cost,
        }
        self.line(
            type="result",
            subtype="success",
            is_error=bool(error),
            result=error or self.last,
            total_cost_usd=self.cost,
            model_usage_since_last_result={self.model: per_model},
        )
        sys.exit(code)


def until_there(path: Path) -> None:
    """Wait for a file without looking again and again: its directory tells."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(0)
    libc.inotify_add_watch(descriptor, os.fsencode(path.parent), 0x100 | 0x80)
    while not path.exists():
        select.select([descriptor], [], [])
        os.read(descriptor, 4096)


def obey(talk: Talk, word: str, rest: str) -> None:
    first, _, more = rest.partition(" ")
    match word:
        case "say":
            talk.last = rest
            talk.message({"type": "text", "text": rest})
        case "tool":
            talk.tool(first, command=more)
        case "write" | "append":
            talk.tool("Write", file_path=first)
            Path(first).parent.mkdir(parents=True, exist_ok=True)
            with Path(first).open("a" if word == "append" else "w") as file:
                file.write(more.replace("\\n", "\n"))
        case "run":
            talk.tool("Bash", command=rest)
            subprocess.run(rest.split(" "), stdin=subprocess.DEVNULL, stdout=sys.stderr)
        case "tokens":
            talk.message({"type": "text", "text": "…"}, (int(first), int(more)))
        case "cost":
            talk.cost = float(first)
        case "limit":
            told = {"status": "rejected", "resetsAt": int(time.time()) + int(first)}
            talk.line(type="rate_limit_event", rate_limit_info=told)
            talk.end(more, 1)
        case "raw":
            print(rest, flush=True)
        case "wait":
            until_there(Path(first).absolute())
        case "hang":
            signal.pause()
        case "fail":
            talk.end(rest, 1)
        case "lie":
            talk.end(rest, 0)
        case "exit":
            sys.exit(int(first))
        case _:
            sys.exit(f"stand_in: no such word: @{word}")


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1] if name in arguments else ""


def main(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print("0.1 (stand-in)")
        return
    if path := option(arguments, "--prompt-file"):
        prompt = Path(path).read_text()
    elif "--" in arguments:
        prompt = arguments[-1]
        if prompt.startswith("Read the file "):
            prompt = Path(prompt.split(" ")[3]).read_text()
    else:
        prompt = sys.stdin.read()
    if saw := option(arguments, "--saw"):
        told = {"argv": arguments, "names": sorted(os.environ), "prompt": prompt}
        Path(saw).write_text(json.dumps(told))
    if cwd := option(arguments, "--cwd"):
        Path(cwd + ".new").write_text(str(Path.cwd()))
        Path(cwd + ".new").rename(cwd)
    talk = Talk(option(arguments, "--resume") or SESSION, option(arguments, "--model") or MODEL)
    talk.begin()
    for line in prompt.splitlines():
        if line.startswith("@"):
            word, _, rest = line[1:].partition(" ")
            obey(talk, word, rest)
    talk.end()


if __name__ == "__main__":
    main(sys.argv[1:])
