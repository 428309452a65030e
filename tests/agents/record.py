"""Records the streams in samples/ anew, from the real command-line tools.

    python -m tests.agents.record [CLI…]

A sample is what a tool printed on stdout in one scenario, without this machine's paths and ports
and without the longest lists. `NAME-resumed` is the second run of a session.
"""

import json
import re
import sys
import tempfile
import time
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from tests.agents.api import Api
from tests.agents.clis import CLIS, Cli, missing, subscribed
from tests.agents.namespace import Namespace

SAMPLES = Path(__file__).with_name("samples")
RESETS_AT = 4_102_444_800
"""The first second of 2100: a limit that a test never sees passed."""
PLAYED = ["success", "edits", "limit", "overload", "broken", "broken-for-good", "huge", "hang"]
LEFT_OUT = {
    *("tools", "slash_commands", "terminal_slash_commands", "skills", "agents", "plugins"),
    *("capabilities", "memory_paths", "messaging_socket_path", "subagent_stats"),
    *("responseHeaders", "responseBody", "requestBodyValues"),
}


def scrub(line: str, away: dict[str, str]) -> str:
    """The line without what belongs to one machine or one day."""
    for path, name in away.items():
        line = line.replace(path, name)
    line = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", line)
    try:
        value = json.loads(line)
    except ValueError:
        return line
    return json.dumps(_shorter(value), ensure_ascii=False, separators=(",", ":"))


def _shorter(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shorter(one) for key, one in value.items() if key not in LEFT_OUT}
    return [_shorter(one) for one in value] if isinstance(value, list) else value


def record(
    cli: Cli, scenario: str, name: str, *, subscription: bool = False, twice: bool = False
) -> None:
    soon = cli.name == "opencode"  # it would sleep until the limit's end
    with tempfile.TemporaryDirectory() as directory:
        home, work = Path(directory, "home"), Path(directory, "work")
        work.mkdir()
        resets_at = int(time.time()) + 2 if soon else RESETS_AT
        with Namespace(home) as inside, Api(inside.listen(), resets_at=resets_at) as api:
            env = {"CLAUDE_CODE_MAX_RETRIES": "1", **cli.environment(home, api.url(scenario))}
            if subscription:
                env = subscribed(api.url(scenario))
            session = ""
            if twice:
                first = inside.run(cli.argv(), cwd=work, env=env, input="Write the notes.")
                session = session_in(first.stdout)
            wait = 15 if scenario == "hang" else 60
            argv = cli.argv(session)
            try:
                done = inside.run(argv, cwd=work, env=env, input="Write the notes.", timeout=wait)
                out, code = done.stdout, str(done.returncode)
            except TimeoutExpired as error:
                out, code = str(error.stdout), f"none in {wait} s"
    away = {str(work): "WORKSPACE", str(work)[1:]: "WORKSPACE", str(home): "HOME"}
    text = "".join(scrub(line, away) + "\n" for line in out.splitlines())
    (SAMPLES / f"{cli.name}-{name}.jsonl").write_text(text)
    print(f"{cli.name}-{name}: exit {code}, {len(text)} bytes", flush=True)


def session_in(stream: str) -> str:
    """The session's id, as each tool calls it."""
    for line in stream.splitlines():
        said = json.loads(line)
        for key in ("session_id", "thread_id", "sessionID"):
            if key in said:
                return str(said[key])
    raise LookupError(f"no session in {stream!r}")


def main() -> int:
    if missing():
        print(missing(), file=sys.stderr)
        return 2
    SAMPLES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CLIS:
        for scenario in PLAYED:
            record(CLIS[name], scenario, scenario)
        record(CLIS[name], "success", "resumed", twice=True)
        if name == "claude":
            record(CLIS[name], "limit", "limit-subscription", subscription=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
