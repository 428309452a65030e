import json
import re
import subprocess
import time
from pathlib import Path
from threading import Thread

import msgspec

from codewhale_fleet.cli.status import ASK_SECONDS, KEY, draw, kept_answer
from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.ledger.cache import TURN, Turn, now, write_cached

from .driver import FLEET, environment
from .scene import RUN, WAITS, Scene, the_usual


def test_an_empty_fleet_says_how_to_begin(scene: Scene) -> None:
    assert scene.fleet("status").out == "No run here yet.\n\nTo begin: fleet run SPEC\n"


def test_runs_counts_and_what_needs_a_person_are_shown(scene: Scene) -> None:
    the_usual(scene)
    told = scene.fleet("status")
    assert re.sub(r"[\d.]+ (ms|s) ago", "1 s ago", told.out) == (
        "demo-abc234  finished  1 s ago  3/3  failed 1 · waits 1\n"
        "\n"
        "queued 0 · running 0 · completed 1 · partial 1 · failed 1 · restarted 0 · escalated 1"
        " · cancelled 0 · stale 0\n"
        "failures: transport 0 · task 1 · verifier 0 · budget 0 · policy 0 · human 0\n"
        "\n"
        "1 needs you: fleet verify demo-abc234/review@1 --pass   waits for a person\n"
    )
    assert told.code == 0


def test_a_run_that_nobody_manages_is_said_to_be_left_alone(scene: Scene) -> None:
    scene.run("a", "b")
    scene.ended(scene.place("a"), WAITS)
    manager = e.ManagerElected(epoch=1, pid=1, host="h", boot="b", version="1", device=1, inode=1)
    scene.ask(c.Elect(elected=manager))
    lines = scene.fleet("status").out.splitlines()
    assert re.match(r"demo-abc234  left alone  [\d.]+ m?s +1/2  waits 1  no manager", lines[0])
    assert lines[-3:] == [
        "2 need you:",
        "  fleet resume demo-abc234             is open, and nobody manages it",
        "  fleet verify demo-abc234/a@1 --pass  waits for a person",
    ]
    one = scene.fleet("status", "@last", "--json").json
    assert [need["id"] for need in one["needs"]] == [RUN, f"{RUN}/a"]


def test_the_answer_in_json_is_the_one_that_is_drawn(scene: Scene) -> None:
    the_usual(scene)
    answer = scene.fleet("status", "--json").json
    assert answer["counts"]["failed"] == 1
    assert answer["runs"][0]["run"] == RUN
    assert draw(answer, 2e9).text().startswith("demo-abc234  finished")


def test_a_kept_answer_is_the_answer_byte_for_byte(scene: Scene) -> None:
    the_usual(scene)
    fresh = scene.fleet("status", "--json").out
    directory = str(scene.root / ".fleet")
    assert kept_answer(directory) == fresh.encode()
    assert scene.fleet("status", "--json").out == fresh
    scene.run("x", name="next-aaaaaa")
    assert kept_answer(directory) is None
    assert scene.fleet("status", "--json").json["counts"]["runs"] == 2


def test_a_kept_answer_does_not_outlive_what_it_says_of_the_manager(scene: Scene) -> None:
    from codewhale_fleet.engine.sockets import listen

    scene.run("a")
    manager = e.ManagerElected(epoch=1, pid=1, host="h", boot="b", version="1", device=1, inode=1)
    scene.ask(c.Elect(elected=manager))
    assert scene.fleet("status", "--json").json["manager"]["state"] == "dead"
    server = listen(scene.ledger.dir / "manager.sock")
    assert scene.fleet("status", "--json").json["manager"]["state"] == "alive"
    assert kept_answer(str(scene.ledger.dir)) is not None
    server.close()
    assert scene.fleet("status", "--json").json["manager"]["state"] == "dead"


def test_a_manager_that_answered_is_asked_again_soon_though_nothing_was_recorded(
    scene: Scene,
) -> None:
    """One that was stopped since records nothing, so the ledger alone would never tell."""
    from codewhale_fleet.engine.sockets import listen

    scene.ledger.clock = lambda: 1_000_000_000.0
    scene.run("a")
    manager = e.ManagerElected(epoch=1, pid=1, host="h", boot="b", version="1", device=1, inode=1)
    scene.ask(c.Elect(elected=manager))
    with listen(scene.ledger.dir / "manager.sock") as server:
        server.setblocking(True)

        def answer() -> None:
            while True:
                caller, _ = server.accept()
                with caller:
                    asked = caller.recv(64)  # empty: somebody only looked whether it is there
                    if asked:
                        caller.sendall(asked)
                        return

        lives = Thread(target=answer)
        lives.start()
        assert scene.fleet("status", "--json").json["manager"]["state"] == "alive"
        lives.join()
        _, head, _ = (scene.root / ".fleet" / "cache" / "status.json").read_bytes().split(b"\n", 2)
        assert float(head.split()[0]) <= time.time() + ASK_SECONDS


