"""Ready definitions of the usual agent CLIs, as data.

Promises that a preset in `TRIED` was driven end to end, as the real program, by `tests/agents`;
the others follow their programs' documentation, and are shown as untried wherever they are named.
"""

from typing import Any

from msgspec import convert

from .definition import Agent
from .usage import OPENCODE_LIMITS

_REGAIN = (
    r"specified API usage limits\. You will regain access on "
    r"(?P<until>\d{4}-\d\d-\d\d at \d\d:\d\d UTC)"
)
_CLOCK = r"\d{1,2}:\d{2} ?[APap]\.?[Mm]\.?"

CLAUDE: dict[str, Any] = {
    "description": "Claude Code",
    "command": ["claude", "-p", "--output-format", "stream-json", "--verbose"],
    "prompt": "stdin",
    "network": True,
    "usage": "claude-stream-json",
    "model_flag": ["--model", "{model}"],
    "tools_flag": [  # acceptEdits would let any shell command write that only moves files about
        "--permission-mode=default", "--tools={tool_names},Read,Glob,Grep",
        "--allowedTools={tools}",
    ],
    "open_flag": {
        "read-write": ["--permission-mode=acceptEdits", "--allowedTools=Bash"],
        "read-only": ["--permission-mode=default", "--allowedTools=Bash(fleet:*)"],
    },
    "program_tool": "Bash({program}:*)",
    "profiles": {
        "read-write": [],
        "read-only": ["--disallowedTools=Edit,Write,NotebookEdit"],
    },
    "reads": ["~/.claude", "~/.claude.json", "$CLAUDE_CONFIG_DIR"],
    "keeps": [
        "~/.claude/projects/", "~/.claude/.credentials.json", "$CLAUDE_CONFIG_DIR/projects",
        "$CLAUDE_CONFIG_DIR/.credentials.json",
    ],
    "resume_flag": ["--resume", "{session}"],
    "cost_flag": ["--max-budget-usd", "{cost}"],
    "quota": {
        "patterns": [
            r"hit your [\w -]*limit · resets (?P<until>[^()]+ \([\w/+-]+\))",
            _REGAIN,
        ],
    },
    "environment": {
        "allowlist": [
            "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL",
            "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
            "CLAUDE_CODE_MAX_RETRIES", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX",
            "CLAUDE_CONFIG_DIR", "DISABLE_AUTOUPDATER", "DISABLE_ERROR_REPORTING",
            "DISABLE_TELEMETRY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS",
        ],
    },
}  # fmt: skip

CODEX: dict[str, Any] = {
    "description": "Codex CLI",
    "command": [
        "codex", "exec", "{profile}", "--json", "--skip-git-repo-check", "{model}", "{session}",
        "-",
    ],
    "prompt": "stdin",
    "network": True,
    "usage": "codex-json",
    "model_flag": ["--model", "{model}"],
    "profiles": {
        "read-write": ["--sandbox", "workspace-write"],
        "read-only": ["--sandbox", "read-only"],
    },
    "confined": {
        "read-write": ["--sandbox", "danger-full-access"],
        "read-only": ["--sandbox", "danger-full-access"],
    },
    "reads": [
        "~/.codex/config.toml", "~/.codex/AGENTS.md", "~/.codex/rules", "~/.codex/prompts",
        "$CODEX_HOME/config.toml", "$CODEX_HOME/AGENTS.md", "$CODEX_HOME/rules",
        "$CODEX_HOME/prompts",
    ],
    "keeps": ["~/.codex/", "$CODEX_HOME"],
    "resume_flag": ["resume", "{session}"],
    "quota": {
        "patterns": [
            r"hit your usage limit.*try again at (?P<until>(?:[A-Z][a-z]{2} \d{1,2}"
            rf"(?:st|nd|rd|th), \d{{4}} )?{_CLOCK})",
            r"hit your usage limit",
        ],
    },
    "env": {"RUST_LOG": "codex_otel.trace_safe=info"},
    "environment": {
        "allowlist": [
            "CODEX_API_KEY", "CODEX_HOME", "OPENAI_API_KEY", "HTTPS_PROXY", "HTTP_PROXY",
            "NO_PROXY",
        ],
    },
}  # fmt: skip

GEMINI: dict[str, Any] = {
    "description": "Gemini CLI",
    "command": ["gemini", "--output-format", "stream-json", "--skip-trust"],
    "prompt": "stdin",
    "network": True,
    "usage": "gemini-stream-json",
    "model_flag": ["--model", "{model}"],
    "profiles": {
        "read-write": ["--approval-mode", "yolo"],
        "read-only": ["--approval-mode", "plan"],
    },
    "reads": ["~/.gemini/settings.json", "~/.gemini/GEMINI.md", "~/.gemini/commands"],
    "keeps": ["~/.gemini/"],
    "resume_flag": ["--resume", "{session}"],
    "quota": {"patterns": [r"exhausted your (?:daily )?quota on this model"]},
    "environment": {
        "allowlist": [
            "GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_PROJECT",
            "GOOGLE_GEMINI_BASE_URL", "GOOGLE_GENAI_USE_VERTEXAI", "HTTPS_PROXY", "HTTP_PROXY",
            "NO_PROXY",
        ],
    },
}  # fmt: skip

