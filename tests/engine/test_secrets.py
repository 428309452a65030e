"""From the names of secrets to their values: which source is asked, and what is told of none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import json

from codewhale_fleet.core.parts import SecretName
from codewhale_fleet.engine import vault
from codewhale_fleet.engine.secrets import needed, resolve
from codewhale_fleet.errors import FleetError


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's configuration of its own, with a keyring in a file of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    yield tmp_path / "config" / "codewhale-fleet"


@pytest.fixture
def ring(config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """keyring's plain file: this machine may have no D-Bus."""
    import keyring
    from keyrings.alt.file import PlaintextKeyring

    before = keyring.get_keyring()
    keyring.set_keyring(PlaintextKeyring())
    yield
    keyring.set_keyring(before)


def one(key: str, source: str = "") -> list[SecretName]:
    return [SecretName(key=key, source=source)]


def resolved(wanted: list[SecretName], **environ: str) -> dict[str, str]:
    return resolve(wanted, of="s.toml", again="fleet run s.toml", environ=environ)


def refused(wanted: list[SecretName], **environ: str) -> FleetError:
    with pytest.raises(FleetError) as caught:
        resolved(wanted, **environ)
    return caught.value


def test_without_a_source_the_store_comes_before_the_environment(ring: None) -> None:
    assert resolved(one("K"), K="from env") == {"K": "from env"}
    vault.file_set("K", "from file")
    assert resolved(one("K"), K="from env") == {"K": "from file"}
    vault.keyring_set("K", "from keyring")
    assert resolved(one("K"), K="from env") == {"K": "from keyring"}


def test_a_source_that_is_named_is_the_only_one_asked(ring: None) -> None:
    vault.file_set("K", "from file")
    vault.keyring_set("K", "from keyring")
    found = {source: resolved(one("K", source), K="from env") for source in ("env", "file")}
    assert found == {"env": {"K": "from env"}, "file": {"K": "from file"}}
    assert resolved(one("K", "keyring"), K="from env") == {"K": "from keyring"}
    vault.keyring_remove("K")
    error = refused(one("K", "keyring"), K="from env")
    assert str(error) == "s.toml needs a secret: K is not found (looked in the keyring)."
    assert error.hint == "fleet secret set K --source keyring\nthen: fleet run s.toml"


def test_all_that_is_missing_is_told_at_once_with_where_it_was_looked_for(config: Path) -> None:
    error = refused([*one("A"), *one("B", "env"), *one("C")], C="c")
    assert str(error) == (
        f"s.toml needs secrets: A is not found (looked in the file store {config}/secrets and the "
        "environment); B is not found (looked in the environment)."
    )
    assert error.hint.splitlines() == [
        "fleet secret set A",
        "set it where fleet is started: B=…",
        "then: fleet run s.toml",
    ]


def test_what_may_be_missing_is_taken_where_it_is_and_not_missed() -> None:
    found = resolve(
        one("A"), of="s", again="again", spare=[*one("B"), *one("C")], environ={"A": "1", "B": "2"}
    )
    assert found == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("", "K is set to nothing in the environment"),
        ("x" * 65_537, "K in the environment has 65,537 bytes; a secret may have 65,536"),
        ("a\udcffb", "K in the environment is not UTF-8"),
    ],
)
def test_a_value_that_cannot_be_delivered_is_refused_and_not_shown(value: str, told: str) -> None:
    error = refused(one("K"), K=value)
    assert str(error) == f"s.toml needs a secret: {told}."


def test_a_value_with_a_nul_is_refused() -> None:
    vault.file_set("K", "secret\0value")
    error = refused(one("K"))
    assert "K in the file store" in str(error) and "has a NUL byte" in str(error)
    assert "secret\0" not in str(error) + error.hint


# The file store -------------------------------------------------------------------------------


def test_the_store_is_a_directory_and_files_that_nobody_else_can_read(config: Path) -> None:
    before = os.umask(0)
    try:
        vault.file_set("K", "v1")
        vault.file_set("K", "v2")
    finally:
        os.umask(before)
    store = config / "secrets"
    assert store.stat().st_mode & 0o777 == 0o700
    assert (store / "K").stat().st_mode & 0o777 == 0o600
    assert [one.name for one in store.iterdir()] == ["K"]
    assert vault.file_get("K") == "v2" and vault.file_keys() == ["K"]
    assert vault.file_remove("K") and not vault.file_remove("K")
    assert vault.file_get("K") is None


@pytest.mark.parametrize(("what", "mode"), [("", 0o750), ("/K", 0o640), ("/K", 0o604)])
def test_a_store_that_others_can_read_is_refused_even_where_the_environment_has_it(
    config: Path, what: str, mode: int
) -> None:
    vault.file_set("K", "v")
    path = Path(f"{config}/secrets{what}")
    path.chmod(mode)
    error = refused(one("K"), K="from env")
    assert f"{path} can be read by others (mode {mode:o}), and is not used" in str(error)
    assert f"chmod {'600' if what else '700'} {path}" in error.hint


def test_a_link_in_the_store_is_not_followed(config: Path, tmp_path: Path) -> None:
    vault.file_set("K", "v")
    (tmp_path / "elsewhere").write_text("stolen")
    (tmp_path / "elsewhere").chmod(0o600)
    (config / "secrets" / "L").symlink_to(tmp_path / "elsewhere")
    assert "cannot be read" in str(refused(one("L")))


# The keyring ----------------------------------------------------------------------------------


def test_a_locked_keyring_is_a_sentence_with_what_to_do() -> None:
    import keyring
    from keyring.backends import fail
    from keyring.errors import KeyringLocked

    class Locked(fail.Keyring):
        def get_password(self, service: str, username: str) -> str | None:
            raise KeyringLocked("nobody is there")

    before = keyring.get_keyring()
    keyring.set_keyring(Locked())
    try:
        error = refused(one("K", "keyring"))
    finally:
        keyring.set_keyring(before)
    assert "the keyring is locked, so K cannot be had from it" in str(error)
    assert "fleet secret set K --source file" in error.hint


def test_a_machine_without_a_keyring_is_told_so() -> None:
    import keyring
    from keyring.backends import fail

    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    try:
        error = refused(one("K", "keyring"))
        assert not vault.keyring_works()
    finally:
        keyring.set_keyring(before)
    assert "there is no keyring on this machine that could have K" in str(error)


# What is needed -------------------------------------------------------------------------------


def test_only_the_secrets_of_the_tasks_that_are_left_are_needed() -> None:
    known = [*one("A"), *one("B"), *one("C"), *one("D")]
    agents = {
        "own": json.encode({"command": ["own"], "secrets": ["B"]}),
        "judge": json.encode({"command": ["judge"], "secrets": [{"key": "C", "as": "X"}]}),
        "plain": json.encode({"command": ["plain"]}),
    }
    a = b'{"id":"a","command":"true","secrets":["A"]}'
    b = b'{"id":"b","agent":"own","instructions":"x"}'
    c = (
        b'{"id":"c","command":"true","scorer":'
        b'{"kind":"code_whale_verifier_prompt","prompt":"x","agent":"judge"}}'
    )
    assert needed([a], agents, known) == one("A")
    assert needed([b, c], agents, known) == [*one("B"), *one("C")]
    assert needed([b'{"id":"d","command":"true"}'], agents, known) == []
