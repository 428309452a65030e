"""Reads a task spec: bytes of TOML or JSON in, checked tasks out, or every problem at once.

Promises that what comes back can be run as it stands, that each field in it is held or was waived
by name, and that a hundred thousand tasks load in well under a second without a Python object for
each. Tasks come back as sparse JSON, one object each, which is how the ledger keeps them.
Equal specs have equal digests, whether written in TOML or in JSON.

Knows nothing of file systems and runs.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from ..core.spec import Document, Task
from ..core.spec_hosts import SecurityPolicy, Worker
from ..core.tasks import decode_task as task_from_raw
from . import literals, validate
from .aliases import settle_document, settle_task
from .parse import Parsed, format_for, parse, plain, refuse
from .problems import STDIN, Format, Found, Path, Problem, SpecProblems, field_name, problems_text
from .repeats import may_repeat, repeats
from .settle import LoadedSpec, settled
from .unenforced import Waivers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..agents.definition import Agent
    from ..agents.roster import Roster
    from .agents import Agents
    from .placing import Places, Source
    from .secrets import Secrets
    from .trust import Trust, Trusted
    from .workers import Settled

__all__ = [
    "SIZE_LIMIT", "LoadedSpec", "Problem", "SpecProblems", "format_for", "load", "problems_text",
    "task_from_raw",
]  # fmt: skip

SIZE_LIMIT = 64 * 1024 * 1024
"""Bytes of a spec file."""
TASK_LIMIT = 240 * 1024
"""Bytes of one task as JSON: it must fit into one line of the ledger."""

Kind = TypeVar("Kind", Document, Task)

_encoder = msgspec.json.Encoder(order="deterministic")


def load(
    data: bytes,
    *,
    file: str,
    format: Format | None = None,
    waivers: Sequence[str] = (),
    roster: "Callable[[], Roster] | None" = None,
    trust: "Trust | None" = None,
    lacking: Callable[[], str] = str,
    placing: "Callable[[], Source] | None" = None,
    spread: bool = False,
    files: Callable[[Task], Iterable[Found]] | None = None,
) -> LoadedSpec:
    """Check a whole spec; SpecProblems with everything that is wrong with it.

    `waivers` are names of fields that may stay unheld; an unknown one is a FleetError. `roster`
    tells which agents there are, and is asked once there is a task for one; without it: presets.
    `trust` is what fleet.toml says of it. `lacking` tells why this machine cannot confine a task,
    with what to do behind a semicolon, and is asked once that matters; empty: it can. `placing`
    tells which workers there are, once that matters, and who was chosen; `spread`: somebody was.
    `files` tells what is wrong with the files that a task takes along.
    """
    allowed = Waivers((*waivers, *trust.waived) if trust is not None else waivers)
    if len(data) > SIZE_LIMIT:
        refuse(file, 0, f"is over the limit of {SIZE_LIMIT // 2**20} MiB", "split it into runs")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data or data.isspace():
        refuse(file, 1, "is empty", "a spec needs at least one task with an id and a command")
    format = format or format_for(file, data)
    loader = _Loader(data, file, format, allowed, parse(data, file, format), roster)
    loader.trust, loader.lacking = trust, lacking
    loader.placing, loader.spread = placing, spread
    loader.files = files
    return loader.load()


class _Loader:
    """One pass over one file."""

    def __init__(
        self,
        data: bytes,
        file: str,
        format: Format,
        waivers: Waivers,
        parsed: Parsed,
        roster: "Callable[[], Roster] | None",
    ) -> None:
        self.data = data
        self.file = file
        self.format: Format = format
        self.waivers = waivers
        self.parsed = parsed
        self.found = list(parsed.found)
        self.misshapen: set[Path] = set()
        """What is left out of a value because it is told already: no rule tells it again."""
        self.ids: dict[str, int] = {}
        self.environment: set[str] = set()
        self.roster = roster
        self._agents: Agents | None = None
        self._secrets: Secrets | None = None
        self.trust: Trust | None = None
        self.lacking: Callable[[], str] = str
        self.files: Callable[[Task], Iterable[Found]] | None = None
        self._trusted: Trusted | None = None
        self.placing: Callable[[], Source] | None = None
        self.spread = self.saw_plain = False
        self._places: Places | None = None
        self.own_policy: SecurityPolicy | None = None
        self.policy_fields: frozenset[str] = frozenset()
        self.policy_is_right = True
        self.plain_is_due = False
        """Under a policy the first plain task is looked at with care, for all of them."""
        self.hints = literals.hints(data)
        self.may_repeat = parsed.may_repeat
        """Some object of the text may hold a key twice."""
        self.watches_texts = bool(self.hints) or b"${{" in data

    def load(self) -> LoadedSpec:
        from hashlib import sha256

        document = self._document(self.parsed.head)
        digest = sha256(_encoder.encode(document))
        items = self.parsed.items
        tasks = []
        for index, item in enumerate(items):
            items[index] = None
            raw = self._task(index, item)
            digest.update(b"\n" + raw)
            tasks.append(raw)
        if document.budget is not None:
            self._add((), self.agents.run_problems(document.budget, self.waivers))
        if self._places is not None:
            self._add((), self._places.clashes())
            if self.saw_plain and not self._places.spread:
                self._places.keep_here()
        if self._agents is not None:
            self.environment |= self._agents.variables()
        if self._trusted is not None:
            self.environment |= self._trusted.variables
        again = self._repeated() if self.may_repeat else []
        if self.found or again:
            raise SpecProblems([*self._located(), *again])
        base = "" if self.file == STDIN else self.file.rsplit("/", 1)[-1]
        return LoadedSpec(
            file=self.file,
            name=document.name or base.rpartition(".")[0] or base or "fleet-run",
            labels=document.labels,
            max_workers=document.max_workers,
            max_failures=document.max_failures,
            tasks=tasks,
            spec=document,
            digest=digest.hexdigest(),
            waived=self.waivers.used,
            environment=sorted(self.environment),
            agents=self.agents.used if self._agents else {},
            secrets=self._secrets.names() if self._secrets else [],
            policy=self._trusted.policy_json if self._trusted else b"null",
            roles=self._trusted.roles.used if self._trusted else {},
            workers=self._places.used() if self._places else {},
            spread=self._places is not None and self._places.spread,
            places=self._places,
        )

    @property
    def agents(self) -> "Agents":
        """The agents that the spec uses; who reads it first pays for their modules."""
        if self._agents is None:
            from .agents import Agents

            self._agents = Agents(self.roster)
        return self._agents

    @property
    def secrets(self) -> "Secrets":
        """The secrets that the spec names."""
        if self._secrets is None:
            from .secrets import Secrets

            policy = self.trusted.policy if self.own_policy or self.trust else None
            self._secrets = Secrets(policy)
        return self._secrets

    def _may_leave(self, task: Task) -> bool:
        """Whether a task may leave this machine."""
        asks = task.requires is not None or (task.worker is not None and task.worker.name)
        return bool(asks) or (self._places is not None and self._places.spread)

    def _may_go(self, task: Task) -> Iterable[Found]:
        """Who may run a task that can leave this machine; a problem where nobody ever could."""
        if self._places is None and self._may_leave(task):
            self._begin_places([])
        if self._places is None:
            return ()
        level = self.trusted.level_of(task) if self._trusted is not None else "local"
        return self._places.problems(task, level)

    def _begin_places(self, written: Sequence[Worker]) -> None:
        from .placing import Places, Source

        policy = self.trusted.policy if self._trusted is not None else None
        source = self.placing() if self.placing is not None else Source()
        workers = {worker.id: worker for worker in written}
        self._places = Places(workers, source.chosen, source.fleet, policy)
        self.plain_is_due = self.plain_is_due or self._places.spread

    @property
    def trusted(self) -> "Trusted":
        """The policy and the roles of the spec; who asks first pays for their modules."""
        if self._trusted is None:
            from .trust import Trust, Trusted, narrowed, policy_problems

            trust = self.trust or Trust()
            policy, found = narrowed(self.own_policy, trust.policy, self.policy_fields)
            if self.own_policy is not None:
                found = [*policy_problems(self.own_policy), *found]
            self.policy_is_right = not found
            self._add((), found)
            self._trusted = Trusted(policy, trust, self.waivers, self.lacking)
        return self._trusted

    def _document(self, head: dict[str, Any]) -> Document:
        settled = None
        if "workers" in head or "worker_specs" in head:
            from . import workers

            settled = workers.settle(head.get("workers", head.get("worker_specs")))
            self._add((), settled.found)
            self.misshapen.update(one.path for one in settled.found)
        document = self._converted(head, Document, ())
        if document is None:
            return Document()
        self._add((), validate.document_problems(document))
        self._add((), self.waivers.of_document(document))
        self.own_policy = document.security_policy
        self.policy_fields = frozenset(head["security_policy"] if self.own_policy else ())
        if self.own_policy is not None or (self.trust is not None and self.trust.policy):
            self.plain_is_due = self.trusted.policy is not None
        if self.watches_texts:
            self._texts(_encoder.encode(document), document, ())
        if settled is not None and document.workers:
            document = self._with_workers(document, settled)
        elif self.spread:
            self._begin_places([])
        return document

    def _with_workers(self, document: Document, settled: "Settled") -> Document:
        """The document with every worker that its entries stand for."""
        from . import workers

        whole = list(workers.all_of(document.workers, settled))
        policy = self.trusted.policy if self._trusted is not None else None
        self._add((), workers.problems(whole, policy, self.waivers, files=True))
        self._begin_places([worker for _, worker in whole])
        return msgspec.structs.replace(document, workers=[worker for _, worker in whole])

    def _task(self, index: int, item: Any) -> bytes:
        """Check one task; its sparse JSON, or nothing of use once there are problems."""
        task: Task | None
        is_raw = type(item) is Raw
        try:
            task = task_from_raw(item) if is_raw else msgspec.convert(item, Task)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            tree = plain(item, self.data, self.file)
            task = self._converted(tree, Task, self.parsed.path_of(index))
        if task is None:
            return b""
        first = self.ids.setdefault(task.id, index)
        if first != index:
            other = (*self.parsed.path_of(first), "id")
            message = f'"{task.id}" is already the id of'
            self._add(self.parsed.path_of(index), [Found(("id",), message, also=other)])
        if not validate.is_plain_and_right(task):
            task = self._with_care(task, index)
        elif self.plain_is_due:
            self.plain_is_due = False
            task = self._with_care(task, index)
        else:
            self.saw_plain = True
        raw = _encoder.encode(task)
        if is_raw and may_repeat(text := bytes(memoryview(item)), raw):
            self.may_repeat = self.may_repeat or repeats(text)
        if self.watches_texts:
            self._texts(raw, task, self.parsed.path_of(index))
        if len(raw) > TASK_LIMIT:
            message = f"takes {len(raw):,} bytes as JSON; a task may take {TASK_LIMIT:,}"
            found = Found((), message, "put long texts into files")
            self._add(self.parsed.path_of(index), [found])
        return raw

    def _with_care(self, task: Task, index: int) -> Task:
        """Check everything about one task; the task in its settled form."""
        before = len(self.found)
        path = self.parsed.path_of(index)
        if task.worker is not None:
            task = self.trusted.roles.settled(task)
        if task.command is None:
            task = self.agents.settled(task)
            self._add(path, self.agents.problems(task, self.waivers))
        if task.worker is not None:
            self._add(path, self.trusted.problems(task))
        if task.scorer is not None or task.verify is not None:
            from ..core.tasks import judges_of
            from .verification import named, verifier_problems

            if judges_of(task):
                task = named(task, self.agents)
                self._add(path, verifier_problems(task, self.agents, self.waivers))
        if task.worker is not None and task.worker.capabilities and not self._may_leave(task):
            from .agents import capability_problems

            self._add(path, capability_problems(task.worker, self.agents.roster))
        if task.secrets or (self._agents is not None and self._agents.have_secrets):
            everything = self._trusted is not None and self._trusted.level_of(task) == "operator"
            found = self.secrets.of_task(task, self.agents, all_allowed=everything)
            self._add(path, found)
        self._add(path, validate.task_problems(task))
        self._add(path, self.waivers.of_task(task))
        self._add(path, self._may_go(task))
        confined = task.workspace is not None and task.workspace.writable_paths
        if task.worker is not None or confined or self._trusted is not None:
            agent = self.agents.use(task.agent) if task.agent is not None else None
            if len(self.found) == before and self.policy_is_right:
                self._add(path, self.trusted.held(task, agent, self._agent, self._places))
        if self.files is not None and len(self.found) == before:
            self._add(path, self.files(task))
        if task.workspace is not None and task.workspace.environment is not None:
            self.environment.update(task.workspace.environment.required)
            self.environment.update(task.workspace.environment.allowlist)
        return settled(task) if len(self.found) == before else task

    def _agent(self, name: str) -> "Agent | None":
        return self.agents.use(name)

    def _converted(self, tree: Any, kind: type[Kind], path: Path) -> Kind | None:
        """A struct from plain values, its aliases settled; what is wrong with them goes to found.

        Wrong parts are left out, so that the rules still see the rest; None if nothing is left.
        """
        if isinstance(tree, dict):
            settle = settle_document if kind is Document else settle_task
            self._add(path, settle(tree))
        try:
            return msgspec.convert(tree, kind)
        except (msgspec.ValidationError, RecursionError) as error:
            reason = str(error)
        from .mending import mended

        before = len(self.found)
        value = mended(tree, kind, path, reason, self.found)
        self.misshapen.update(one.path for one in self.found[before:])
        return value

    def _texts(self, raw: bytes, value: Struct, path: Path) -> None:
        """Look for secrets and unfilled `${{ … }}` in every string of a value."""
        text = raw.decode()
        if self.hints and literals.may_hold_secret(text, self.hints):
            for place in literals.secret_paths(msgspec.to_builtins(value), self.hints):
                message = "holds what is plainly a secret; specs are kept in the ledger"
                hint = 'keep it: fleet secret set KEY; and name it: secrets = ["KEY"]'
                self._add(path, [Found(place, message, hint)])
        if "${{" in text:
            for place in literals.paths_of(msgspec.to_builtins(value), lambda one: "${{" in one):
                found = self.waivers.refusal(place, "tasks.expressions")
                self._add(path, [found] if found else [])

    def _add(self, path: Path, found: Iterable[Found]) -> None:
        for one in found:
            whole = (*path, *one.path)
            if whole not in self.misshapen:
                self.found.append(Found(whole, one.message, one.hint, one.value, one.also))

    def _repeated(self) -> list[Problem]:
        """Keys that stand twice in one object, with lines."""
        from .locate import repeated

        return repeated(self.data.decode("utf-8", "replace"), self.file, self._name)

    def _located(self) -> list[Problem]:
        """Everything that was found, with lines."""
        from .locate import located

        text = self.data.decode("utf-8", "replace")
        return located(self.found, text, self.format, self.file, self._name)

    def _name(self, path: Path) -> str:
        is_list = not self.parsed.base and not self.parsed.is_bare
        return field_name(("tasks", *path) if is_list else path)
