"""Where each field of a spec and of fleet.toml is held, and which test proves it.

Promises one entry for each field that is not refused, and none for another: tests/
test_task_spec_page.py compares them with the types, and looks into the modules and the tests.
"""

from typing import NamedTuple

from held_workers import ENTRIES


class Held(NamedTuple):
    """Who keeps what a field promises."""

    module: str
    """Below codewhale_fleet/."""
    file: str
    """Of the test, below tests/."""
    test: str
    """Its name, without `test_`."""
    written: str = ""
    """How the module spells the field; empty: by its name."""
    used: str = ""
    """How the test spells it."""


def _a(module: str, proof: str, written: str = "", used: str = "") -> Held:
    file, _, test = proof.partition("::")
    return Held(module, file, test, written, used)


_FIELDS = "cli/test_fields.py"

_DOCUMENT = {
    "Spec.$schema": _a("core/spec.py", f"{_FIELDS}::the_name_of_its_schema_changes_nothing"),
    "Spec.name": _a("wire/specfile.py", "cli/test_run.py::a_spec_comes_from_stdin_too"),
    "Spec.labels": _a("cli/run.py", "cli/test_run.py::labels_and_a_name_stand_in_the_ledger"),
    "Spec.max_workers": _a("cli/run.py", f"{_FIELDS}::no_more_run_at_once_than_the_spec_says"),
    "Spec.max_failures": _a(
        "core/placement.py", f"{_FIELDS}::a_run_stops_after_as_many_failures_as_its_spec_allows"
    ),
    "Spec.deadline_seconds": _a(
        "core/placement.py", f"{_FIELDS}::a_run_ends_at_its_deadline_and_a_resume_gives_it_anew"
    ),
    "Spec.budget": _a(
        "core/usage.py",
        "cli/test_cost.py::a_run_ends_when_its_tasks_together_have_used_its_budget",
    ),
    "Spec.security_policy": _a(
        "wire/specfile.py",
        "wire/test_trust.py::a_run_has_the_policy_of_its_spec_or_of_fleet_toml_or_none",
    ),
    "Spec.tasks": _a("wire/specfile.py", "wire/test_bad_specs.py::a_spec_without_tasks_is_refused"),
}

