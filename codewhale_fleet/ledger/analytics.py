"""The ledger as SQL tables, and as files for other tools; DuckDB reads its lines itself.

`tables` opens a DuckDB in memory with one view a question: records, runs, tasks, attempts,
receipts, artifacts, questions, data. It reads what the given ledger covers and nothing else: no
other file, no network, no extension. `export` writes the same tables, or the lines as they are. The
ledger is not changed, and nobody is locked out meanwhile.
"""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from ..errors import FleetError, to_install
from .reader import Reader

if TYPE_CHECKING:
    import duckdb

FORMATS = ("jsonl", "parquet", "duckdb")
NAMESPACE = "fleet-ledger"
"""What a signature is for; `ssh-keygen -Y verify` must be told the same."""
SUMS = "SHA256SUMS"
_BLOCK = 1 << 20

VIEWS = {
    "records": """
        SELECT seq, ts, k AS word, v AS version, run, "by", id, d AS payload
        FROM lines WHERE seq <= {seq}
            AND NOT (k = 'ledger.compacted' AND (d->>'sha256') IS NULL) ORDER BY seq""",
    "runs": """
        SELECT created.run, created.payload->>'name' AS name,
            coalesce(finished.payload->>'status', 'open') AS status,
            created.ts AS created, started.ts AS started, finished.ts AS finished,
            CAST(finished.payload->>'seconds' AS DOUBLE) AS seconds,
            CAST(started.payload->>'count' AS BIGINT) AS tasks,
            CAST(created.payload->>'max_workers' AS BIGINT) AS max_workers,
            created.payload->>'workspace' AS workspace, created.payload->'labels' AS labels
        FROM records AS created
        LEFT JOIN (SELECT run, arg_max(ts, seq) AS ts, arg_max(payload, seq) AS payload
            FROM records WHERE word = 'run.started' GROUP BY run) AS started USING (run)
        LEFT JOIN (SELECT run, arg_max(ts, seq) AS ts, arg_max(payload, seq) AS payload
            FROM records WHERE word = 'run.finished' GROUP BY run) AS finished USING (run)
        WHERE created.word = 'run.created' ORDER BY created.seq""",
    "tasks": """
        SELECT DISTINCT ON (run, task) seq, run, task, name, spec FROM (
            SELECT seq, run, spec->>'id' AS task, spec->>'name' AS name, spec
            FROM (SELECT seq, run, unnest(CAST(payload->'tasks' AS JSON[])) AS spec
                FROM records WHERE word = 'tasks.added')
            UNION ALL SELECT seq, run, task->>'id', task->'spec'->>'name', task->'spec'
            FROM summaries)
        ORDER BY run, task, seq""",
    "attempts": """
        SELECT given.attempt, given.run, given.task, given.number, given.worker,
            regexp_extract(substr(given.worker, length(given.run) + 2), '^(.*)-[0-9]+$', 1)
                AS place,
            given.ts AS dispatched, ended.ts AS ended,
            CAST(ended.payload->>'seconds' AS DOUBLE) AS seconds,
            CAST(ended.payload->>'exit' AS INTEGER) AS exit,
            CAST(ended.payload->>'signal' AS INTEGER) AS signal,
            coalesce(CAST(ended.payload->>'unknown' AS BOOLEAN), ended.word = 'attempt.lost')
                AS exit_unknown,
            ended.payload->>'unstarted' AS unstarted, ended.payload->>'why' AS why,
            CAST(ended.payload->>'cpu' AS DOUBLE) AS cpu_seconds,
            CAST(ended.payload->>'rss_kb' AS BIGINT) AS peak_kb,
            CAST(ended.payload->>'stragglers' AS INTEGER) AS stragglers,
            CAST(ended.payload->>'retry_after' AS DOUBLE) AS retry_after,
            ended.payload->'receipt'->>'result' AS result,
            ended.payload->'receipt'->>'source' AS source,
            ended.payload->'receipt'->>'reason' AS reason
        FROM (SELECT ts, run, seq, payload->>'attempt' AS attempt, payload->>'worker' AS worker,
                regexp_extract(payload->>'attempt', '^[^/]+/(.*)@[0-9]+$', 1) AS task,
                CAST(regexp_extract(payload->>'attempt', '@([0-9]+)$', 1) AS INTEGER) AS number
            FROM records WHERE word = 'attempt.dispatched'
            UNION ALL SELECT NULL, run, min(seq), attempt, min(worker), task, number
            FROM endings ANTI JOIN (SELECT payload->>'attempt' AS attempt FROM records
                WHERE word = 'attempt.dispatched') USING (attempt)
            GROUP BY run, attempt, task, number) AS given
        LEFT JOIN (SELECT attempt, arg_min(word, seq) AS word,
                arg_min(ts, seq) AS ts, arg_min(payload, seq) AS payload
            FROM endings GROUP BY attempt) AS ended USING (attempt)
        ORDER BY given.seq""",
    "receipts": """
        SELECT DISTINCT ON (seq, attempt) seq, ts, run, attempt,
            payload->'receipt'->>'result' AS result, payload->'receipt'->>'source' AS source,
            payload->'receipt'->>'scorer' AS scorer, payload->'receipt'->>'reason' AS reason,
            deciding, "by"
        FROM (SELECT seq, ts, run, attempt, payload, 'manager' AS "by",
                (payload->>'retry_after') IS NULL
                    AND attempt NOT IN (SELECT attempt FROM verdicts) AS deciding FROM endings
            UNION ALL SELECT seq, ts, run, attempt, payload, "by", true FROM verdicts)
        ORDER BY seq, attempt""",
    "artifacts": """
        SELECT seq, run, attempt, file->>'kind' AS kind, file->>'path' AS path,
            file->>'sha256' AS sha256, file->>'mime' AS mime, CAST(file->>'size' AS BIGINT) AS size
        FROM (SELECT DISTINCT seq, run, attempt,
                unnest(CAST(payload->'artifacts' AS JSON[])) AS file FROM endings)""",
    "questions": """
        SELECT asked.seq, asked.ts AS asked, asked.run, asked.payload->>'attempt' AS attempt,
            coalesce(CAST(asked.payload->>'number' AS INTEGER), 1) AS number,
            asked.payload->>'text' AS question, asked.payload->'choices' AS choices,
            answered.ts AS answered, answered."by", answered.payload->>'answer' AS answer
        FROM records AS asked LEFT JOIN records AS answered
            ON answered.word = 'question.answered'
            AND answered.payload->>'attempt' = asked.payload->>'attempt'
            AND coalesce(answered.payload->>'number', '1')
                = coalesce(asked.payload->>'number', '1')
        WHERE asked.word = 'question.asked' ORDER BY asked.seq""",
    "data": """
        SELECT seq, ts, run, payload->>'name' AS name,
            CAST(payload->>'version' AS BIGINT) AS version, word = 'data.deleted' AS deleted,
            payload->>'sha256' AS sha256, CAST(payload->>'size' AS BIGINT) AS size,
            payload->'tags' AS tags, payload->>'attempt' AS attempt
        FROM records WHERE word IN ('data.put', 'data.deleted') ORDER BY seq""",
    "workers": """
        SELECT seq, ts, payload->>'worker' AS worker, word,
            coalesce(payload->>'why', payload->>'reason') AS reason,
            payload->>'host' AS host, payload->>'platform' AS platform,
            CAST(payload->>'cores' AS BIGINT) AS cores,
            CAST(payload->>'memory_mb' AS BIGINT) AS memory_mb,
            CAST(payload->>'gpus' AS BIGINT) AS gpus
        FROM records WHERE (payload->>'worker') IS NOT NULL AND word IN ('worker.enrolled',
            'worker.registered', 'worker.draining', 'worker.retired', 'worker.unreachable')
        ORDER BY seq""",
}
"""The tables by name, each as the query that makes it."""

