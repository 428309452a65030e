"""The command line, continued: agents, verdicts, patches, alerts. Declared as in app.py."""

from typing import Annotated

from .app import Arg, Opt, command
from .reach import FLEET, ONE, many


@command("fleet cost @last", reach=many("fleet cost"))
def cost(
    run: Annotated[str | None, Arg("Run, or task; all runs when absent.", "RUN")] = None,
) -> None:
    """Sum up what agents used, and what it cost."""


@command("fleet verify @last/review --pass", reach=ONE)
def verify(
    id: Annotated[str, Arg("A task, or an attempt, that waits for a verdict.", "ID")],
    passed: Annotated[bool, Opt("--pass", "It is as it should be.")] = False,
    failed: Annotated[bool, Opt("--fail", "It is not.")] = False,
    note: Annotated[str | None, Opt("--note", "Why.", metavar="TEXT")] = None,
    evidence: Annotated[
        str | None, Opt("--evidence", "A file that the verdict rests on.", metavar="FILE")
    ] = None,
) -> None:
    """Decide what waits for a person's verdict."""


@command("fleet apply @last/fix --check", reach=ONE)
def apply(
    id: Annotated[str, Arg("A task or attempt with a directory of its own.", "ID")],
    check: Annotated[bool, Opt("--check", "Only say whether it fits.")] = False,
    three_way: Annotated[bool, Opt("--3way", "Merge it with what changed meanwhile.")] = False,
    unpassed: Annotated[bool, Opt("--unpassed", "Though the attempt has not passed.")] = False,
) -> None:
    """Put what an attempt has changed into the workspace."""


@command(
    "fleet alert-dry-run --event stale --run-id demo --adapter slack",
    reach=ONE,
    called="alert-dry-run",
)
def alert_dry_run(
    event: Annotated[str, Opt("--event", "The class, such as needs-human.", metavar="CLASS")],
    run_id: Annotated[str, Opt("--run-id", "The run.", metavar="RUN")],
    adapter: Annotated[
        str,
        Opt("--adapter", "slack, webhook, pager-duty, apprise, or one of fleet.toml.", metavar="A"),
    ],
    worker_id: Annotated[str, Opt("--worker-id", "The worker.", metavar="WORKER")] = "",
    task_id: Annotated[str, Opt("--task-id", "The task.", metavar="TASK")] = "",
    reason: Annotated[str, Opt("--reason", "Why.", metavar="TEXT")] = "",
    status: Annotated[str, Opt("--status", "Absent: what the class says.", metavar="STATUS")] = "",
    slack_webhook_env: Annotated[
        str,
        Opt(
            "--slack-webhook-env",
            "Variable with Slack's URL (CODEWHALE_FLEET_SLACK_WEBHOOK).",
            metavar="NAME",
        ),
    ] = "CODEWHALE_FLEET_SLACK_WEBHOOK",
    webhook_url_env: Annotated[
        str, Opt("--webhook-url-env", "Variable with the webhook's URL.", metavar="NAME")
    ] = "CODEWHALE_FLEET_WEBHOOK_URL",
    webhook_secret_env: Annotated[
        str | None, Opt("--webhook-secret-env", "Variable with its signing key.", metavar="NAME")
    ] = None,
    pagerduty_routing_key_env: Annotated[
        str, Opt("--pagerduty-routing-key-env", "Variable with PagerDuty's key.", metavar="NAME")
    ] = "CODEWHALE_FLEET_PAGERDUTY_ROUTING_KEY",
    pagerduty_severity: Annotated[
        str,
        Opt("--pagerduty-severity", "critical, error, warning or info.", metavar="SEVERITY"),
    ] = "error",
    apprise_url_env: Annotated[
        str, Opt("--apprise-url-env", "Variable with apprise's URL.", metavar="NAME")
    ] = "CODEWHALE_FLEET_APPRISE_URL",
) -> None:
    """Print an alert as it would go out; send nothing."""


@command("fleet alerts @last", reach=FLEET)
def alerts(
    run: Annotated[str | None, Arg("Only this run.", "RUN")] = None,
    test: Annotated[
        str | None, Opt("--test", "Send a test message for real.", metavar="ADAPTER")
    ] = None,
    alerts: Annotated[
        str | None, Opt("--alerts", "Where it is, instead of fleet.toml.", metavar="FILE")
    ] = None,
) -> None:
    """Show what people are and were told, and why not."""


@command("fleet describe --json", reach=FLEET)
def describe() -> None:
    """Say what this fleet can do, and which calls fan out."""


@command("fleet skill --format agents", reach=ONE)
def skill(
    path: Annotated[
        str | None, Arg("The file; absent: where agents look, such as AGENTS.md.", "PATH")
    ] = None,
    format: Annotated[
        str | None, Opt("--format", "skill (SKILL.md) or agents (AGENTS.md).", metavar="FORMAT")
    ] = None,
    write: Annotated[bool, Opt("--write", "Put it into the file; text of others stays.")] = False,
) -> None:
    """Print how a fleet is run, for agents; or write it."""


@command("fleet manager", reach=FLEET, hidden=True)
def manager(
    ready: Annotated[int | None, Opt("--ready", "Descriptor to answer on.", metavar="FD")] = None,
    settle: Annotated[bool, Opt("--settle", "Only end what was asked to end.")] = False,
) -> None:
    """Manage every open run of this fleet; leave when none is open."""
