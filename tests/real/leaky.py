"""A task that shows its secrets in all ways that it knows of: the opposite of what one should do.

    leaky.py WAY     `say` on both streams, `slowly` in pieces, `tell` by the commands for tasks,
                     `leave` in files, `claude` as an agent's stream, `judge` as a verdict, `crash`

Its secrets are the variables that `LEAKY` names, one that ends in `_FILE` is a file with one.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path


def secrets() -> list[str]:
    """Their values."""
    found = []
    for name in os.environ.get("LEAKY", "").split():
        value = os.environ.get(name)
        if value:
            found.append(Path(value).read_text() if name.endswith("_FILE") else value)
    if not found and Path("spilled").exists():  # by another task
        found.append(Path("spilled").read_text())
    return found


def forms(value: str) -> list[str]:
    """A value in many ways."""
    raw = value.encode()
    return [
        value,
        json.dumps({"value": value, "inner": json.dumps(value)}),
        json.dumps(value).replace("/", "\\/"),
        "".join(f"\\u{ord(one):04x}" for one in value),
        urllib.parse.quote(value, safe=""),
        urllib.parse.quote_plus(value),
        "".join(f"%{byte:02x}" for byte in raw),
        raw.hex(),
        raw.hex().upper(),
        *(base64.b64encode(b"x" * n + raw + b"y").decode() for n in range(3)),
        *(base64.urlsafe_b64encode(b"x" * n + raw).decode() for n in range(3)),
        base64.encodebytes(b"user:" * 9 + raw).decode(),
        repr(value),
    ]


def say() -> None:
    for value in secrets():
        for stream in (sys.stdout, sys.stderr):
            for form in forms(value):
                print("here:", form, "!", file=stream)


def slowly() -> None:
    for value in secrets():
        for byte in value.encode():
            os.write(1, bytes([byte]))
            time.sleep(0.002)
        os.write(1, b"\n")


def tell() -> None:
    def fleet(*words: str) -> None:
        command = [sys.executable, "-m", "codewhale_fleet", *words]
        subprocess.run(command, timeout=30)

    for number, value in enumerate(secrets()):
        Path("given").write_text(f"all of it: {value}\n")
        Path("said").write_text(value)
        # what stands in an argument is the task's own doing, and seen by whoever looks
        for words in (
            "fleet progress 10 \"$(cat said)\"", "fleet data put it \"$(cat said)\"",
            "fleet checkpoint \"$(cat said)\"", "fleet checkpoint given",
            f"fleet data put --file given it{number}", "fleet artifact add report given",
        ):  # fmt: skip
            os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            subprocess.run(["sh", "-c", words.replace("fleet", FLEET, 1)], timeout=30)


FLEET = f"{sys.executable} -m codewhale_fleet"


def leave() -> None:
    Path("out").mkdir(exist_ok=True)
    text = "\n".join(form for value in secrets() for form in forms(value))
    Path("out/report.md").write_text(f"# report\n\n{text}\n")
    Path("out/result.json").write_text(json.dumps({"ok": None, "values": secrets()}))
    task = os.environ["FLEET_TASK_ID"]
    Path("out", task).write_text(f"only {task} has written {secrets()[0]}\n")
    Path("spilled").write_text(secrets()[0])
    Path("out/clean.txt").write_text("nothing\n")
    for value in secrets():
        Path("out", urllib.parse.quote(value, safe="")[:200] + ".name").write_text("x")


def claude() -> None:
    one = " and ".join(secrets())

    def line(**fields: object) -> None:
        print(json.dumps({**fields, "session_id": f"session of {one}"}), flush=True)

    line(type="system", subtype="init", model="stand-in", cwd=one)
    usage = {"input_tokens": 5, "output_tokens": 6}
    content = [{"type": "text", "text": "x" * 180 + one}]
    message = {"id": f"msg {one}", "model": "stand-in", "usage": usage, "content": content}
    line(type="assistant", message=message)
    for form in (form for value in secrets() for form in forms(value)):
        call = {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": form}}
        line(type="assistant", message={**message, "id": "m2", "content": [call]})
    result = {"type": "result", "is_error": False, "subtype": "success", "total_cost_usd": 0.01}
    line(**result, num_turns=1, usage=usage, result=f"it is done with {one}")


def judge() -> None:
    say()
    told = {"verdict": "fail", "reason": f"saw {secrets()[0]}", "feedback": "\n".join(secrets()),
            "quotes": secrets()}  # fmt: skip
    print(json.dumps(told))
    sys.exit(1)


def crash() -> None:
    value = secrets()[0]
    os.write(1, f"half of it: {value[: len(value) * 2 // 3]}".encode())
    raise_it = f"{value} is wrong"
    sys.stderr.write(f"ValueError: {raise_it}\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGSEGV)


def wait() -> None:
    say()
    sys.stdout.flush()
    Path("is-up").touch()
    while not Path("go").exists():
        time.sleep(0.02)
    say()


if __name__ == "__main__":
    {"say": say, "slowly": slowly, "tell": tell, "leave": leave, "claude": claude, "judge": judge,
     "crash": crash, "wait": wait}[sys.argv[1]]()  # fmt: skip