_TASK = {
    "Task.id": _a("wire/specfile.py", "wire/test_bad_specs.py::a_duplicate_id_names_both_lines"),
    "Task.name": _a(
        "views/inspect.py",
        "views/test_inspect.py::a_task_shows_state_goal_place_and_what_it_left",
    ),
    "Task.description": _a(
        "views/inspect.py",
        "views/test_inspect.py::what_a_task_is_for_is_its_objective_or_else_its_description",
    ),
    "Task.objective": _a(
        "views/inspect.py",
        "views/test_inspect.py::what_a_task_is_for_is_its_objective_or_else_its_description",
    ),
    "Task.instructions": _a(
        "agents/prompt.py",
        "engine/test_launch.py::instructions_stand_in_the_prompt_word_for_word",
    ),
    "Task.command": _a(
        "engine/launch.py", f"{_FIELDS}::text_is_for_the_shell_and_a_list_is_for_the_program"
    ),
    "Task.agent": _a(
        "engine/launch.py", "cli/test_cost.py::a_cap_ends_an_agent_and_says_what_was_used"
    ),
    "Task.worker": _a(
        "engine/launch.py",
        "engine/test_launch.py::what_is_chosen_stands_where_the_command_marks_it",
    ),
    "Task.workspace": _a(
        "engine/launch.py", f"{_FIELDS}::a_task_begins_in_its_root_where_its_required_files_are"
    ),
    "Task.input_files": _a(
        "agents/prompt.py", "engine/test_launch.py::a_prompt_holds_all_that_the_task_says"
    ),
    "Task.context": _a(
        "agents/prompt.py", "engine/test_launch.py::a_prompt_holds_all_that_the_task_says"
    ),
    "Task.budget": _a("core/backoff.py", "cli/test_cost.py::a_budget_sums_over_attempts"),
    "Task.timeout_seconds": _a("engine/launch.py", f"{_FIELDS}::time_that_is_up_ends_an_attempt"),
    "Task.retry_policy": _a(
        "core/backoff.py",
        "core/test_core.py::a_failure_is_retried_after_its_backoff_and_not_before",
    ),
    "Task.expected_artifacts": _a(
        "engine/launch.py",
        f"{_FIELDS}::a_promised_artifact_must_be_there_and_is_found_by_its_glob",
    ),
    "Task.artifacts": _a(
        "engine/launch.py",
        f"{_FIELDS}::a_promised_artifact_must_be_there_and_is_found_by_its_glob",
    ),
    "Task.scorer": _a(
        "scoring/__init__.py", "cli/test_run.py::what_waits_for_a_person_ends_with_3"
    ),
    "Task.verify": _a(
        "scoring/__init__.py",
        "cli/test_verify.py::a_run_that_waits_exits_with_3_and_a_verdict_ends_that",
    ),
    "Task.alert_policy": _a(
        "core/alerts.py", "core/test_alerts.py::a_task_may_narrow_the_classes_and_add_a_channel"
    ),
    "Task.tags": _a(
        "wire/validate.py", "wire/test_bad_specs.py::tags_are_neither_blank_nor_double"
    ),
    "Task.metadata": _a(
        "core/spec.py", "core/test_core.py::coordination_contracts_exclude_each_other_by_name"
    ),
    "Task.priority": _a(
        "core/tasks.py",
        "core/test_core.py::lower_priority_numbers_run_first_wherever_they_are_written",
    ),
    "Task.requires": _a(
        "wire/unenforced.py",
        "wire/test_unenforced.py::a_field_that_asks_for_nothing_is_no_refusal",
    ),
    "Task.stall_seconds": _a(
        "engine/launch.py",
        "engine/test_liveness.py::a_hung_attempt_is_shown_and_one_with_a_policy_is_healed",
    ),
}

_NOT_HELD = "wire/test_agents.py::what_an_agent_cannot_hold_is_refused_and_can_be_waived"

_WORKER = {
    "TaskWorker.role": _a(
        "wire/roles.py", "wire/test_trust.py::a_role_fills_in_what_a_task_does_not_say"
    ),
    "TaskWorker.agent_profile": _a(
        "wire/roles.py",
        "wire/test_trust.py::a_saved_profile_is_a_role_that_the_role_itself_goes_before",
        "",
        "profile",
    ),
    "TaskWorker.model": _a(
        "engine/launch.py",
        "cli/test_agents.py::the_prompt_is_an_artifact_and_inspect_shows_it_and_the_agent",
    ),
    "TaskWorker.loadout": _a("wire/agents.py", _NOT_HELD),
    "TaskWorker.model_class": _a("wire/agents.py", _NOT_HELD),
    "TaskWorker.tool_profile": _a(
        "core/posture.py", "cli/test_trust.py::a_command_that_only_reads_changes_nothing", "profile"
    ),
    "TaskWorker.tools": _a(
        "core/posture.py", "cli/test_trust.py::a_command_has_only_the_tools_that_it_names"
    ),
    "TaskWorker.capabilities": _a(
        "wire/agents.py",
        "wire/test_agents.py::a_machine_can_do_what_is_asked_of_it_unless_it_says_what_it_can",
    ),
}

_ROOT = f"{_FIELDS}::a_task_begins_in_its_root_where_its_required_files_are"
_NAMED = "cli/test_run.py::a_variable_reaches_the_task_that_names_it_and_no_other"

