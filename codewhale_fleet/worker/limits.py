"""Every limit of the worker runtime, by name and unit, in one place.

Promises nothing by itself: each figure is enforced where it is imported. It knows no module of
the worker, so that any of them may import it.
"""

from __future__ import annotations

LINE_BYTES = 64 * 1024 * 1024
"""Longest message accepted; a longer one closes its connection."""

READ_BYTES = 256 * 1024
"""Bytes asked for in one read of a connection."""

READS_A_WAKE = 16
"""Reads of one connection before the others have their turn."""

UNSENT_BYTES = 8 * 1024 * 1024
"""What may wait for a peer that does not read; then it is closed and comes back by cursor."""

CONNECTIONS = 64
"""Peers at a time; one more is closed at once."""

STARTED_AFTER = 1.0
"""Seconds that an attempt outlives before `started` is worth a fact."""

LOG_FAST = 0.05
"""Seconds between two looks at a log that grows fast (and before the first look)."""

LOG_SLOW = 1.0
"""Seconds between two looks at a log that does not."""

LOG_LIMIT = 8 * 1024 * 1024
"""Bytes kept of a stream where the plan names no limit."""

GRACE = 10.0
"""Seconds between INT, TERM and KILL where the plan names none."""

NOTE_SECONDS = 1.0
"""How long the keeper may take to note an end that the runtime has seen, too."""

SWEEP_SECONDS = 5.0
"""How long an end waits for killed stragglers to be gone (a process may hang in the kernel)."""

ARTIFACT_FILES = 1000
"""Files that one attempt may offer as artifacts."""

ARTIFACT_BYTES = 1024 * 1024 * 1024
"""Bytes of all artifacts of one attempt."""

ARTIFACT_DEPTH = 100
"""Directories in each other that a pattern is followed into."""
ARTIFACT_ERRORS = 20
"""Sentences about artifacts that were not taken, for one attempt."""

EVIDENCE_BYTES = 1_000_000
"""Cap of one evidence file where the plan names none."""

CHUNK_BYTES = 1024 * 1024
"""Bytes hashed or copied before other work has its turn."""

JOURNAL_BYTES = 8 * 1024 * 1024
"""Growth of the journal after which it is compacted."""

VALUES_BYTES = 32 * 1024 * 1024
"""Size of the memory file of run values after which replaced ones are dropped."""

RUNS = 1000
"""Runs whose values are kept; beyond that, idle ones go, the first heard of first."""

ERRORS_BYTES = 256 * 1024
"""Size of runtime.err above which a new runtime starts it afresh."""

IDLE_SECONDS = 60.0
"""Idle time without a connection after which the runtime leaves."""

RESTS_UNHEARD = 10
"""Idle times in a row after which facts that nobody came for do not keep a runtime alive."""

STALL_LOOKS = 8
"""Looks at a silent attempt within its `stall_seconds`: it is noticed at most an eighth late."""

STALL_FAST = 0.1
"""Fewest seconds between two looks at what an attempt does."""

STALL_SLOW = 30.0
"""Most seconds between two looks at what an attempt does."""

STALL_CPU_SECONDS = 0.02
"""Processor time between two looks that counts as work: two ticks of the kernel's clock."""

STALL_CPU_SHARE = 0.005
"""Share of one core below which an attempt is silent: a program that only waits wakes, too."""

STALL_SCAN = 0.05
"""Seconds for which one look at all processes serves everybody who asks."""

OOM_LOOK = 1.0
"""Seconds between two readings of the memory killer's counters while attempts run."""

OOM_SECONDS = 10.0
"""How long before its end a killed process may have been chosen: its memory goes first."""

PROGRESS_SECONDS = 10.0
"""Fewest seconds between two facts about what an agent says, but for what is told at once."""

CAP_LOOK = 0.25
"""Most seconds between two looks at what an agent with a cap says."""

ASKED = ("interrupted", "stopped")
"""Reasons of ends that a manager asked for."""

STEP_STREAM_BYTES = 32 * 1024
"""Bytes of each of an attempt's streams, half of them from its end, that a verifier is shown."""

STEP_ARTIFACT_BYTES = 32 * 1024
"""Bytes of one text artifact, or patch, that a verifier is shown."""

STEP_SHOWN_BYTES = 256 * 1024
"""Bytes of all artifacts together that a verifier is shown."""

STEP_LISTED = 200
"""Artifacts that a verifier is told of."""

ANSWER_BYTES = 64 * 1024
"""Bytes kept of what a step answered: the end of it."""

LAST_WORDS_BYTES = 2 * 1024
"""Bytes kept of the end of each stream of a command that verified, and failed without a verdict."""

PATCH_BYTES = 64 * 1024 * 1024
"""Longest patch that is kept as an artifact; a longer one stays with its directory."""

PATCHED_FILE_BYTES = 1024 * 1024 * 1024
"""Largest file whose change is looked for; a larger one, be it a hole, stays with its directory."""

WORKSPACE_SECONDS = 900.0
"""How long it may take to make an attempt's patch, or to remove its directory."""

SPARE_FDS = 96
"""Descriptors kept free for everything but running attempts (one pidfd each)."""

ASK_LINE_BYTES = 2 * 1024 * 1024
"""Longest request of a task; a longer one ends its connection."""

ASK_CONNECTIONS = 512
"""Connections of tasks at a time."""

ASKS_WAITING = 64
"""Requests of one attempt that may be open at a time."""

ASKS = 100_000
"""Requests of one attempt in all."""

OWN_FACTS = 1_000
"""Facts of one attempt about itself that stand in the ledger: questions, data, progress."""

OWN_ARTIFACTS = 1_000
"""Artifacts that one attempt may add."""

DATA_BYTES = 1024 * 1024
"""One value."""

DATA_ATTEMPT_BYTES = 256 * 1024 * 1024
"""All values that one attempt puts."""

DATA_NAMES = 10_000
"""Names of data of one run."""

NUMBER_SECONDS = 2.0
"""How long whoever has put a value waits for the number that the ledger gives it."""

CHECKPOINT_BYTES = 16 * 1024 * 1024
"""A checkpoint."""

QUESTION_CHARACTERS = 2_000
"""A question, or an answer."""

SANDBOX_TMP_BYTES = 1024 * 1024 * 1024
"""What each of the directories in memory of a sandbox may hold: /tmp, /run, a hidden home."""

SANDBOX_PROCESSES = 4096
"""Processes and threads of the confined attempts of one runtime together, where cgroups allow."""

SANDBOX_WAIT_SECONDS = 0.001
"""How long the loop waits at once for the first process of a sandbox that has nothing left."""
