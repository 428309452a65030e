"""Where each field about workers, hosts and what tasks require of them is held; see held.py."""

_WRITTEN = "wire/test_workers.py::a_worker_is_its_id_and_whatever_more_there_is_to_say"
_WRONG = "wire/test_workers.py::what_is_wrong_with_a_worker_is_told_at_its_entry"
_REQUIRES = "wire/test_placing.py::a_task_goes_where_what_it_requires_is_or_may_be"
_CHOSEN = "core/test_selectors.py::a_selection_means_these"
_REFUSED = "wire/test_workers.py::a_container_is_refused_however_it_is_spelt"
_DOCKER = ("wire/workers.py", _REFUSED, "DockerHost")
_SSH = "hosts/test_ssh.py::"
_REFUSALS = "hosts/test_ssh_refusals.py::"

ENTRIES: dict[str, tuple[str, ...]] = {
    "Spec.workers": ("wire/placing.py", "cli/test_on.py::a_spec_may_bring_its_own_workers"),
    "SecurityPolicy.require_identity_verification": (
        "core/matching.py",
        "wire/test_placing.py::a_worker_is_trusted_as_it_says_or_by_the_road_to_it",
    ),
    "TaskWorker.name": (
        "wire/placing.py",
        "wire/test_placing.py::a_worker_may_be_named_by_its_id_or_by_its_name",
    ),
    "Task.requires": ("wire/placing.py", _REQUIRES),
    **{
        f"Requires.{name}": ("wire/placing.py", _REQUIRES)
        for name in ("target", "labels", "platform", "cores", "memory_mb", "gpus")
    },
    "Worker.id": ("wire/workers.py", _WRITTEN),
    "Worker.name": ("wire/workers.py", _WRITTEN),
    "Worker.host": ("wire/workers.py", _WRITTEN),
    "Worker.trust_level": (
        "wire/placing.py",
        "wire/test_placing.py::no_task_goes_where_it_would_be_trusted_more_than_the_place",
    ),
    "Worker.labels": ("core/selectors.py", _CHOSEN),
    "Worker.groups": ("core/selectors.py", _CHOSEN),
    "Worker.capabilities": (
        "wire/placing.py",
        "wire/test_placing.py::capabilities_are_looked_for_where_a_task_may_go",
    ),
    "Worker.max_concurrent_tasks": (
        "wire/placing.py",
        "wire/test_placing.py::this_machine_is_a_worker_with_its_slots_and_what_it_can_do",
    ),
    "Worker.cores": ("wire/placing.py", _REQUIRES),
    "Worker.memory_mb": ("wire/placing.py", _REQUIRES),
    "Worker.gpus": ("wire/placing.py", _REQUIRES),
    "LocalHost.kind": ("wire/workers.py", _WRITTEN, "LocalHost"),
    "SshHost.kind": ("wire/workers.py", _WRITTEN),
    "SshHost.host": (
        "hosts/ssh.py",
        _SSH + "a_port_where_nobody_listens_and_a_name_that_is_none_are_told",
    ),
    "SshHost.user": ("hosts/ssh.py", _REFUSALS + "a_machine_on_the_way_is_gone_through"),
    "SshHost.port": ("hosts/ssh.py", _SSH + "a_server_that_says_nothing_is_given_up_after_a_while"),
    "SshHost.identity": (
        "hosts/ssh.py",
        _SSH + "a_key_that_nobody_knows_is_told_with_what_to_type",
    ),
    "SshHost.known_hosts": ("hosts/ssh.py", _SSH + "an_unknown_host_key_is_refused"),
    "SshHost.host_key_fingerprint": (
        "hosts/ssh.py",
        _SSH + "a_host_key_that_was_not_expected_is_refused_with_both_names",
    ),
    "SshHost.working_directory": (
        "hosts/connector.py",
        _SSH + "a_working_directory_that_is_not_there_is_told",
    ),
    "SshHost.codewhale_binary": (
        "engine/far.py",
        "real/test_ssh_files.py::the_agent_program_of_a_host_is_taken_there",
    ),
    "SshHost.fleet_binary": (
        "hosts/connector.py",
        _SSH + "a_fleet_that_is_there_can_be_taken_instead_of_the_copied_runtime",
    ),
    "SshHost.transport": (
        "hosts/connector.py",
        _SSH + "work_runs_over_there_and_its_logs_are_here_before_its_end_is_told",
    ),
    "SshHost.proxy_jump": (
        "hosts/ssh.py",
        _REFUSALS + "a_way_may_be_named_and_leads_in_no_circle",
    ),
    "SshHost.connect_timeout_seconds": (
        "hosts/ssh.py",
        _REFUSALS + "a_server_that_says_nothing",
    ),
    "SshHost.keepalive_seconds": (
        "hosts/ssh.py",
        _SSH + "a_connection_that_says_nothing_more_is_given_up",
    ),
    "SshHost.env_allowlist": (
        "hosts/connector.py",
        _SSH + "work_runs_over_there_and_its_logs_are_here_before_its_end_is_told",
    ),
    "Discovery.command": (
        "engine/inventory.py",
        "engine/test_inventory.py::another_command_is_another_question",
    ),
    "Discovery.ttl_seconds": (
        "engine/inventory.py",
        "engine/test_inventory.py::an_answer_is_used_until_it_is_too_old",
        "",
        "ttl",
    ),
    "DockerHost.kind": (*_DOCKER, ""),
    "DockerHost.image": (*_DOCKER, ""),
    "DockerHost.args": (*_DOCKER, "kind"),
}
"""`Type.field` -> module, test, and how each spells it where that is not by its name."""