_WORKSPACE = {
    "Workspace.root": _a("engine/launch.py", _ROOT),
    "Workspace.required_files": _a("worker/launch.py", _ROOT),
    "Workspace.writable_paths": _a(
        "core/posture.py", "cli/test_trust.py::nothing_is_written_outside_the_writable_paths"
    ),
    "Workspace.environment": _a("engine/launch.py", _NAMED),
    "Workspace.isolation": _a(
        "engine/launch.py",
        "cli/test_apply.py::all_that_an_attempt_changed_comes_into_the_checkout_once",
    ),
    "Workspace.include": _a(
        "engine/bundling.py",
        "cli/test_include_runs.py::a_task_runs_where_nothing_is_but_what_it_includes",
    ),
    "Environment.required": _a(
        "cli/missing.py",
        "cli/test_run.py::every_missing_variable_is_named_before_anything_is_recorded",
    ),
    "Environment.allowlist": _a("engine/launch.py", _NAMED),
}

_BUDGET = {
    "Budget.max_tokens": _a(
        "worker/caps.py", "cli/test_cost.py::a_cap_ends_an_agent_and_says_what_was_used"
    ),
    "Budget.max_tool_calls": _a("worker/caps.py", "cli/test_cost.py::a_budget_sums_over_attempts"),
    "Budget.max_seconds": _a("engine/launch.py", f"{_FIELDS}::time_that_is_up_ends_an_attempt"),
    "Budget.max_cost_usd": _a(
        "worker/caps.py", f"{_FIELDS}::an_agent_that_costs_more_than_its_task_may_is_ended"
    ),
}

_AGAIN = "core/test_core.py::a_failure_is_retried_after_its_backoff_and_not_before"
_LONGER = "core/test_core.py::backoff_stops_growing_at_its_maximum_and_jitter_lengthens_it"

_RETRY = {
    "RetryPolicy.max_attempts": _a("core/backoff.py", _AGAIN),
    "RetryPolicy.initial_backoff_seconds": _a("core/backoff.py", _AGAIN),
    "RetryPolicy.max_backoff_seconds": _a("core/backoff.py", _LONGER),
    "RetryPolicy.backoff_multiplier": _a("core/backoff.py", _AGAIN),
    "RetryPolicy.jitter": _a("core/backoff.py", _LONGER),
    "RetryPolicy.retry_on": _a(
        "core/backoff.py", "core/test_core.py::retry_on_chooses_the_sources"
    ),
    "RetryPolicy.continue": _a(
        "engine/launch.py", "cli/test_apply.py::a_retry_that_continues_is_told_of_it", "continue_"
    ),
    "RetryPolicy.resume_session": _a(
        "engine/launch.py",
        "cli/test_agents.py::a_restart_goes_on_with_the_conversation_where_it_was",
    ),
}


def _chosen(struct: str, tag: str) -> Held:
    """How `kind` is held: the scorers are told apart by their types."""
    return _a("scoring/__init__.py", f"{_FIELDS}::each_kind_of_scorer_judges", struct, tag)


_QUOTED = "scoring/test_regex_match.py::a_pattern_found_anywhere_passes_and_the_receipt_quotes_it"
_WALKED = "scoring/test_json_path.py::both_short_forms_walk_object_keys"
_ITS_FILE = "it_asks_for_its_file_up_to_a_million_bytes"
_OWN_TIME = f"{_FIELDS}::a_scorer_of_its_own_has_its_arguments_and_its_time"
_ASKED = "cli/test_verify.py::an_agent_that_judges_is_shown_the_attempt_and_what_it_is_is_kept"

