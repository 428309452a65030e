"""The ledger as tables and as files: what is exported is what the ledger says."""

import hashlib
import subprocess
from pathlib import Path

import duckdb
import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.errors import FleetError
from codewhale_fleet.ledger.analytics import FORMATS, SUMS, VIEWS, QueryError, export, query
from codewhale_fleet.ledger.store import Ledger

RUN = "night-aaaaaa"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A run of two tasks: one passes at once, one fails, is tried again and is lost."""
    ledger = Ledger.open(tmp_path / ".fleet", create=True)
    tasks = (b'{"id":"a","command":["true"]}', b'{"id":"b\'s","command":["false"]}')
    created = e.RunCreated(
        name="night", digest="", max_workers=2, workspace="/w", labels={"k": "v"}
    )
    with ledger.transaction("cli:user") as step:
        step.submit(c.CreateRun(run=RUN, created=created))
        step.submit(c.AddTasks(run=RUN, tasks=tasks))
        step.submit(c.StartRun(run=RUN, count=2))
        passed = e.Receipt(result="pass", scorer="exit_code")
        failed = e.Receipt(result="fail", source="task", scorer="exit_code", reason="exit 1")
        kept = [
            e.Artifact(kind="report", path="out/r.md", sha256="ab", mime="text/markdown", size=3)
        ]
        _attempt(step, "a@1", 1, passed, exit=0, cpu=0.5, rss_kb=9000, artifacts=kept)
        _attempt(step, "b's@1", 2, failed, exit=1, retry_after=0.0)
        _dispatch(step, "b's@2")
        lost = e.Receipt(result="fail", source="transport", reason="the host is gone")
        step.record(e.AttemptLost(attempt=f"{RUN}/b's@2", why="boot", receipt=lost), RUN, "")
        asked = e.QuestionAsked(attempt=f"{RUN}/a@1", worker="w", src=("rt", 3), text="Which?")
        step.record(asked, RUN, "")
        step.record(e.QuestionAnswered(attempt=f"{RUN}/a@1", answer="this"), RUN, "")
        step.record(e.DataPut(name="x", version=1, sha256="ab", size=2, tags={"k": "v"}), RUN, "")
        step.record(e.WorkerDraining(worker="web-2", reason="new disk"), "", "")
    ledger.sync()
    return ledger


def _dispatch(step: object, name: str) -> None:
    placed = e.AttemptDispatched(attempt=f"{RUN}/{name}", worker=f"{RUN}-local-1", boot="b")
    step.record(placed, RUN, "")  # type: ignore[attr-defined]


def _attempt(step: object, name: str, number: int, receipt: e.Receipt, **fields: object) -> None:
    _dispatch(step, name)
    ended = e.AttemptEnded(
        attempt=f"{RUN}/{name}", worker=f"{RUN}-local-1", src=("rt", number), seconds=1.5,
        receipt=receipt, **fields,  # type: ignore[arg-type]
    )  # fmt: skip
    step.record(ended, RUN, "")  # type: ignore[attr-defined]


def test_every_record_is_in_the_table_of_records(ledger: Ledger) -> None:
    columns, rows = query(ledger, "SELECT * FROM records")
    assert columns == ["seq", "ts", "word", "version", "run", "by", "id", "payload"]
    assert [row[0] for row in rows] == list(range(1, ledger.seq + 1))
    assert [row[2] for row in rows] == [head.k for head, _ in ledger.records()]


def test_runs_tasks_attempts_receipts_and_artifacts_say_what_happened(ledger: Ledger) -> None:
    assert query(ledger, "SELECT run, status, tasks, labels->>'k' FROM runs")[1] == [
        (RUN, "open", 2, "v")
    ]
    assert query(ledger, "SELECT task FROM tasks ORDER BY task")[1] == [("a",), ("b's",)]
    attempts = "SELECT task, number, exit, exit_unknown, result, source FROM attempts"
    assert query(ledger, attempts)[1] == [
        ("a", 1, 0, False, "pass", None),
        ("b's", 1, 1, False, "fail", "task"),
        ("b's", 2, None, True, "fail", "transport"),
    ]
    deciding = "SELECT attempt FROM receipts WHERE deciding"
    assert query(ledger, deciding)[1] == [(f"{RUN}/a@1",), (f"{RUN}/b's@2",)]
    assert query(ledger, "SELECT kind, path, size FROM artifacts")[1] == [("report", "out/r.md", 3)]


def test_workers_say_what_happened_to_them_and_attempts_where_they_were(ledger: Ledger) -> None:
    facts = e.WorkerEnrolled(worker="web-1", slots=1, host="h", boot="b", cores=4, gpus=1)
    with ledger.transaction("test") as transaction:
        transaction.submit(c.EnrolWorker(enrolled=facts))
        transaction.submit(c.ReportUnreachable(worker="web-1", why="no route"))
    ledger.sync()
    _, rows = query(ledger, "SELECT word, worker, host, cores, gpus, reason FROM workers")
    assert rows == [
        ("worker.draining", "web-2", None, None, None, "new disk"),
        ("worker.enrolled", "web-1", "h", 4, 1, None),
        ("worker.unreachable", "web-1", None, None, None, "no route"),
    ]
    _, places = query(ledger, "SELECT DISTINCT place FROM attempts")
    assert places == [("local",)]


def test_questions_and_data_say_who_answered_and_what_was_put(ledger: Ledger) -> None:
    asked = 'SELECT attempt, number, question, answer, "by" FROM questions'
    assert query(ledger, asked)[1] == [(f"{RUN}/a@1", 1, "Which?", "this", "cli:user")]
    put = "SELECT name, version, deleted, size, tags->>'k' FROM data"
    assert query(ledger, put)[1] == [("x", 1, False, 2, "v")]


def test_a_torn_last_line_is_not_there_yet(ledger: Ledger) -> None:
    with (ledger.dir / "fleet.jsonl").open("ab") as file:
        file.write(b'{"k":"run.paused","seq":99,"ts":"2026')
    assert query(ledger, "SELECT max(seq) FROM records")[1] == [(ledger.seq,)]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY (SELECT 1) TO 'stolen.csv'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "ATTACH 'other.duckdb'",
    ],
)
def test_a_query_reaches_nothing_but_the_ledger(
    ledger: Ledger, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(QueryError):
        query(ledger, text)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_wrong_query_is_told_with_its_place_and_the_tables(ledger: Ledger) -> None:
    with pytest.raises(QueryError, match='"nope"') as refused:
        query(ledger, "SELECT nope FROM runs")
    assert "attempts" in refused.value.hint


@pytest.mark.parametrize("text", ["", " ; ", "-- nothing"])
def test_an_empty_query_is_refused(ledger: Ledger, text: str) -> None:
    with pytest.raises(QueryError):
        query(ledger, text)


def test_exported_lines_are_the_ledgers_own(ledger: Ledger, tmp_path: Path) -> None:
    done = export(ledger, tmp_path / "all.jsonl", "jsonl")
    data = (tmp_path / "all.jsonl").read_bytes()
    assert data == (ledger.dir / "fleet.jsonl").read_bytes()
    assert done.sha256 == {"all.jsonl": hashlib.sha256(data).hexdigest()}
    assert done.records == ledger.seq
    assert data.endswith(b'"c":"%b"}\n' % done.chain.encode())
    assert (tmp_path / "all.jsonl").stat().st_mode & 0o777 == 0o600


def test_parquet_and_duckdb_hold_the_same_rows_as_the_views(ledger: Ledger, tmp_path: Path) -> None:
    export(ledger, tmp_path / "tables", "parquet")
    export(ledger, tmp_path / "tables.duckdb", "duckdb")
    with duckdb.connect(str(tmp_path / "tables.duckdb"), read_only=True) as database:
        for name in VIEWS:
            _, rows = query(ledger, f"SELECT * FROM {name}")
            assert rows, name
            parquet = duckdb.sql(f"SELECT * FROM '{tmp_path}/tables/{name}.parquet'").fetchall()
            kept = database.execute(f"SELECT * FROM {name}").fetchall()
            assert parquet == kept == rows, name


@pytest.mark.parametrize("kind", FORMATS)
def test_a_signed_export_is_proved_by_ssh_keygen_and_an_edited_one_is_not(
    ledger: Ledger, tmp_path: Path, kind: str
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    done = export(ledger, tmp_path / "out", kind, key=key)
    signed = Path(done.signature).with_suffix("")
    assert signed == (tmp_path / "out" / SUMS if kind == "parquet" else tmp_path / "out")
    public = (tmp_path / "key.pub").read_text()
    (tmp_path / "signers").write_text(f"me {public}")
    argv = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "signers", "-I", "me"]
    argv += ["-n", "fleet-ledger", "-s", done.signature]
    data = signed.read_bytes()
    assert subprocess.run(argv, input=data, capture_output=True, check=False).returncode == 0
    assert subprocess.run(argv, input=data[:-1], capture_output=True, check=False).returncode != 0


def test_an_export_never_overwrites_and_leaves_nothing_half_done(
    ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(FleetError, match="exists already"):
        export(ledger, tmp_path / "there", "jsonl")
    assert (tmp_path / "there").read_text() == "mine"
    with pytest.raises(FleetError, match="no key file"):
        export(ledger, tmp_path / "new", "jsonl", key=tmp_path / "nokey")
    with pytest.raises(OSError):
        export(ledger, tmp_path / "nowhere" / "new", "jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".fleet", "there"]