INNER = {
    "summaries": """
        SELECT seq, run, unnest(CAST(payload->'tasks' AS JSON[])) AS task
        FROM records WHERE word = 'run.summarized'""",
    "endings": """
        SELECT CAST(one->>'seq' AS BIGINT) AS seq, CAST(one->>'at' AS TIMESTAMP) AS ts,
            CASE WHEN (one->>'lost') IS NULL THEN 'attempt.ended' ELSE 'attempt.lost' END AS word,
            run, task->>'id' AS task, CAST(one->>'number' AS INTEGER) AS number,
            run || '/' || (task->>'id') || '@' || (one->>'number') AS attempt,
            one->>'worker' AS worker, one AS payload
        FROM (SELECT run, task, unnest(CAST(task->'attempts' AS JSON[])) AS one FROM summaries
            WHERE (task->'attempts') IS NOT NULL)
        UNION ALL
        SELECT seq, ts, word, run,
            regexp_extract(payload->>'attempt', '^[^/]+/(.*)@[0-9]+$', 1),
            CAST(regexp_extract(payload->>'attempt', '@([0-9]+)$', 1) AS INTEGER),
            payload->>'attempt', payload->>'worker', payload
        FROM records WHERE word IN ('attempt.ended', 'attempt.lost')""",
    "verdicts": """
        SELECT CAST(one->>'seq' AS BIGINT) AS seq, CAST(one->>'at' AS TIMESTAMP) AS ts, run,
            attempt, one->>'by' AS "by", one AS payload
        FROM (SELECT run, attempt, unnest(CAST(payload->'verdicts' AS JSON[])) AS one FROM endings
            WHERE (payload->'verdicts') IS NOT NULL)
        UNION ALL
        SELECT seq, ts, run, payload->>'attempt', "by", payload
        FROM records WHERE word = 'receipt.recorded'""",
}
"""What those rest on: rows of runs that were compacted, the end of every attempt, and verdicts that
came after it."""

