"""The agents' command-line tools as their presets start them, and how each finds the scripted API.

What is run is what `agents/presets.py` says, with the prompt on stdin; what stands here is what a
person's account would supply: a base URL, a dummy key, a configuration file in the home directory.
"""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from codewhale_fleet.agents.command import Choice, command_line
from codewhale_fleet.agents.presets import PRESETS

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
    settle: Callable[[Path, str], Mapping[str, str]]
    """Prepare a home directory for a base URL; returns the variables that it takes."""

    def argv(self, session: str = "") -> list[str]:
        """What the preset runs, for a prompt on stdin."""
        choice = Choice(model=self.model, session=session)
        program, *words = command_line(PRESETS[self.name], choice, "", "")
        return [str(INSTALLED / program), *words]

    def environment(self, home: Path, url: str) -> dict[str, str]:
        """What the preset sets, and what it takes for a base URL."""
        return {**PRESETS[self.name].env, **self.settle(home, url)}


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
    """Without plugins: their repository is looked up for seconds where there is no network.

    Below TMPDIR codex makes no helpers, which its sandbox needs where an older bubblewrap is there.
    """
    (home / ".codex").mkdir(exist_ok=True)
    (home / "tmp").mkdir(exist_ok=True)
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
    return {"SCRIPTED_KEY": "dummy", "TMPDIR": str(home / "tmp")}


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


CLIS = {
    cli.name: cli
    for cli in (
        Cli("claude", "claude-sonnet-4-5", _claude),
        Cli("codex", "gpt-5.5", _codex),
        Cli("gemini", "gemini-2.5-pro", _gemini),
        Cli("opencode", "scripted/plain", _opencode),
    )
}
