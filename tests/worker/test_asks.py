"""The door for tasks: who is let in, what is kept of what is said, and that no kill loses it."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.worker import limits
from codewhale_fleet.worker.asks import digest_of, is_token, new_token
from codewhale_fleet.worker.journal import Journal
from codewhale_fleet.worker.own import Own, Shelf
from codewhale_fleet.worker.tags import Query, Wrong, read_tags
from tests.worker.driver import PATIENCE, RUN, Manager, Message, is_alive

pytestmark = pytest.mark.slow

WAITS = 'echo "$FLEET_TOKEN" > {up}; read x < {gate}'


class Door:
    """An attempt that waits, and what it can say meanwhile."""

    def __init__(self, manager: Manager, task: str, **more: Any) -> None:
        self.manager = manager
        up, self.gate = manager.fifo(f"{task}.up"), manager.fifo(f"{task}.gate")
        more.setdefault("env", {"FLEET_ID": "fl-here"})
        script = WAITS.format(up=up, gate=self.gate)
        self.attempt = manager.start(task, ["/bin/sh", "-c", script], **more)
        self.token = manager.says(f"{task}.up").strip()

    def dial(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        place = os.open(self.manager.fleet / "runtime", os.O_PATH)
        try:
            client.setblocking(True)  # for a place in the backlog
            client.connect(f"/proc/self/fd/{place}/tasks.sock")
            client.settimeout(PATIENCE)
        finally:
            os.close(place)
        return client

    def begin(self, verb: str, **fields: Any) -> socket.socket:
        client = self.dial()
        request = {"v": verb, "a": self.attempt, "t": self.token, **fields}
        client.sendall(json.dumps(request).encode() + b"\n")
        return client

    def ask(self, verb: str, **fields: Any) -> Message:
        return answer_of(self.begin(verb, **fields))

    def end(self) -> Message:
        self.gate.write_text("go\n")
        return self.manager.end_of(self.attempt)


def answer_of(client: socket.socket) -> Message:
    with client, client.makefile() as lines:
        answer: Message = json.loads(lines.readline())
        return answer


def asked_by(manager: Manager, door: Door) -> Message:
    return manager.line.find(lambda m: m.get("f") == "asked" and m["attempt"] == door.attempt)


def facts(manager: Manager, word: str) -> list[Message]:
    return [one for one in manager.line.heard if one.get("f") == word]


# Who is let in --------------------------------------------------------------------------------


def test_only_the_attempts_own_token_opens_its_door(manager: Manager) -> None:
    one, other = Door(manager, "one"), Door(manager, "other", slot=2)
    assert one.token.startswith("fl-here.") and one.token != other.token
    assert one.ask("list")["ok"] is True
    refused = one.ask("list", a="demo/nobody@1")["refused"]
    assert refused == "demo/nobody@1 does not run here; a token counts while its attempt runs"
    for fields in (
        {"t": other.token},
        {"t": one.token[:-1] + ("0" if one.token[-1] != "0" else "1")},
        {"t": ""},
        {"t": "fl-elsewhere." + one.token.rpartition(".")[2]},
        {"a": other.attempt},
    ):
        assert "token is not that of" in one.ask("list", **fields)["refused"], fields
    assert "shows its token" in one.ask("list", t=None)["refused"]
    one.end(), other.end()


def test_a_token_counts_for_nothing_once_its_attempt_is_over(manager: Manager) -> None:
    door = Door(manager, "over")
    door.end()
    assert door.ask("list")["refused"] == (
        f"{door.attempt} does not run here; a token counts while its attempt runs"
    )


def test_a_token_names_its_fleet_and_only_its_digest_is_kept() -> None:
    import hashlib

    token = new_token("fl-a")
    kept = digest_of(token)
    assert token.startswith("fl-a.") and len(token) == 5 + 64 and token != new_token("fl-a")
    assert kept == hashlib.sha256(token.encode()).hexdigest()
    assert is_token(token, kept)
    for wrong in (new_token("fl-a"), "fl-b" + token[4:], token[:-1], "", "\ud800", kept):
        assert not is_token(wrong, kept)
    assert not is_token("", "")  # an attempt that never had one lets nobody in


@pytest.mark.parametrize("killed", ["runtime", "keeper, then runtime", "runtime and keeper"])
def test_what_outlives_its_runtime_is_let_in_by_the_next_one(manager: Manager, killed: str) -> None:
    door, other = Door(manager, "one"), Door(manager, "other", slot=2)
    assert door.ask("usage", tokens_in=3)["ok"]
    manager.line.say({"m": "ping"})
    manager.line.hear(lambda m: m.get("m") == "pong")
    pids = [manager.pid] if killed == "runtime" else [manager.keeper, manager.pid]
    for pid in pids if "then" in killed else reversed(pids):
        manager.kill(pid)
    if killed == "runtime and keeper":  # else one of them has started the next one
        assert not [pid for pid in pids if is_alive(pid)]
    manager.dial(cursors={manager.hello["runtime"]: manager.cursor})
    assert door.ask("usage", tokens_in=4)["usage"] == {"tokens_in": 7}
    assert door.ask("put", name="x", value=base64.b64encode(b"1").decode())["version"] == 1
    assert "token is not that of" in door.ask("list", t=other.token)["refused"]
    wrong = door.token[:-1] + ("0" if door.token[-1] != "0" else "1")
    assert "token is not that of" in door.ask("list", t=wrong)["refused"]
    assert door.end()["agent"]["usage"] == {"tokens_in": 7}
    assert "does not run here" in door.ask("list")["refused"]
    other.end()


def test_the_token_stands_in_no_file_and_in_no_command_line(manager: Manager) -> None:
    door = Door(manager, "quiet")
    assert door.ask("usage", tokens_in=1)["ok"]
    assert door.ask("put", name="x", value="")["ok"]
    door.end()
    mac = door.token.rpartition(".")[2].encode()
    for path in manager.fleet.rglob("*"):
        if path.is_file():
            assert mac not in path.read_bytes(), path
    for pid in (manager.pid, manager.keeper):
        assert mac not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert mac not in Path(f"/proc/{pid}/environ").read_bytes()


def test_what_is_no_request_gets_a_sentence_and_the_others_are_served(manager: Manager) -> None:
    door = Door(manager, "odd")
    for line, said in (
        (b"hello\n", "is a JSON line"),
        (b"[]\n", "is a JSON object"),
        (b"{}\n", "names its attempt"),
        (b'{"a":"\xff"}\n', "is a JSON line"),
    ):
        client = door.dial()
        client.sendall(line)
        assert said in answer_of(client)["refused"]
    assert "can't ask for 'fly'" in door.ask("fly")["refused"]
    assert door.ask("list")["ok"]
    door.end()


def test_a_request_that_is_too_long_ends_its_connection_with_a_sentence(manager: Manager) -> None:
    door = Door(manager, "long")
    client = door.dial()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            client.sendall(b"x" * (1 << 18))
    client.close()
    assert door.ask("list")["ok"]
    door.end()


def test_idle_connections_keep_nobody_out(manager: Manager) -> None:
    door = Door(manager, "crowd")
    idle = []
    for _ in range(limits.ASK_CONNECTIONS + 20):
        idle.append(door.dial())
    assert door.ask("list")["ok"]
    for client in idle:
        client.close()
    door.end()


# What it leaves and uses ----------------------------------------------------------------------


def test_an_added_artifact_stands_in_the_end(manager: Manager) -> None:
    door = Door(manager, "adds", expected=["report"])
    (manager.root / "out").mkdir()
    (manager.root / "out/r.txt").write_text("hello")
    (manager.root / "link").symlink_to("out/r.txt")
    told = door.ask("artifact", kind="report", path=str(manager.root / "link"))
    assert told == {"ok": True, "kind": "report", "path": "out/r.txt", "size": 5}
    assert door.ask("artifact", kind="report", path="out/r.txt")["ok"]
    end = door.end()
    assert [(one["kind"], one["path"], one["size"]) for one in end["artifacts"]] == [
        ("report", "out/r.txt", 5)
    ]
    assert "missing" not in end


def test_what_is_no_file_of_the_workspace_is_refused_at_once(manager: Manager) -> None:
    door = Door(manager, "outside")
    root = manager.root
    (root / "out").symlink_to("/etc/passwd")
    (root / "device").symlink_to("/dev/null")
    os.mkfifo(root / "fifo")
    (root / "folder").mkdir()
    for path, said in (
        ("/etc/passwd", "outside the workspace"),
        ("../../etc/passwd", "outside the workspace"),
        ("out", "outside the workspace"),
        ("device", "outside the workspace"),
        ("fifo", "no regular file"),
        ("folder", "a directory"),
        ("nothing", "missing"),
        ("a\0b", "no NUL bytes"),
    ):
        assert said in door.ask("artifact", kind="report", path=path)["refused"], path
    assert "can be no kind" in door.ask("artifact", kind="a b", path="x")["refused"]
    assert "artifacts" not in door.end()


def test_a_file_is_checked_again_at_the_end(manager: Manager) -> None:
    door = Door(manager, "later")
    for name in ("gone", "link"):
        (manager.root / name).write_text("x")
        assert door.ask("artifact", kind="report", path=name)["ok"]
    (manager.root / "gone").unlink()
    (manager.root / "link").unlink()
    (manager.root / "link").symlink_to("/etc/passwd")
    end = door.end()
    assert "artifacts" not in end
    assert end["artifact_errors"] == [
        "report: gone: missing", "report: link: outside the workspace",
    ]  # fmt: skip


def test_usage_is_summed_and_the_same_request_counts_once(manager: Manager) -> None:
    door = Door(manager, "uses")
    door.ask("usage", tokens_in=10, cost_usd=0.1, i="one")
    door.ask("usage", tokens_in=10, cost_usd=0.1, i="one")
    told = door.ask("usage", tokens_in=5, tool_calls=2, cost_usd=0.2, i="two")
    assert told["usage"]["tokens_in"] == 15
    for wrong in (
        {},
        {"tokens_in": -1},
        {"tokens_in": 1.5},
        {"cost_usd": 1e300},
        {"tool_calls": "x"},
    ):
        assert "refused" in door.ask("usage", **wrong)
    assert door.end()["agent"] == {"usage": {"tokens_in": 15, "tool_calls": 2, "cost_usd": 0.3}}


def test_added_usage_counts_against_a_cap_of_the_run(manager: Manager) -> None:
    more = {"run_caps": {"max_tokens": 100}, "run_spent": {}, "run_ack": 0}
    door = Door(manager, "capped", **more)
    door.ask("usage", tokens_out=101)
    end = manager.end_of(door.attempt)
    assert (end["why"], end["cap"]) == ("budget", "run.max_tokens")


# How far it is --------------------------------------------------------------------------------


def test_progress_is_told_at_once_and_then_seldom(manager: Manager) -> None:
    door = Door(manager, "goes")
    for percent in (10, 20, 30):
        assert door.ask("progress", percent=percent, text=f"at\n{percent}")["ok"]
    assert "from 0 to 100" in door.ask("progress", percent=101)["refused"]
    assert "how far it is" in door.ask("progress")["refused"]
    door.end()
    told = [(one["percent"], one["note"]) for one in facts(manager, "progressed")]
    assert told == [(10, "at 10")]


def test_a_checkpoint_is_kept_by_digest(manager: Manager) -> None:
    door = Door(manager, "keeps")
    (manager.root / "notes.md").write_text("half done")
    by_file = door.ask("checkpoint", path=str(manager.root / "notes.md"))
    by_text = door.ask("checkpoint", text="half done")
    assert by_file == by_text
    assert (manager.fleet / "evidence" / by_file["sha256"]).read_text() == "half done"
    assert "outside the workspace" in door.ask("checkpoint", path="/etc/passwd")["refused"]
    assert "a file, or text" in door.ask("checkpoint", text=" ")["refused"]
    door.end()
    assert [one["checkpoint"]["size"] for one in facts(manager, "progressed")] == [9, 9]


# Asking a person ------------------------------------------------------------------------------


def test_an_answer_reaches_everybody_who_waits_for_it(manager: Manager) -> None:
    door = Door(manager, "asks")
    first = door.begin("ask", question="Which?", choices=["a", "b"])
    fact = asked_by(manager, door)
    assert (fact["number"], fact["text"], fact["choices"]) == (1, "Which?", ["a", "b"])
    second = door.begin("ask", question="Which?", choices=["a", "b"])
    assert door.ask("list")["ok"]  # so the second one is heard of
    manager.line.say({"m": "answer", "attempt": door.attempt, "number": 1, "text": "b"})
    assert answer_of(first) == answer_of(second) == {"ok": True, "answer": "b"}
    assert door.ask("ask", question="Which?", choices=["a", "b"])["answer"] == "b"
    door.end()
    assert len(facts(manager, "asked")) == 1


def test_who_waits_for_a_person_is_not_silent(manager: Manager) -> None:
    more = {"stall": 0.5, "stall_ends": True}
    asking, silent = Door(manager, "asking", **more), Door(manager, "silent", slot=2, **more)
    client = asking.begin("ask", question="Are you there?")
    assert manager.end_of(silent.attempt)["why"] == "stall"
    manager.line.say({"m": "answer", "attempt": asking.attempt, "number": 1, "text": "yes"})
    assert answer_of(client)["answer"] == "yes"
    asking.end()
    assert [one["attempt"] for one in facts(manager, "stale")] == [silent.attempt]


def test_whoever_waits_learns_that_the_attempt_is_over(manager: Manager) -> None:
    door = Door(manager, "leaves")
    client = door.begin("ask", question="Still there?")
    asked_by(manager, door)
    door.end()
    assert answer_of(client) == {"refused": f"{door.attempt} is over"}


def test_a_question_outlives_a_kill_of_the_runtime(manager: Manager) -> None:
    door = Door(manager, "survives")
    client = door.begin("ask", question="Go on?")
    asked_by(manager, door)
    manager.kill(manager.pid)
    with client:
        assert client.recv(1) == b""
    manager.dial()
    again = door.begin("ask", question="Go on?")
    assert door.ask("list")["ok"]
    manager.line.say({"m": "answer", "attempt": door.attempt, "number": 1, "text": "yes"})
    assert answer_of(again)["answer"] == "yes"
    manager.kill(manager.pid)
    manager.dial()
    assert door.ask("ask", question="Go on?")["answer"] == "yes"
    assert len(facts(manager, "asked")) <= 1
    door.end()


def test_all_that_was_said_outlives_kills_of_runtime_and_keeper(manager: Manager) -> None:
    door = Door(manager, "outlives")
    (manager.root / "r.txt").write_text("x")
    door.ask("usage", tokens_in=7, i="one")
    door.ask("artifact", kind="report", path="r.txt")
    door.ask("put", name="site", value=base64.b64encode(b"eu").decode(), tags={"stage": "live"})
    manager.kill(manager.pid)
    manager.dial()
    door.ask("usage", tokens_in=7, i="one")
    assert door.ask("usage", tokens_in=3)["usage"] == {"tokens_in": 10}
    assert base64.b64decode(door.ask("get", name="site")["value"]) == b"eu"
    manager.kill(manager.keeper)
    assert door.ask("put", name="site", value="")["version"] == 2
    end = door.end()
    assert end["agent"]["usage"] == {"tokens_in": 10}
    assert [one["path"] for one in end["artifacts"]] == ["r.txt"]


# The run's data -------------------------------------------------------------------------------


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_another_attempt_reads_at_once_what_one_has_put(manager: Manager) -> None:
    one, other = Door(manager, "puts"), Door(manager, "gets", slot=2)
    put = one.ask("put", name="site", value=encoded("eu"), tags={"stage": "live"})
    assert put["version"] == 1
    got = other.ask("get", name="site")
    assert (base64.b64decode(got["value"]), got["tags"]) == (b"eu", {"stage": "live"})
    assert other.ask("put", name="site", value=encoded("us"))["version"] == 2
    assert base64.b64decode(one.ask("get", name="site", version=1)["value"]) == b"eu"
    assert base64.b64decode(one.ask("get", name="site")["value"]) == b"us"
    assert [row["name"] for row in one.ask("list")["data"]] == ["site"]
    assert one.ask("list", query="stage=live")["data"] == []
    assert one.ask("delete", name="site")["version"] == 2
    assert 'no data "site"' in other.ask("get", name="site")["refused"]
    assert other.ask("put", name="site", value=encoded("eu"))["version"] == 3
    one.end(), other.end()
    told = [(f["name"], f["version"], f.get("deleted", False)) for f in facts(manager, "data")]
    assert told == [("site", 1, False), ("site", 2, False), ("site", 2, True), ("site", 3, False)]


def test_the_same_value_again_is_the_same_version(manager: Manager) -> None:
    door = Door(manager, "same")
    assert door.ask("put", name="x", value=encoded("1"))["version"] == 1
    assert door.ask("put", name="x", value=encoded("1"))["version"] == 1
    assert door.ask("put", name="x", value=encoded("1"), tags={"a": "b"})["version"] == 2
    door.end()
    assert len(facts(manager, "data")) == 2


def test_where_a_run_is_on_several_hosts_a_value_has_the_number_that_the_manager_gives(
    manager: Manager,
) -> None:
    door = Door(manager, "puts", shared=True)
    waits = door.begin("put", name="x", value="bWluZQ==", tags={})
    put = manager.line.find(lambda m: m.get("f") == "data")
    assert put["version"] == 0
    other = {"name": "x", "version": 1, "sha256": "0" * 64, "size": 3, "tags": {}}
    mine = {key: put[key] for key in ("name", "sha256", "size", "tags")}
    for entry in (other, {**mine, "version": 2}):
        manager.line.say({"m": "data", "run": RUN, "entries": [entry]})
    assert answer_of(waits)["version"] == 2
    again = door.ask("put", name="x", value="bWluZQ==", tags={})
    assert again["version"] == 2 and len(facts(manager, "data")) == 1
    late = door.ask("put", name="x", value="bGF0ZQ==", tags={})
    assert late["ok"] and late["version"] is None, "nobody has given it a number in time"
    assert door.ask("get", name="x")["value"] == "bGF0ZQ=="
    assert [one["version"] for one in door.ask("list")["data"]] == [None]
    door.end()


def test_names_tags_and_values_have_limits(manager: Manager) -> None:
    door = Door(manager, "limits")
    most = base64.b64encode(b"x" * limits.DATA_BYTES).decode()
    more = base64.b64encode(b"x" * (limits.DATA_BYTES + 1)).decode()
    assert door.ask("put", name="big", value=most)["size"] == limits.DATA_BYTES
    assert len(base64.b64decode(door.ask("get", name="big")["value"])) == limits.DATA_BYTES
    assert "may have 1,048,576 bytes" in door.ask("put", name="big", value=more)["refused"]
    many = {str(number): "" for number in range(17)}
    for wrong in (
        {"name": "a b"}, {"name": ""}, {"name": "../x\n"}, {"tags": {"a b": "c"}},
        {"tags": {"a": 1}}, {"tags": many}, {"value": 7},
    ):  # fmt: skip
        assert "refused" in door.ask("put", **{"name": "n", "value": "", **wrong}), wrong
    door.end()


def test_a_task_that_floods_is_refused_with_a_sentence(manager: Manager) -> None:
    door = Door(manager, "floods")
    client = door.dial()
    head = {"a": door.attempt, "t": door.token}
    lines = [
        json.dumps({"v": "put", **head, "name": "x", "value": encoded(str(number))})
        for number in range(limits.OWN_FACTS + 1)
    ]
    with client, client.makefile("rw") as stream:
        for line in lines:
            stream.write(line + "\n")
            stream.flush()
            last = json.loads(stream.readline())
    assert "has told 1,000 facts" in last["refused"]
    assert "has told 1,000 facts" in door.ask("ask", question="May I?")["refused"]
    assert door.ask("get", name="x")["version"] == limits.OWN_FACTS
    door.end()


def test_a_manager_tells_what_the_ledger_knows_and_what_people_put(manager: Manager) -> None:
    door = Door(manager, "hears")
    kept = door.ask("checkpoint", text="eu")
    entry = {"name": "site", "version": 4, "sha256": kept["sha256"], "size": 2, "tags": {}}
    manager.line.say({"m": "data", "run": RUN, "entries": [entry]})
    person = {"name": "site", "sha256": kept["sha256"], "size": 2, "tags": {"by": "me"}}
    manager.line.say({"m": "put", "run": RUN, "entry": person})
    fact = manager.line.find(lambda m: m.get("f") == "data")
    assert (fact["attempt"], fact["version"], fact["tags"]) == (RUN, 5, {"by": "me"})
    assert door.ask("get", name="site")["version"] == 5
    assert base64.b64decode(door.ask("get", name="site", version=4)["value"]) == b"eu"
    door.end()


# Pure parts -----------------------------------------------------------------------------------


def test_compaction_of_the_journal_keeps_what_an_open_attempt_needs(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "boot", "1")
    for name in ("r/open@1", "q/over@1"):
        journal.put({"f": "intent", "a": name, "s": "s", "t": 1.0, "p": {}})
        journal.put({"f": "own", "a": name, "w": "usage", "u": {"tokens_in": 3}})
        journal.put({"f": "own", "a": name, "w": "asked", "q": 1, "text": "?", "choices": []})
        journal.fact("asked", {"attempt": name, "number": 1, "text": "?"})
        entry = {"name": "x", "version": 1, "sha256": "0", "size": 0, "tags": {}}
        journal.put({"f": "shelf", "r": name.partition("/")[0], "e": entry})
    journal.fact("ended", {"attempt": "q/over@1"})
    assert journal.flush()
    journal.acknowledge(journal.n)
    journal.compact({"r/open@1"})
    again = Journal(str(tmp_path), "boot", "1")
    assert list(again.open) == ["r/open@1"]
    own = Own(again.open["r/open@1"].own)
    assert (own.usage, own.questions[0].text, own.facts) == ({"tokens_in": 3}, "?", 1)
    assert not again.open["r/open@1"].started
    assert list(again.shelves) == ["r"]


def test_a_shelf_gives_no_number_twice() -> None:
    shelf = Shelf()
    value = {"name": "x", "sha256": "a", "size": 1}
    assert shelf.add({**value, "version": 1}) and not shelf.add({**value, "version": 1})
    assert shelf.add({"name": "x", "version": 1, "deleted": True})
    assert shelf.get("x") is None and shelf.newest() == []
    assert shelf.next_version("x") == 2


def test_what_has_no_number_yet_is_the_newest_until_the_ledger_has_given_it_one() -> None:
    shelf = Shelf()
    mine, other = ({"name": "x", "sha256": one, "size": 1, "tags": {}} for one in "ab")
    assert shelf.add({**mine, "version": 0})
    put = shelf.same("x", "a", {})
    assert put is not None and put["version"] == 0
    assert shelf.add({**other, "version": 1}) and shelf.get("x") is put
    assert shelf.add({**mine, "version": 2}) and put["version"] == 2
    assert shelf.get("x") is put is shelf.get("x", 2)
    found = shelf.get("x", 1)
    assert found is not None and found["sha256"] == "b"
    assert not shelf.add({**mine, "version": 2})
    assert shelf.add({**other, "version": 0}) and shelf.add(
        {"name": "x", "version": 0, "deleted": True}
    )
    assert shelf.get("x") is None and shelf.get("x", 1) is None
    assert shelf.add({**other, "version": 3}) and shelf.get("x") is None


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("stage", True), ("!stage", False), ("stage=live", True), ("stage!=live", False),
        ("stage=live,!old", True), ("stage=live,old", False), ("old!=x", True), ("none=", False),
    ],
)  # fmt: skip
def test_a_tag_expression_holds_or_not(text: str, holds: bool) -> None:
    assert Query(text).holds({"stage": "live", "who": "me"}) is holds


@pytest.mark.parametrize("text", ["", ",", "a b", "=x", "a,,b", "-a"])
def test_what_is_no_tag_expression_gets_a_sentence(text: str) -> None:
    with pytest.raises(Wrong, match="is no term"):
        Query(text)


def test_tags_are_read_as_people_write_them() -> None:
    assert read_tags(["a=b, c=", "d"]) == {"a": "b", "c": "", "d": ""}


def test_a_stopped_runtime_is_waited_for(manager: Manager) -> None:
    door = Door(manager, "patient")
    os.kill(manager.pid, signal.SIGSTOP)
    try:
        client = door.begin("list")
    finally:
        os.kill(manager.pid, signal.SIGCONT)
    assert answer_of(client)["ok"]
    door.end()