_SCORERS = {
    "ExitCode.kind": _chosen("ExitCode", "exit_code"),
    "FileExists.kind": _chosen("FileExists", "file_exists"),
    "FileExists.path": _a(
        "scoring/file_exists.py",
        "scoring/test_file_exists.py::a_missing_file_is_the_tasks_fault",
    ),
    "RegexMatch.kind": _chosen("RegexMatch", "regex_match"),
    "RegexMatch.path": _a("scoring/regex_match.py", f"scoring/test_regex_match.py::{_ITS_FILE}"),
    "RegexMatch.pattern": _a("scoring/regex_match.py", _QUOTED),
    "JsonPath.kind": _chosen("JsonPath", "json_path"),
    "JsonPath.path": _a("scoring/json_path.py", f"scoring/test_json_path.py::{_ITS_FILE}"),
    "JsonPath.expression": _a("scoring/json_path.py", _WALKED),
    "CommandScorer.kind": _chosen("CommandScorer", "command"),
    "CommandScorer.command": _a(
        "engine/verification.py",
        "cli/test_verify.py::feedback_reaches_the_next_attempt_of_a_command",
    ),
    "CommandScorer.args": _a("engine/verification.py", _OWN_TIME),
    "CommandScorer.timeout_seconds": _a("engine/verification.py", _OWN_TIME),
    "VerifierPrompt.kind": _chosen("VerifierPrompt", "code_whale_verifier_prompt"),
    "VerifierPrompt.prompt": _a("engine/verification.py", _ASKED),
    "VerifierPrompt.agent": _a(
        "wire/verification.py",
        "wire/test_verification.py::a_verifier_is_the_one_named_or_the_tasks_own_or_the_default",
    ),
    "VerifierPrompt.timeout_seconds": _a("engine/verification.py", _OWN_TIME),
    "Manual.kind": _chosen("Manual", "manual"),
    "Verify.steps": _a(
        "scoring/__init__.py", "scoring/test_verdict.py::the_first_that_does_not_pass_decides"
    ),
    "Verify.on_fail": _a(
        "core/backoff.py",
        "core/test_on_fail.py::feedback_goes_to_the_next_attempt_while_there_is_one",
    ),
}

_DAILY = "engine/test_housekeeping.py::retention_is_seen_to_once_a_day_where_it_is_written"

_GETS = "cli/test_secrets.py::a_task_gets_its_own_secrets_and_no_others"
_ALLOWS = "wire/test_secrets.py::with_a_policy_a_secret_must_be_in_its_list"

_SECRETS = {
    "Task.secrets": _a("engine/launch.py", _GETS),
    "SecretRef.key": _a("worker/secrets.py", _GETS),
    "SecretRef.source": _a(
        "engine/secrets.py", "engine/test_secrets.py::a_source_that_is_named_is_the_only_one_asked"
    ),
    "SecretRef.as": _a("worker/secrets.py", _GETS),
    "SecretRef.deliver": _a(
        "worker/secrets.py",
        "cli/test_secrets.py::a_secret_may_come_as_a_file_that_is_gone_with_its_attempt",
        "file",
    ),
    "SecurityPolicy.allowed_secrets": _a("wire/secrets.py", _ALLOWS, "", "policy"),
}

_LEVELS = "core/test_posture.py::a_policy_means_sandbox_unless_it_or_a_role_says_more"
_GRANTS = "core/test_posture.py::grants_add_to_the_sandbox_and_only_there"

_TRUST = {
    "SecurityPolicy.default_trust_level": _a("core/posture.py", _LEVELS),
    "SecurityPolicy.max_trust_level": _a("core/posture.py", _LEVELS),
    "SecurityPolicy.capability_grants": _a("core/posture.py", _GRANTS, "", "a_policy"),
    "SecurityPolicy.allow_parallel_reads": _a(
        "engine/launch.py", "engine/test_launch.py::a_policy_may_let_agents_read_in_parallel"
    ),
    "CapabilityGrant.capability": _a("core/posture.py", _GRANTS),
    "CapabilityGrant.scope": _a("core/posture.py", _GRANTS),
    "CapabilityGrant.reason": _a(
        "views/trust.py", "cli/test_trust.py::each_task_says_what_it_may_do_and_what_holds_it"
    ),
}

_OWN = "engine/test_alert_values.py::a_tasks_own_channel_is_an_adapter_of_its_kind"
_NO_URL = "wire/test_bad_specs.py::an_alert_channel_holds_a_reference_not_a_url"
_WHERE = "wire/test_bad_specs.py::an_alert_channel_says_where_to_and_how_bad"
_NARROWS = "core/test_alerts.py::a_task_may_narrow_the_classes_and_add_a_channel"

