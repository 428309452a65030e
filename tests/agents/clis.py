"""The agents' command-line tools as a preset would start them, and how each finds the scripted API.

`argv` is what fleet's own code would run, with the prompt on stdin; the rest is what a person's
account would supply: a base URL, a dummy key, a configuration file in the home directory.
"""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "scripts" / "agents-install"
INSTALLED = ROOT / "build" / "agents" / "node_modules" / ".bin"
NODE = ROOT / "build" / "agents" / "bin"
"""A Node.js, where the machine's own is too old or not there."""


@dataclass(frozen=True)
class Cli:
    name: str
    model: str
    """One that makes the tool behave as it does with the models that people use."""
    start: tuple[str, ...]
    """Arguments of a run that prints JSON lines; {model} stands in them."""
    again: tuple[str, ...]
    """Arguments that continue a session; {session} stands in them too."""
    settle: Callable[[Path, str], Mapping[str, str]]
    """Prepare a home directory for a base URL; returns the variables that it takes."""

    def argv(self, session: str | None = None) -> list[str]:
        words = self.start if session is None else self.again
        filled = [word.format(model=self.model, session=session) for word in words]
        return [str(INSTALLED / self.name), *filled]


@cache
def missing() -> str:
    """Why the tools cannot be used, or nothing."""
    done = subprocess.run([INSTALL, "check"], capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def _claude(home: Path, url: str) -> dict[str, str]:
    return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "dummy"}


def subscribed(url: str) -> dict[str, str]:
    """claude's variables for a subscription's token in place of an API key."""
    return {"ANTHROPIC_BASE_URL": url, "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-dummy"}


def _codex(home: Path, url: str) -> dict[str, str]:
    """Without plugins: their repository is looked up for seconds where there is no network."""
    (home / ".codex").mkdir(exist_ok=True)
    (home / ".codex" / "config.toml").write_text(f"""\
model_provider = "scripted"
check_for_update_on_startup = false

[model_providers.scripted]
name = "scripted"
base_url = "{url}/v1"
env_key = "SCRIPTED_KEY"
wire_api = "responses"
request_max_retries = 1
stream_max_retries = 1

[analytics]
enabled = false

[features]
plugins = false
""")
    return {"SCRIPTED_KEY": "dummy"}


def _gemini(home: Path, url: str) -> dict[str, str]:
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"enableAutoUpdate": False},
    }
    (home / ".gemini").mkdir(exist_ok=True)
    (home / ".gemini" / "settings.json").write_text(json.dumps(settings))
    return {"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": "dummy"}


def _opencode(home: Path, url: str) -> dict[str, str]:
    model = {
        "name": "plain",
        "limit": {"context": 100_000_000, "output": 64_000},
        "cost": {"input": 3, "output": 15, "cache_read": 0.3},
    }
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "scripted",
        "options": {"baseURL": f"{url}/v1", "apiKey": "dummy"},
        "models": {"plain": model},
    }
    config = {"autoupdate": False, "share": "disabled", "provider": {"scripted": provider}}
    return {"OPENCODE_CONFIG_CONTENT": json.dumps(config)}


_CLAUDE = (
    *("-p", "--output-format", "stream-json", "--verbose", "--model", "{model}"),
    *("--permission-mode", "acceptEdits", "--allowedTools", "Bash,Edit,Write"),
)
_GEMINI = (
    *("--output-format", "stream-json", "--skip-trust", "--approval-mode", "yolo"),
    *("--model", "{model}"),
)
_OPENCODE = ("run", "--format", "json", "--model", "{model}")
_CODEX = ("--json", "--skip-git-repo-check", "--model", "{model}")
_WRITABLE = ("--sandbox", "workspace-write")

CLIS = {
    cli.name: cli
    for cli in (
        Cli(
            name="claude",
            model="claude-sonnet-4-5",
            start=_CLAUDE,
            again=(*_CLAUDE, "--resume", "{session}"),
            settle=_claude,
        ),
        Cli(
            name="codex",
            model="gpt-5.5",
            start=("exec", *_WRITABLE, *_CODEX, "-"),
            again=("exec", *_WRITABLE, "resume", *_CODEX, "{session}", "-"),
            settle=_codex,
        ),
        Cli(
            name="gemini",
            model="gemini-2.5-pro",
            start=_GEMINI,
            again=(*_GEMINI, "--resume", "{session}"),
            settle=_gemini,
        ),
        Cli(
            name="opencode",
            model="scripted/plain",
            start=_OPENCODE,
            again=(*_OPENCODE, "--session", "{session}"),
            settle=_opencode,
        ),
    )
}