_COLUMNS = (
    "{k: 'VARCHAR', seq: 'BIGINT', ts: 'TIMESTAMP', v: 'INTEGER', run: 'VARCHAR', "
    "id: 'VARCHAR', \"by\": 'VARCHAR', d: 'JSON', c: 'VARCHAR'}"
)


class Exported(Struct, frozen=True):
    """What an export wrote: where, up to which record, the chain's value there, digests by file."""

    path: str
    format: str
    records: int
    chain: str
    sha256: dict[str, str]
    signature: str = ""


class QueryError(FleetError):
    """A query that DuckDB refused."""


def tables(ledger: Reader) -> "duckdb.DuckDBPyConnection":
    """A database in memory with the views over what `ledger` covers, closed to all else."""
    database = _connected(ledger)
    files = ", ".join(_quoted(str(path)) for path in _files(ledger))
    database.execute(f"SET allowed_paths = [{files}]")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")
    return database


def _connected(ledger: Reader) -> "duckdb.DuckDBPyConnection":
    try:
        import duckdb
    except ImportError as error:
        raise FleetError(
            "this needs DuckDB, which is not installed.",
            f"To install it: {to_install('analytics')}",
            code="missing_extra",
        ) from error
    database = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})
    files = ", ".join(_quoted(str(path)) for path in _files(ledger))
    database.execute(
        f"CREATE VIEW lines AS SELECT * FROM read_json([{files}], columns = {_COLUMNS}, "
        "format = 'newline_delimited', ignore_errors = true)"
    )
    records = {"records": VIEWS["records"]}
    for name, query in {**records, **INNER, **VIEWS}.items():
        database.execute(f"CREATE VIEW {name} AS {query.format(seq=ledger.seq)}")
    return database


def query(ledger: Reader, text: str) -> tuple[list[str], list[tuple[object, ...]]]:
    """Columns and rows of one SQL query; QueryError with DuckDB's own words where it is none."""
    database = tables(ledger)
    import duckdb

    try:
        answer = database.execute(text)
        if answer is None:
            raise QueryError(
                "the query is empty.", f"Tables: {', '.join(VIEWS)}.", code="bad_query"
            )
        columns = [column[0] for column in answer.description or ()]
        return columns, answer.fetchall()
    except duckdb.Error as error:
        lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
        raise QueryError(
            f"the query was refused: {lines[0]}",
            "\n".join([*lines[1:], f"Tables: {', '.join(VIEWS)}. DESCRIBE runs shows columns."]),
            code="bad_query",
        ) from error
    finally:
        database.close()