def test_a_kept_answer_ends_when_an_attempt_becomes_stale(scene: Scene) -> None:
    scene.ledger.clock = lambda: 1_000_000_000.0
    scene.run("a")
    scene.place("a")
    assert scene.fleet("status", "--json").json["counts"]["stale"] == 1
    kept = (scene.root / ".fleet" / "cache" / "status.json").read_bytes()
    head, until, rest = kept.split(b"\n", 2)
    assert float(until.split()[0]) == 1e18
    (scene.root / ".fleet" / "cache" / "status.json").write_bytes(
        head + b"\n" + b"x" * len(until) + b"\n" + rest
    )
    assert kept_answer(str(scene.ledger.dir)) is None


def test_a_damaged_cache_changes_nothing(scene: Scene) -> None:
    the_usual(scene)
    fresh = scene.fleet("status", "--json").out
    cache = scene.root / ".fleet" / "cache" / "status.json"
    for damage in (b"", b"\x00" * 50, cache.read_bytes()[:-20]):
        cache.write_bytes(damage)
        assert scene.fleet("status", "--json").out == fresh


def test_one_run_is_counted_alone(scene: Scene) -> None:
    scene.run("x", name="other-aaaaaa")
    the_usual(scene)
    answer = scene.fleet("status", "demo", "--json").json
    assert answer["counts"]["runs"] == 1
    assert answer["counts"]["queued"] == 0
    assert [need["id"] for need in answer["needs"]] == [f"{RUN}/review"]


def test_a_watched_run_is_shown_until_it_ends(scene: Scene) -> None:
    scene.run("a")
    process = subprocess.Popen(
        [*FLEET, "status", "@last", "--watch", "--json"],
        cwd=scene.root, env=environment(), stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    first = msgspec.json.decode(process.stdout.readline())
    assert first["counts"]["queued"] == 1
    scene.ended(scene.place("a"))
    scene.finish()
    out, _ = process.communicate(timeout=20)
    last = json.loads(out.splitlines()[-1])
    assert (last["counts"]["completed"], last["runs"][0]["status"]) == (1, "finished")
    assert process.returncode == 0


def test_on_a_terminal_ids_are_never_cut(scene: Scene, tmp_path: Path) -> None:
    name = "a-very-long-name-of-a-run-that-fills-the-line-abc234"
    scene.run("a", name=name)
    env = {**environment(TERM="xterm"), "COLUMNS": "40"}
    out = subprocess.run(
        ["script", "-qec", " ".join([*FLEET, "status"]), "/dev/null"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert name in out


def test_a_watched_page_names_as_many_runs_as_there_is_room_for(scene: Scene) -> None:
    for number in range(4):
        name = f"demo-abc23{number}"
        scene.run("a", name=name)
        scene.ended(scene.place("a", run=name))
        scene.finish(name)
    answer = scene.fleet("status", "--json").json
    page = draw(answer, time.time(), 2).text()
    assert page.count(" finished ") == 2
    assert "and 2 older: fleet status RUN" in page


def test_who_waited_for_another_status_shows_what_that_one_found(scene: Scene) -> None:
    the_usual(scene)
    turn = Turn(str(scene.ledger.dir))
    assert not turn.take()
    waiter = subprocess.Popen(
        [*FLEET, "status", "--json"], cwd=scene.root, env=environment(), stdout=subprocess.PIPE
    )
    waits = re.compile(rf"-> FLOCK .*:{(scene.ledger.dir / TURN).stat().st_ino} ")
    while not waits.search(Path("/proc/locks").read_text()):
        assert waiter.poll() is None
    kept = b'{"found":"by another"}\n'
    write_cached(scene.ledger.dir, KEY, b"0.0 -\n" + kept, "another-ledger", now())
    turn.done()
    assert waiter.communicate(timeout=60)[0] == kept
    assert scene.fleet("status", "--json").json["runs"][0]["run"] == RUN