_ALERTS = {
    "AlertPolicy.events": _a("core/alerts.py", _NARROWS),
    "AlertPolicy.channels": _a("core/alerts.py", _NARROWS),
    "AlertPolicy.after_attempts": _a(
        "core/alerts.py", "core/test_alerts.py::nothing_is_told_before_so_many_attempts"
    ),
    "AlertPolicy.after_minutes_stale": _a(
        "core/alerts.py", "core/test_alerts.py::silence_is_told_after_so_many_minutes_of_it"
    ),
    "SlackChannel.kind": _a("engine/alerting.py", _OWN, "Slack"),
    "SlackChannel.url": _a("wire/validate.py", _NO_URL),
    "SlackChannel.url_ref": _a("engine/alerting.py", _OWN),
    "SlackChannel.secret_ref": _a("wire/validate.py", _WHERE),
    "WebhookChannel.kind": _a("engine/alerting.py", _OWN, "WebhookChannel"),
    "WebhookChannel.url": _a("wire/validate.py", _NO_URL),
    "WebhookChannel.url_ref": _a("engine/alerting.py", _OWN),
    "WebhookChannel.secret_ref": _a("engine/alerting.py", _OWN),
    "PagerDutyChannel.kind": _a("engine/alerting.py", _OWN, "PagerDutyChannel"),
    "PagerDutyChannel.severity": _a("engine/alerting.py", _OWN),
    "PagerDutyChannel.routing_key": _a("wire/validate.py", _NO_URL),
    "PagerDutyChannel.url_ref": _a("engine/alerting.py", _OWN),
}

_TAKEN = "wire/test_trust.py::a_role_fills_in_what_a_task_does_not_say"

_ROLES = {
    "Role.description": _a(
        "cli/plan.py", "cli/test_trust.py::each_task_says_what_it_may_do_and_what_holds_it"
    ),
    "Role.tool_profile": _a("wire/roles.py", _TAKEN),
    "Role.tools": _a("wire/roles.py", _TAKEN),
    "Role.capabilities": _a("wire/roles.py", _TAKEN),
    "Role.timeout_seconds": _a("wire/roles.py", _TAKEN),
    "Role.trust_level": _a("core/posture.py", _LEVELS),
    "Role.model": _a("wire/roles.py", "wire/test_trust.py::a_model_is_for_agents_only"),
    "Role.instructions": _a(
        "engine/launch.py", "engine/test_launch.py::a_prompt_says_what_its_role_does"
    ),
}

_FLEET_TOML = {
    "Fleet.allow_unenforced": _a(
        "wire/fleetfile.py", "cli/test_trust.py::what_fleet_toml_waives_stands_on_each_receipt"
    ),
    "Fleet.max_workers": _a(
        "cli/run.py",
        "cli/test_run.py::how_many_at_once_is_asked_then_written_then_the_fleets_then_four",
    ),
    "Fleet.default_agent": _a(
        "wire/agents.py", "cli/test_agents.py::the_default_agent_does_what_the_prompt_says"
    ),
    "Fleet.capabilities": _a(
        "wire/agents.py",
        "wire/test_agents.py::a_machine_can_do_what_is_asked_of_it_unless_it_says_what_it_can",
    ),
    "Retention.files_days": _a("engine/housekeeping.py", _DAILY),
    "Retention.detail_days": _a("engine/housekeeping.py", _DAILY),
    "Disk.warn_below_mb": _a(
        "engine/disk.py",
        "engine/test_disk.py::low_room_is_told_once_and_shown_by_a_kept_status_and_stops_nothing",
    ),
    "Disk.stop_below_mb": _a(
        "engine/disk.py",
        "engine/test_disk.py::"
        "below_the_limit_nothing_is_placed_and_everybody_is_told_until_there_is_room",
    ),
}

HELD: dict[str, Held] = {
    **_DOCUMENT, **_TASK, **_WORKER, **_WORKSPACE, **_BUDGET, **_RETRY, **_SCORERS, **_SECRETS,
    **_TRUST,
    **_ALERTS, **_ROLES, **_FLEET_TOML,
    **{field: _a(*entry) for field, entry in ENTRIES.items()},
}  # fmt: skip
"""`Type.field`, as it is written -> where it is held."""