OPENCODE: dict[str, Any] = {
    "description": "opencode",
    "command": ["opencode", "run", "--format", "json"],
    "prompt": "stdin",
    "network": True,
    "usage": "opencode-json",
    "model_flag": ["--model", "{model}"],
    "profiles": {"read-write": ["--agent", "build"]},
    "reads": [
        "~/.config/opencode/opencode.json", "~/.config/opencode/opencode.jsonc",
        "~/.config/opencode/AGENTS.md", "~/.config/opencode/plugin",
        "~/.config/opencode/plugins", "$OPENCODE_CONFIG",
    ],
    "keeps": [
        "~/.config/opencode/", "~/.local/share/opencode/", "~/.local/state/opencode/",
        "~/.cache/opencode/", "$XDG_CONFIG_HOME/opencode", "$XDG_DATA_HOME/opencode",
    ],
    "resume_flag": ["--session", "{session}"],
    "quota": {
        "patterns": [
            _REGAIN,
            r"exceeded your current quota(?s:.*)retry in (?P<until>[\d.hms]+s)",
            *OPENCODE_LIMITS[:1],
            r"(?i)usage.limit",
        ],
    },
    "env": {"OPENCODE_PRINT_LOGS": "1", "OPENCODE_LOG_LEVEL": "ERROR"},
    "environment": {
        "allowlist": [
            "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENCODE_CONFIG", "OPENCODE_CONFIG_CONTENT",
            "OPENCODE_DISABLE_AUTOUPDATE", "OPENCODE_DISABLE_LSP_DOWNLOAD",
            "OPENCODE_DISABLE_MODELS_FETCH", "OPENCODE_PERMISSION", "XDG_CONFIG_HOME",
            "XDG_DATA_HOME", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
        ],
    },
}  # fmt: skip

AIDER: dict[str, Any] = {
    "description": "aider",
    "command": [
        "aider", "--yes-always", "--no-pretty", "--no-stream", "--no-check-update",
        "--no-auto-commits", "--no-gitignore", "--no-show-model-warnings",
        "--no-show-release-notes", "--no-analytics", "--analytics-log", "/dev/stderr", "{model}",
        "--message-file", "{prompt}",
    ],
    "prompt": "file",
    "usage": "aider-text",
    "quota": {"patterns": [r"RateLimitError"]},
    "network": True,
    "model_flag": ["--model", "{model}"],
    "profiles": {"read-write": [], "read-only": ["--dry-run"]},
    "reads": ["~/.aider.conf.yml", "~/.aider.model.settings.yml", "~/.env"],
    "keeps": ["~/.aider/"],
    "environment": {
        "allowlist": [
            "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENAI_API_BASE", "DEEPSEEK_API_KEY",
            "GEMINI_API_KEY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
        ],
    },
}  # fmt: skip

CODEWHALE: dict[str, Any] = {
    "description": "CodeWhale",
    "command": ["codewhale", "{model}", "exec", "--auto", "--output-format", "stream-json"],
    "prompt": "argument",
    "network": True,
    "usage": "codewhale-stream-json",
    "model_flag": ["--model", "{model}"],
    "tools_flag": ["--allowed-tools", "{tools}"],
    "profiles": {
        "read-write": [
            "--tool-authority-json",
            '{"schema_version":1,"owner":"fleet","authority":"scoped_write",'
            '"network_access":true,"writable_roots":["."]}',
        ],
        "read-only": [
            "--tool-authority-json",
            '{"schema_version":1,"owner":"fleet","authority":"read_only",'
            '"network_access":true,"shell":"read_only"}',
        ],
    },
    "reads": ["~/.codewhale/config.toml", "$CODEWHALE_HOME/config.toml"],
    "keeps": ["~/.codewhale/", "$CODEWHALE_HOME"],
    "env": {"CODEWHALE_TELEMETRY": "false", "DEEPSEEK_TELEMETRY": "false"},
    "environment": {
        "allowlist": [
            "CODEWHALE_HOME",
            "DEEPSEEK_API_KEY",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "NO_PROXY",
        ],
    },
}

PRESETS: dict[str, Agent] = {
    name: convert(declared, Agent)
    for name, declared in (
        ("claude", CLAUDE),
        ("codex", CODEX),
        ("gemini", GEMINI),
        ("opencode", OPENCODE),
        ("aider", AIDER),
        ("codewhale", CODEWHALE),
    )
}
"""By name, in the order in which they are shown."""

TRIED: frozenset[str] = frozenset(("claude", "codex", "gemini", "opencode"))
"""Presets that tests/agents drives end to end with the real program."""
