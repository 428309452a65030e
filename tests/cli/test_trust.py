"""Policies, roles and tools as a person meets them: what is refused, what is held, what is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from .driver import fleet, spec

DEFAULT = "security_policy.default_trust_level"


def said(done: Any) -> str:
    return str(done.stdout) + str(done.stderr)


def test_each_task_says_what_it_may_do_and_what_holds_it(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(
        '[roles.linter]\ndescription = "looks for mistakes"\ntool_profile = "read-only"\n'
        'trust_level = "local"\ntools = ["ls"]\n'
    )
    name = spec(
        tmp_path,
        '[[security_policy.capability_grants]]\ncapability = "network"\nreason = "a mirror"\n'
        '[[tasks]]\nid = "a"\ncommand = "true"\n[[tasks]]\nid = "b"\ncommand = "false"\n'
        '[[tasks]]\nid = "c"\ncommand = "ls"\nworker = { role = "linter" }\n',
    )
    done = fleet(tmp_path, "check", name, "--explain")
    assert done.returncode == 0, said(done)
    for line in (
        f"a, b: trust sandbox ({DEFAULT.partition('.')[2]} of the policy)",
        "  reads    files outside HOME        bubblewrap",
        "  writes   nothing of the workspace  bubblewrap",
        "  reaches  the network               the grant network: a mirror",
        "c: trust local (the role linter); it looks for mistakes",
        "  reads    files outside /tmp and /run  bubblewrap",
        "  runs     ls                           a PATH of links; a guard against mistakes",
        "Nothing was recorded.",
    ):
        assert line in done.stdout.splitlines(), line
    (a, _, c) = json.loads(fleet(tmp_path, "check", name, "--explain", "--json").stdout)["tasks"]
    assert a["may"]["trust"] == "sandbox"
    assert a["may"]["reaches"] == {"what": "the network", "held_by": "the grant network: a mirror"}
    assert c["may"]["sandbox"]["tools"] == ["ls"]


def test_what_is_wrong_in_a_policy_is_a_sentence_with_its_line(tmp_path: Path) -> None:
    name = spec(
        tmp_path,
        '[security_policy]\nmax_trust_level = "sandbox"\ndefault_trust_level = "local"\n'
        '[[security_policy.capability_grants]]\ncapability = "netwrk"\n'
        '[[tasks]]\nid = "a"\ncommand = "true"\nworker = { role = "buildr" }\n',
    )
    done = fleet(tmp_path, "check", name)
    assert done.returncode == 2
    for line, words in (
        (3, "local is above max_trust_level, which is sandbox"),
        (5, '"netwrk" is no capability; did you mean network?'),
        (9, '"buildr" is no role, and says nothing to a command; did you mean builder?'),
    ):
        assert any(f"tasks.toml:{line} " in one and words in one for one in done.stdout.split("\n"))


def carried_out(tmp_path: Path, command: str, rest: str, before: str = "") -> dict[str, Any]:
    """One task, run; its receipt."""
    text = f"{before}[[tasks]]\nid = \"a\"\ncommand = '''{command}'''\n{rest}\n"
    done = fleet(tmp_path, "run", spec(tmp_path, text))
    assert done.returncode in (0, 1), said(done)
    answer = json.loads(fleet(tmp_path, "receipts", "@last/a", "--json").stdout)
    receipt: dict[str, Any] = answer["receipts"][-1]
    return receipt


@pytest.mark.slow
def test_nothing_is_written_outside_the_writable_paths(tmp_path: Path) -> None:
    place = 'workspace = { writable_paths = ["out"] }'
    assert carried_out(tmp_path, "echo x > out/x", place)["result"] == "pass"
    assert (tmp_path / "out" / "x").read_text() == "x\n"
    assert carried_out(tmp_path, "echo x > here", place)["result"] == "fail"
    assert carried_out(tmp_path, "echo x > out/../there", place)["result"] == "fail"
    assert not (tmp_path / "here").exists() and not (tmp_path / "there").exists()


@pytest.mark.slow
def test_a_command_that_only_reads_changes_nothing(tmp_path: Path) -> None:
    profile = 'worker = { tool_profile = "read-only" }'
    role = 'worker = { role = "scout" }'
    for rest in (profile, role):
        assert carried_out(tmp_path, "ls tasks.toml", rest)["result"] == "pass"
        assert carried_out(tmp_path, "echo x > x", rest)["result"] == "fail"
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_command_has_only_the_tools_that_it_names(tmp_path: Path) -> None:
    rest = 'worker = { tools = ["ls"] }'
    assert carried_out(tmp_path, "ls", rest)["result"] == "pass"
    assert carried_out(tmp_path, "uname", rest)["result"] == "fail"


@pytest.mark.slow
def test_a_role_ends_what_takes_too_long(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text("[roles.quick]\ntimeout_seconds = 0.2\n")
    receipt = carried_out(tmp_path, "sleep 60", 'worker = { role = "quick" }')
    assert receipt["result"] == "timeout"


@pytest.mark.slow
def test_the_policy_of_fleet_toml_holds_for_every_run(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text('[security_policy]\nmax_trust_level = "sandbox"\n')
    assert carried_out(tmp_path, "echo x > x", "")["result"] == "fail"
    shown = fleet(tmp_path, "inspect", "@last/a").stdout
    assert "trust         sandbox (default_trust_level of the policy)" in shown
    done = fleet(tmp_path, "run", "--each", "-", "--", "touch", "{}", given=b"y\n")
    assert done.returncode == 1, said(done)
    assert not (tmp_path / "x").exists() and not (tmp_path / "y").exists()
    name = spec(tmp_path, '[security_policy]\ndefault_trust_level = "local"\n'
                '[[tasks]]\nid = "a"\ncommand = "true"\n')  # fmt: skip
    done = fleet(tmp_path, "run", name)
    assert done.returncode == 2
    assert "local is more than fleet.toml gives, which is sandbox" in done.stderr


@pytest.mark.slow
def test_a_verifying_command_is_held_like_its_task(tmp_path: Path) -> None:
    rest = (
        'workspace = { writable_paths = ["out"] }\n'
        'scorer = { kind = "command", command = "echo x > stolen" }'
    )
    assert carried_out(tmp_path, "true", rest)["result"] == "fail"
    assert not (tmp_path / "stolen").exists()


NOWHERE = ("unshare", "-Ur", "sh", "-c",
           'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh")  # fmt: skip
"""A place whose kernel forbids user namespaces, so that nothing can be confined."""


@pytest.mark.slow
def test_where_the_kernel_forbids_it_what_needs_a_sandbox_is_refused_or_waived(
    tmp_path: Path,
) -> None:
    plain = spec(tmp_path, '[[tasks]]\nid = "a"\ncommand = "true"\n')
    assert fleet(tmp_path, "run", plain, before=NOWHERE).returncode == 0
    name = spec(
        tmp_path,
        '[[tasks]]\nid = "a"\ncommand = "touch here"\nworkspace = { writable_paths = ["out"] }\n',
    )
    done = fleet(tmp_path, "run", name, before=NOWHERE)
    assert done.returncode == 2
    assert "is held by a sandbox, and the kernel forbids what bubblewrap needs" in done.stderr
    assert "sysctl" in done.stderr and "--allow-unenforced workspace.writable_paths" in done.stderr
    words = ("run", name, "--allow-unenforced", "writable_paths")
    assert fleet(tmp_path, *words, before=NOWHERE).returncode == 0
    assert (tmp_path / "here").exists()
    answer = json.loads(fleet(tmp_path, "receipts", "@last/a", "--json").stdout)
    assert answer["receipts"][0]["unenforced"] == ["workspace.writable_paths"]
    (tmp_path / "fleet.toml").write_text('[security_policy]\nmax_trust_level = "sandbox"\n')
    each = ("run", "--each", "-", "--", "touch", "{}")
    done = fleet(tmp_path, *each, given=b"y\n", before=NOWHERE)
    assert done.returncode == 2 and "the trust sandbox needs a sandbox" in done.stderr
    assert not (tmp_path / "y").exists()


@pytest.mark.slow
def test_what_fleet_toml_waives_stands_on_each_receipt(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text('[fleet]\nallow_unenforced = ["reuse"]\n')
    receipt = carried_out(tmp_path, "true", "reuse = true")
    assert receipt["unenforced"] == ["reuse"]
    done = fleet(tmp_path, "check", "tasks.toml")
    assert "Not enforced, as allowed: reuse" in done.stdout
    assert done.stdout.endswith("To run it: fleet run tasks.toml\n")


@pytest.mark.slow
def test_a_directory_of_its_own_is_held_to_its_writable_paths_too(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    rest = 'workspace = { isolation = "copy", writable_paths = ["src"] }'
    assert carried_out(tmp_path, "echo x > src/x", rest)["result"] == "pass"
    assert carried_out(tmp_path, "echo x > x", rest)["result"] == "fail"