def export(ledger: Reader, target: Path, kind: str, *, key: Path | None = None) -> Exported:
    """Write everything that `ledger` covers to a new `target`: a file, for parquet a directory.

    With `key`, a private key of OpenSSH, what was written is signed. Raises FleetError where the
    target exists or cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise FleetError(
            f"{target} exists already.", "Nothing was written. Name another with --output."
        )
    if key is not None and not key.is_file():
        raise FleetError(f"{key} is no key file.", "To make one: ssh-keygen -t ed25519 -f KEY")
    fresh = target.with_name(f"{target.name}.unfinished")
    _remove(fresh)
    before = os.umask(0o077)  # specs may hold what only their owner should read
    try:
        if kind == "jsonl":
            _copy_lines(ledger, fresh)
        else:
            _write_tables(ledger, fresh, kind)
        sums = _digests(fresh, target)
        fresh.rename(target)
    except BaseException:
        _remove(fresh)
        raise
    finally:
        os.umask(before)
    signature = ""
    if key is not None:
        signature = _sign(target / SUMS if target.is_dir() else target, key)
    return Exported(str(target), kind, ledger.seq, f"{ledger._at.chain:08x}", sums, signature)


def _files(ledger: Reader) -> list[Path]:
    """The ledger's files in order, the active one last."""
    return [path for path, _ in ledger.files()]


def _copy_lines(ledger: Reader, fresh: Path) -> None:
    """Every line as it stands, sealed segments first, up to the last record that is covered."""
    with fresh.open("xb") as target:
        for path, size in ledger.files():
            left = size
            with path.open("rb") as source:
                while left > 0 and (block := source.read(min(_BLOCK, left))):
                    target.write(block)
                    left -= len(block)


def _write_tables(ledger: Reader, fresh: Path, kind: str) -> None:
    database = _connected(ledger)
    import duckdb

    try:
        if kind == "parquet":
            fresh.mkdir()
            for name in VIEWS:
                file = _quoted(str(fresh / f"{name}.parquet"))
                database.execute(f"COPY {name} TO {file} (FORMAT parquet, COMPRESSION zstd)")
        else:
            database.execute(f"ATTACH {_quoted(str(fresh))} AS kept")
            for name in VIEWS:
                database.execute(f"CREATE TABLE kept.{name} AS SELECT * FROM {name}")
            database.execute("DETACH kept")
    except duckdb.Error as error:
        raise FleetError(
            f"{fresh.parent} can't take the export: {str(error).splitlines()[0]}",
            "Nothing was kept of it. Make room, or name another place with --output.",
        ) from error
    finally:
        database.close()


def _digests(fresh: Path, target: Path) -> dict[str, str]:
    """SHA-256 by file name; in a directory they also stand in SHA256SUMS."""
    if fresh.is_file():
        return {target.name: _digest(fresh)}
    sums = {path.name: _digest(path) for path in sorted(fresh.iterdir())}
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (fresh / SUMS).write_text(text)
    return sums


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sign(path: Path, key: Path) -> str:
    """Sign a file as `ssh-keygen -Y` does; the signature's path."""
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(path)]
    try:
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError as error:
        raise FleetError(
            "ssh-keygen is not installed, so nothing was signed.",
            f"{path} was written. On Debian: apt-get install openssh-client",
        ) from error
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise FleetError(
            f"{path} was written, but not signed: {words[-1] if words else 'ssh-keygen failed'}",
            "Give a private key of OpenSSH whose passphrase ssh-agent knows.",
        )
    return f"{path}.sig"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            inner.unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    wal = path.with_name(f"{path.name}.wal")
    if os.path.lexists(wal):
        wal.unlink()


def _quoted(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"
